"""A person's music: indexed once, then searched, gathered into playlists, learned from and written to.

The names below are imported when first used: a search loads neither NumPy nor a network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samptag.library.indexing import IndexReport, Observer
    from samptag.library.library import Library
    from samptag.library.songs import Song

_LAZY = {
    "IndexReport": "samptag.library.indexing",
    "Library": "samptag.library.library",
    "Observer": "samptag.library.indexing",
    "Song": "samptag.library.songs",
}

__all__ = ["IndexReport", "Library", "Observer", "Song"]


def __getattr__(name: str) -> Any:
    """The public object `name`, its module imported on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'samptag.library' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
