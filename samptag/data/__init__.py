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
        **dict.fromkeys(("AudioCache", "build_cache"), "samptag.data.cache"),
        **dict.fromkeys(("Survey", "survey"), "samptag.data.check"),
        **dict.fromkeys(("SPLITS", "Clip", "Dataset", "Problem"), "samptag.data.dataset"),
        **dict.fromkeys(("FORMATS", "detect_format", "open_dataset"), "samptag.data.formats"),
        "list_audio": "samptag.data.listing",
    },
)
