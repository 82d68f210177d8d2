"""What every room does with files: write them atomically, lock them, find the user's folders, report what failed."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from samptag.errors import SamptagError

logger = logging.getLogger(__name__)

# Most work under a lock takes less; only the wait for a download or for much decoding is worth mentioning.
_QUIET_WAIT_SECONDS = 2.0


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends without an exception.

    It is written under a temporary name in the same folder, flushed to the disk, and renamed: whenever the process or
    the machine stops, `path` is the old file or the new one. After an exception the old file, if any, is untouched.
    """
    # Not tempfile: it would leave the file readable by its owner only, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):
        sync(path.parent)  # the rename itself


def sync(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> None:
    """Flush a file, or a folder's list of names, to the disk; does nothing where the system cannot open a folder."""
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, waiting_for: str | None) -> Iterator[None]:
    """Hold the lock file `path`, as only one process can at a time; a process that ends in any way releases it.

    While another process holds it, wait, and log that the wait is for `waiting_for`; None raises a BlockingIOError
    instead.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0 if waiting_for is None else _QUIET_WAIT_SECONDS)
    except Timeout:
        if waiting_for is None:
            raise BlockingIOError(f"{path} is held by another process") from None
        logger.warning("waiting for %s", waiting_for)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def cache_folder(name: str) -> Path:
    """The folder `name` for files that can be made again: in ``SAMPTAG_CACHE``, else in the user's cache folder."""
    from platformdirs import user_cache_path

    return (_moved() or user_cache_path("samptag", appauthor=False)) / name


def weights_folder() -> Path:
    """The folder of installed weights: ``SAMPTAG_CACHE``, else ``weights`` in the user's data folder."""
    return _moved() or data_folder() / "weights"


def data_folder() -> Path:
    """The user's folder of samptag's data."""
    from platformdirs import user_data_path

    return user_data_path("samptag", appauthor=False)


def config_folder() -> Path:
    """The user's folder of samptag's configuration."""
    from platformdirs import user_config_path

    return user_config_path("samptag", appauthor=False)


def _moved() -> Path | None:
    named = os.environ.get("SAMPTAG_CACHE")
    return Path(named).expanduser().absolute() if named else None


def os_reason(error: BaseException) -> str:
    """What failed in the system's own words, without numbers and names: "No space left on device"."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def os_errors_as(kind: type[SamptagError], what: str, *, advice: str | None = None) -> Iterator[None]:
    """Turn an OSError of the block into a `kind` of one line: `what` failed, the system's reason, and the `advice`.

    A BrokenPipeError passes unchanged: it means that the reader went away, which is handled where the program ends.

    Examples
    --------
    >>> from samptag.errors import WeightsError
    >>> with os_errors_as(WeightsError, "cannot read /no/such/file"):
    ...     _ = open("/no/such/file")
    Traceback (most recent call last):
    samptag.errors.WeightsError: cannot read /no/such/file: No such file or directory
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise kind(f"{what}: {os_reason(error)}" + (f"; {advice}" if advice else "")) from error
