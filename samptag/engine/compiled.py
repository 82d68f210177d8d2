"""Compiled passes for long jobs, fetched by a thread while the first segments are computed without them."""

from __future__ import annotations

import logging
import threading

from samptag.engine import winograd
from samptag.files import cache_folder

__all__ = ["count"]

logger = logging.getLogger("samptag")

# numba and the kernels take 0.6 s of one core from the cache and 1.3 s the first time; they save a quarter of what a
# segment takes, some 7 ms. A job that has come this far has about as much left to save.
AFTER_SEGMENTS = 192

_lock = threading.Lock()
_seen = 0
_begun = False


def count(segments: int) -> None:
    """Take note of computed segments; once there are enough of them in this process, fetch the compiled passes."""
    global _seen, _begun
    with _lock:
        _seen += segments
        if _begun or _seen < AFTER_SEGMENTS:
            return
        _begun = True
    # A daemon: a command that is done must not wait for what it no longer needs.
    threading.Thread(target=fetch, name="samptag-compile", daemon=True).start()


def fetch() -> None:
    """Use the compiled passes from now on; without numba, or with one that fails, all stays as it is."""
    try:
        from samptag.engine.kernels import compile_passes

        winograd.use(compile_passes(str(cache_folder("numba"))))
    except Exception as error:
        logger.debug("no compiled passes: %s: %s", type(error).__name__, error)
