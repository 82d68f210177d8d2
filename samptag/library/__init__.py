"""A person's music: indexed once, then searched, made into playlists, learned from and tagged.

The names below are imported when first used: a search loads neither NumPy nor a network.
"""

from typing import TYPE_CHECKING

from samptag.lazy import lazy_names

if TYPE_CHECKING:
    from samptag.library.indexing import IndexReport, Observer
    from samptag.library.library import Library
    from samptag.library.songs import Song

__all__ = ["IndexReport", "Library", "Observer", "Song"]

__getattr__ = lazy_names(
    __name__,
    {
        "IndexReport": "samptag.library.indexing",
        "Library": "samptag.library.library",
        "Observer": "samptag.library.indexing",
        "Song": "samptag.library.songs",
    },
)
