"""The kinds of data set that can be read: one module each, listed here by name and imported when it is needed.

A module has ``EXPECTS`` (in words, the file that only such a data set has), ``find(root)`` (where that is, or None),
and ``read(root, split=, subset=, progress=)`` (the `Dataset`; it takes those of the three that it uses). If there is
only one split, its name is the module's ``SPLIT``, or else that of the format.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samptag.errors import DatasetError
from samptag.text import Progress

if TYPE_CHECKING:
    from samptag.data.dataset import Dataset

__all__ = ["FORMATS", "detect_format", "open_dataset"]

FORMATS = ("mtat", "msd", "jamendo", "manifest", "folders", "music")
"""In the order in which they are tried; the last has no labels, and is tried only if none are needed."""

_PUBLISHED = tuple(name for name in FORMATS if name not in ("manifest", "folders", "music"))


def _reader(name: str) -> Any:
    return import_module(f"{__name__}.{name}")


def detect_format(root: Path, *, labelled: bool = True) -> str:
    """The format (one of `FORMATS`) of the data set in `root`, by the files that only such a data set has.

    If it need not be `labelled`, folders are music. Raises a DatasetError if no format is recognised, or several are.
    """
    if not root.exists():
        raise DatasetError(f"{root}: no such folder or manifest")
    if root.is_file():
        if _reader("manifest").find(root):
            return "manifest"
        raise DatasetError(f"{root}: not a manifest; give a folder, or a .csv, .tsv or .jsonl file")
    found = [name for name in _PUBLISHED if _reader(name).find(root)]
    if len(found) > 1:
        raise DatasetError(f"{root}: holds {' and '.join(found)}; choose one with --format")
    others = ("manifest", "folders" if labelled else "music")
    for name in found or others:
        if found or _reader(name).find(root):
            return name
    expected = ", ".join(f"{_reader(name).EXPECTS} ({name})" for name in (*_PUBLISHED, *others))
    raise DatasetError(f"{root}: no data set recognised: expected {expected}")


def open_dataset(
    root: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    labelled: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """The data set in a folder (or listed by a manifest file) under one named split.

    `format` is one of `FORMATS`, detected if left out; docs/data.md has the names of splits and subsets. If it must be
    `labelled`, a data set without tags is refused. `progress` counts clips while their lengths
    are measured, which MagnaTagATune needs once. A DatasetError is one line that names the file or value.
    """
    root = Path(root)
    if format is None:
        format = detect_format(root, labelled=labelled)
    elif format not in FORMATS:
        raise DatasetError(f"there is no format {format!r}: choose {', '.join(FORMATS)}")
    elif not root.exists():
        raise DatasetError(f"{root}: no such folder or manifest")
    reader = _reader(format)
    named = signature(reader.read).parameters
    if subset is not None and "subset" not in named:
        raise DatasetError(f"{format} has no subsets; leave out {subset!r}")
    only = getattr(reader, "SPLIT", format)
    if "split" not in named and split not in (None, only):
        raise DatasetError(f"{format} has no split {split!r}: choose {only}")
    given = {"split": split, "subset": subset, "progress": progress}
    dataset: Dataset = reader.read(root, **{name: value for name, value in given.items() if name in named})
    if labelled and not dataset.tags:
        where = "a manifest has them in a column 'tags', or in one column of numbers for each tag"
        advice = "without any, a model can be taught by others: samptag train --teacher"
        raise DatasetError(f"{root}: no tags: {where}; {advice}")
    return dataset
