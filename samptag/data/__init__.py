"""Data sets: which clips, which tags, which named split; and their audio, decoded once.

The names below are imported when first used, so that the names of the formats do not wait for numpy.
"""

from typing import TYPE_CHECKING

from samptag.lazy import lazy_names

if TYPE_CHECKING:
    from samptag.data.cache import AudioCache, build_cache
    from samptag.data.check import Survey, survey
    from samptag.data.dataset import SPLITS, Clip, Dataset, Problem
    from samptag.data.formats import FORMATS, detect_format, open_dataset
    from samptag.data.listing import list_audio

__all__ = [
    "FORMATS",
    "SPLITS",
    "AudioCache",
    "Clip",
    "Dataset",
    "Problem",
    "Survey",
    "build_cache",
    "detect_format",
    "list_audio",
    "open_dataset",
    "survey",
]

__getattr__ = lazy_names(
    __name__,
    {
        "FORMATS": "samptag.data.formats",
        "SPLITS": "samptag.data.dataset",
        "AudioCache": "samptag.data.cache",
        "Clip": "samptag.data.dataset",
        "Dataset": "samptag.data.dataset",
        "Problem": "samptag.data.dataset",
        "Survey": "samptag.data.check",
        "build_cache": "samptag.data.cache",
        "detect_format": "samptag.data.formats",
        "list_audio": "samptag.data.listing",
        "open_dataset": "samptag.data.formats",
        "survey": "samptag.data.check",
    },
)
