"""Data sets: which clips, which tags, which named split; and their audio, decoded once into a memory map."""

from samptag.data.cache import AudioCache, build_cache
from samptag.data.check import Survey, survey
from samptag.data.dataset import SPLITS, Clip, Dataset, Problem
from samptag.data.detect import FORMATS, detect_format, open_dataset

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
    "open_dataset",
    "survey",
]
