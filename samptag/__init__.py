"""samptag tags music from raw waveforms with the sample-level deep CNN (Lee, Park, Kim, Nam 2017).

``import samptag`` loads neither torch nor numba nor scikit-learn: the public names below are imported when first used.
"""

from typing import TYPE_CHECKING

from samptag.errors import (
    AudioError,
    DatasetError,
    DeviceError,
    DownloadError,
    LibraryError,
    OutputError,
    SamptagError,
    UsageError,
    WeightsError,
)
from samptag.lazy import lazy_names

if TYPE_CHECKING:
    from samptag.core.model import ModelConfig, SampleCNN
    from samptag.evaluation import evaluate
    from samptag.library import Library
    from samptag.pretrained import load_model
    from samptag.tagging.result import TagScore, TrackResult
    from samptag.tagging.tagger import Tagger
    from samptag.training import train

__version__ = "0.1.0"

_LAZY = {
    "Library": "samptag.library",
    **dict.fromkeys(("ModelConfig", "SampleCNN"), "samptag.core.model"),
    **dict.fromkeys(("TagScore", "TrackResult"), "samptag.tagging.result"),
    "Tagger": "samptag.tagging.tagger",
    "evaluate": "samptag.evaluation",
    "load_model": "samptag.pretrained",
    "train": "samptag.training",
}

__all__ = [
    "AudioError",
    "DatasetError",
    "DeviceError",
    "DownloadError",
    "Library",
    "LibraryError",
    "ModelConfig",
    "OutputError",
    "SampleCNN",
    "SamptagError",
    "TagScore",
    "Tagger",
    "TrackResult",
    "UsageError",
    "WeightsError",
    "__version__",
    "evaluate",
    "load_model",
    "train",
]


__getattr__ = lazy_names(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
