"""The folder of a training belongs to one training at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samptag.errors import OutputError, UsageError
from samptag.training.fit import MODEL
from samptag.training.log import CURVES, METRICS
from samptag.training.state import BEST, LAST

__all__ = ["writing_alone"]

LOCK = ".training.lock"


@contextmanager
def writing_alone(folder: Path, *, resume: bool) -> Iterator[None]:
    """While entered, no other training writes to `folder`, which is made for a new one and rid of leftovers.

    A process that ends in any way lets go: the lock is the system's, and the file that bears it means nothing by
    itself. Of the processes that torchrun started, the first holds it for all.

    Raises
    ------
    UsageError
        Another training is writing there.
    OutputError
        The folder cannot be made or written.
    """
    from filelock import FileLock, Timeout

    if int(os.environ.get("RANK", "0")) != 0 or (resume and not folder.is_dir()):
        yield  # without a folder there is nothing to resume, which the checkpoint's reader tells
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from None
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another training is writing to {folder}: let it end or stop it, or choose another --out"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write to the folder {folder}: {error.strerror or error}") from None
    try:
        _clear_leftovers(folder)
        yield
    finally:
        lock.release()


def _clear_leftovers(folder: Path) -> None:
    """Remove what a process that was killed was about to write; its files are the old ones, and whole."""
    for name in (LAST, BEST, MODEL, METRICS, CURVES):
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)
