"""Where the room keeps what it decodes, and whether there is space for it."""

import os
import shutil
from pathlib import Path

from samptag.errors import DatasetError

__all__ = ["audio_cache_dir", "require_space", "size_text"]


def audio_cache_dir() -> Path:
    """Where decoded audio lies by default: ``SAMPTAG_CACHE``/audio, else in the user's cache folder."""
    named = os.environ.get("SAMPTAG_CACHE")
    if named:
        return Path(named).expanduser().absolute() / "audio"
    from platformdirs import user_cache_path

    return user_cache_path("samptag", appauthor=False) / "audio"


def require_space(folder: Path, needed: int, *, what: str, advice: str) -> None:
    """Nothing, when the disk of `folder` has `needed` bytes free.

    Raises
    ------
    DatasetError
        It has not; the message says how much is needed and how much is there.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(f"{folder}: {what} needs about {size_text(needed)} and {size_text(free)} are free; {advice}")


def size_text(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
