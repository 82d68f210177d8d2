"""Which data set lies in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from samptag.data.dataset import Dataset
from samptag.data.folders import holds_tag_folders, open_folders
from samptag.data.jamendo import find_jamendo_splits, open_jamendo
from samptag.data.manifest import find_manifest, open_manifest
from samptag.data.msd import find_msd_split, open_msd
from samptag.data.mtat import ZIP_PARTS, find_annotations, open_mtat
from samptag.errors import DatasetError

__all__ = ["FORMATS", "detect_format", "open_dataset"]


class _Reader(Protocol):
    def __call__(
        self,
        root: Path,
        *,
        split: str | None = None,
        subset: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Dataset: ...


_READERS: dict[str, _Reader] = {
    "mtat": open_mtat,
    "msd": open_msd,
    "jamendo": open_jamendo,
    "manifest": open_manifest,
    "folders": open_folders,
}
FORMATS = tuple(_READERS)


def detect_format(root: Path) -> str:
    """The format of what lies in `root` (one of `FORMATS`), by the files that only such a data set has.

    Raises
    ------
    DatasetError
        There is no such path, nothing is recognised, or two data sets lie in one folder.
    """
    if not root.exists():
        raise DatasetError(f"{root}: no such folder or manifest")
    if root.is_file():
        if find_manifest(root):
            return "manifest"
        raise DatasetError(f"{root}: not a manifest; give a folder, or a .csv, .tsv or .jsonl file")
    found = [
        name
        for name, finder in (("mtat", find_annotations), ("msd", find_msd_split), ("jamendo", find_jamendo_splits))
        if finder(root)
    ]
    if len(found) > 1:
        raise DatasetError(f"{root}: holds {' and '.join(found)}; choose one with --format")
    if found:
        return found[0]
    if any((root / part).is_file() for part in ZIP_PARTS):
        return "mtat"
    if find_manifest(root):
        return "manifest"
    if holds_tag_folders(root):
        return "folders"
    raise DatasetError(
        f"{root}: no data set recognised: expected annotations_final.csv (mtat), filtered_list_train.cP (msd), "
        "splits/split-0 (jamendo), manifest.csv or .jsonl, or one folder of audio a tag"
    )


def open_dataset(
    root: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The data set in a folder (or listed by a manifest file) under one named split.

    Parameters
    ----------
    root : str or Path
    format : str, optional
        One of `FORMATS`; detected when left out.
    split : str, optional
        The split's name, by default the format's first: mtat-clean-2017, msd-lee-2017, jamendo-0, manifest, folders.
    subset : str, optional
        MTG-Jamendo's subset: top50tags, full, genre, instrument, moodtheme.
    progress : callable, optional
        Called with (done, total) while clip lengths are measured, which MagnaTagATune needs once.

    Raises
    ------
    DatasetError
        One line that names the file or value.
    """
    root = Path(root)
    if format is None:
        format = detect_format(root)
    elif format not in _READERS:
        raise DatasetError(f"there is no format {format!r}: choose {', '.join(FORMATS)}")
    elif not root.exists():
        raise DatasetError(f"{root}: no such folder or manifest")
    return _READERS[format](root, split=split, subset=subset, progress=progress)
