"""One thread a matrix product, whatever else the process does with its BLAS.

Several segments side by side on as many threads are faster than one segment whose products are split: products this
small lose more by being split than by waiting their turn.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["one_thread", "one_thread_for_the_process"]

# What the BLAS libraries that NumPy's wheels are built with read when they are loaded; Accelerate, the last one, has no
# other switch. Not MKL's, which would also bind torch.
_VARIABLES = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_lock = threading.Lock()
_users = 0
_limits: Any = None
_controller: Any = None


def one_thread_for_the_process() -> None:
    """Let NumPy's BLAS start no threads that would never be used; for a command, before it imports NumPy.

    Not every BLAS heeds it (conda's is MKL), so that `one_thread` is needed all the same.
    """
    if "numpy" not in sys.modules:
        os.environ.update(dict.fromkeys(_VARIABLES, "1"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread a call for the time of a with block, in all threads; blocks may overlap."""
    global _users, _limits, _controller
    with _lock:
        if _users == 0:
            if _controller is None:
                from threadpoolctl import ThreadpoolController

                _controller = ThreadpoolController()
            _limits = _controller.limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.restore_original_limits()
