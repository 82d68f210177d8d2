"""Files of this room's own: where caches lie, writes that are whole or not there, free space."""

import os
import shutil
import tempfile
from pathlib import Path

from samptag.errors import DatasetError

__all__ = ["audio_cache_dir", "require_space", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Nothing; `path` holds `content` afterwards, or on an error what it held before.

    Raises
    ------
    OSError
        The folder cannot be written or the disk is full.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def require_space(folder: Path, needed: int, *, what: str, advice: str) -> None:
    """Nothing, when the disk of `folder` has `needed` bytes free.

    Raises
    ------
    DatasetError
        It has not; the message says how much is needed and how much is there.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(f"{folder}: {what} needs about {_size(needed)}, {_size(free)} are free; {advice}")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def audio_cache_dir() -> Path:
    """Where decoded audio and what is known of files are kept unless the caller names a place."""
    from samptag.pretrained import cache_dir

    return cache_dir() / "audio"
