"""From a path to a result: inputs in order, decode workers feeding one model, frozen results.

The names below are imported when first used, so that listing inputs waits for nothing.
"""

from typing import TYPE_CHECKING

from samptag.lazy import lazy_names

if TYPE_CHECKING:
    from samptag.tagging.files import Input, expand_inputs
    from samptag.tagging.result import TagScore, TrackError, TrackResult
    from samptag.tagging.tagger import Tagger

__all__ = ["Input", "TagScore", "Tagger", "TrackError", "TrackResult", "expand_inputs"]

__getattr__ = lazy_names(
    __name__,
    {
        "Input": "samptag.tagging.files",
        "TagScore": "samptag.tagging.result",
        "Tagger": "samptag.tagging.tagger",
        "TrackError": "samptag.tagging.result",
        "TrackResult": "samptag.tagging.result",
        "expand_inputs": "samptag.tagging.files",
    },
)
