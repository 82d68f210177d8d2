"""From a path to a result: inputs in order, decode workers feeding one net, frozen results.

The names below are imported when first used, so that listing inputs does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samptag.tagging.files import Input, expand_inputs
    from samptag.tagging.result import TagScore, TrackError, TrackResult
    from samptag.tagging.tagger import Tagger

_LAZY = {
    "Input": "samptag.tagging.files",
    "TagScore": "samptag.tagging.result",
    "Tagger": "samptag.tagging.tagger",
    "TrackError": "samptag.tagging.result",
    "TrackResult": "samptag.tagging.result",
    "expand_inputs": "samptag.tagging.files",
}

__all__ = ["Input", "TagScore", "Tagger", "TrackError", "TrackResult", "expand_inputs"]


def __getattr__(name: str) -> Any:
    """The public object `name`, its module imported on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'samptag.tagging' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
