"""One thread for each matrix product, whatever else the process does with its BLAS: ours are too small to split."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# What the BLAS libraries of NumPy's wheels read when they are loaded; Accelerate, the last one, has no other switch.
# MKL's variable is left out, because it would restrict torch as well.
_VARIABLES = ("OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_lock = threading.Lock()
_users = 0
_threads_before: list[int] = []


def one_thread_for_the_process() -> None:
    """Keep NumPy's BLAS from starting threads that are not needed; called by a command before it imports NumPy."""
    if "numpy" not in sys.modules:
        os.environ.update(dict.fromkeys(_VARIABLES, "1"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread a call during a with block, in all threads; blocks may overlap.

    A limit that the program sets meanwhile is lost when the last block ends.
    """
    global _users
    with _lock:
        if _users == 0:
            _threads_before[:] = [library.num_threads for library in _blas()]
            _set_threads([1] * len(_threads_before))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set_threads(_threads_before)


@cache
def _blas() -> list[Any]:
    """The BLAS libraries of this process, as threadpoolctl's controllers."""
    from threadpoolctl import ThreadpoolController

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


def _set_threads(numbers: list[int]) -> None:
    for library, number in zip(_blas(), numbers, strict=True):
        # Since 3.7 only the thread that set the first limit may set another, and calls from others do nothing. Here one
        # thread makes a Tagger, and others use it.
        getattr(library, "_real_set_num_threads", library.set_num_threads)(number)
