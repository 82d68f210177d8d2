"""One thread a matrix product, in a process of its own: pytest's has its BLAS loaded."""

import subprocess
import sys


def test_a_blas_that_does_not_heed_the_environment_is_bound_all_the_same():
    script = """
import os
from samptag.engine import blas
before = dict(os.environ)
blas.one_thread_for_the_process()
os.environ.update({**dict.fromkeys(blas._VARIABLES, "3"), **before})  # as MKL, which reads other variables
import numpy
from threadpoolctl import threadpool_info
def threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
usual = threads()
with blas.one_thread():
    with blas.one_thread():
        pass
    assert set(threads()) <= {1}
assert threads() == usual
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_one_thread_may_make_what_another_uses():
    """threadpoolctl alone lets only the first thread that set a limit set another."""
    script = """
import os, threading
os.environ["OPENBLAS_NUM_THREADS"] = "3"
from samptag.engine import blas
import numpy
from threadpoolctl import threadpool_info
def threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
usual, seen = threads(), []
with blas.one_thread():
    pass
def use():
    with blas.one_thread():
        seen.extend(threads())
user = threading.Thread(target=use)
user.start()
user.join()
assert set(seen) <= {1}, seen
assert threads() == usual
"""
    subprocess.run([sys.executable, "-c", script], check=True)
