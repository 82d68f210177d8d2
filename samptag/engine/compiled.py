"""Compiled passes for long jobs, fetched by a thread while the first segments are computed without them."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from samptag.engine import winograd
from samptag.files import cache_folder

logger = logging.getLogger("samptag")

# numba and the kernels take 0.4 to 0.6 s of one core from the cache and 1.3 s the first time; they save half of 35 ms
# that a segment takes, two threads at work. A job that has come this far has about as much left to save.
AFTER_SEGMENTS = 96

_lock = threading.Lock()
_seen = 0
_begun = False


def worth(segments: float | None) -> bool:
    """Whether a job of so many segments is known to be long enough for the compiled passes; None: it is not known."""
    return segments is not None and segments > 2 * AFTER_SEGMENTS


def count(segments: int, *, long_job: bool) -> None:
    """Take note of computed segments; fetch the compiled passes once, as soon as they are worth it.

    Parameters
    ----------
    segments : int
        How many have just been computed.
    long_job : bool
        Whether it is known that many are to come.
    """
    global _seen, _begun
    with _lock:
        _seen += segments
        if _begun or (_seen < AFTER_SEGMENTS and not long_job):
            return
        _begun = True
    # A daemon: a command that is done must not wait for what it no longer needs.
    threading.Thread(target=fetch, name="samptag-compile", daemon=True).start()


def fetch() -> None:
    """Use the compiled passes from now on; without numba, or with one that fails, all stays as it is."""
    try:
        from samptag.engine.kernels import compile_passes

        folder = cache_folder("numba")
        winograd.use(compile_passes(str(folder) if _ours_alone(folder) else None))
    except Exception as error:
        logger.debug("no compiled passes: %s: %s", type(error).__name__, error)


def _ours_alone(folder: Path) -> bool:
    """Whether `folder`, which is made if need be, is writable by this user alone.

    What numba keeps are pickles, which can run anything when they are read.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)
