"""Where installed weights lie, whether the network may be used, and who may write at the moment."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_dir", "exclusive", "offline_asked"]

logger = logging.getLogger(__name__)

# A bundled file is installed in less; only a download is worth a word about waiting.
_QUIET_WAIT_SECONDS = 2.0


def cache_dir() -> Path:
    """The folder of installed weights: ``SAMPTAG_CACHE``, else ``weights`` in the user data folder of the system."""
    named = os.environ.get("SAMPTAG_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("samptag", appauthor=False) / "weights"


def offline_asked() -> bool:
    """Whether ``SAMPTAG_OFFLINE`` forbids the network: set to anything but nothing, 0, false or no."""
    return os.environ.get("SAMPTAG_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


@contextmanager
def exclusive(folder: Path, name: str) -> Iterator[None]:
    """Of the processes that install `name` in `folder` (made if need be), one at a time.

    A process that ends in any way lets go.

    Raises
    ------
    OSError
        The folder cannot be made or written.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=_QUIET_WAIT_SECONDS)
    except Timeout:
        logger.warning("waiting for another process that is installing %s", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
