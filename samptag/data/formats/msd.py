"""The Million Song Dataset with Last.FM tags: the published 2017 split's pickles and the tree of 7digital clips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samptag.data.dataset import Clip, Dataset, Problem, make_dataset
from samptag.data.formats.plain_pickle import load_plain_pickle
from samptag.data.listing import find_audio_root, list_audio
from samptag.data.splits import choose_split
from samptag.data.tables import read_text
from samptag.errors import DatasetError

__all__ = ["EXPECTS", "find", "read"]

EXPECTS = "filtered_list_train.cP"
TRAIN_LIST = EXPECTS
TEST_LIST = "filtered_list_test.cP"
LABELS = "msd_id_to_tag_vector.cP"
TO_7DIGITAL = "MSD_id_to_7D_id.pkl"
TO_PATH = "7D_id_to_path.pkl"
TAG_LIST = "50tagList.txt"
NAME = "msd-lee-2017"

# The first 201 680 of the published training list train, the other 11 774 validate (the split's README).
TRAIN_COUNT = 201_680
PUBLISHED_COUNTS = {"train": TRAIN_COUNT, "valid": 11_774, "test": 28_435}


def find(root: Path) -> Path | None:
    """The folder with the split's pickles: `root` or one or two below, or None."""
    for pattern in (TRAIN_LIST, f"*/{TRAIN_LIST}", f"*/*/{TRAIN_LIST}"):
        found = sorted(root.glob(pattern))
        if found:
            return found[0].parent
    return None


def read(
    root: Path,
    *,
    split: str | None = None,
    subset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The Million Song Dataset under "msd-lee-2017" (Lee et al. 2017: clips of at least 29.1 s, 50 Last.FM tags).

    Raises
    ------
    DatasetError
        A file of the split is missing, damaged or holds more than plain data; or none of the clips is there.
    """
    name = choose_split(split, known=(NAME,), format="msd")
    folder = find(root)
    if folder is None:
        raise DatasetError(f"{root}: {TRAIN_LIST} is missing; it comes with the published split (MSD_split)")
    tags = tuple(line.strip() for line in read_text(folder / TAG_LIST).splitlines() if line.strip())
    members, problems = _members(folder, n_tags=len(tags))
    audio = list_audio(find_audio_root(root, [key for _, key, _, _ in members], looked_for="the 7digital clips"))
    clips = [
        Clip(path=path, key=key, split=where, labels=labels, group=track)
        for track, key, where, labels in members
        if (path := audio.take(key)) is not None
    ]
    return make_dataset(
        format="msd",
        root=root,
        split_name=name,
        tags=tags,
        clips=clips,
        problems=problems + audio.problems + audio.unlisted(),
        expected_counts=PUBLISHED_COUNTS,
    )


def _members(folder: Path, *, n_tags: int) -> tuple[list[tuple[str, str, str, NDArray[np.float32]]], list[Problem]]:
    """(track, key, split, labels) of every listed track, and those whose path or tags are not known."""
    training = _checked(folder / TRAIN_LIST, list)
    lists = {
        "train": training[:TRAIN_COUNT],
        "valid": training[TRAIN_COUNT:],
        "test": _checked(folder / TEST_LIST, list),
    }
    vectors, to_7digital, to_path = (_checked(folder / name, dict) for name in (LABELS, TO_7DIGITAL, TO_PATH))
    members: list[tuple[str, str, str, NDArray[np.float32]]] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for split, tracks in lists.items():
        for track in tracks:
            if not isinstance(track, str):
                raise DatasetError(f"{folder}: the {split} list holds {track!r} where a track's id should be")
            if track in seen:
                raise DatasetError(f"{folder}: track {track} is listed twice")
            seen.add(track)
            path = to_path.get(to_7digital.get(track))
            if not isinstance(path, str) or track not in vectors:
                problems.append(Problem.of("missing", track, "its path or tags are not listed"))
                continue
            labels = _vector(vectors[track], n_tags=n_tags, where=f"{folder / LABELS}: {track}")
            members.append((track, path.lstrip("/"), split, labels))
    if not members:
        raise DatasetError(f"{folder}: none of the listed tracks has a path and tags")
    return members, problems


def _checked(path: Path, kind: type) -> Any:
    value = load_plain_pickle(path)
    if not isinstance(value, kind):
        raise DatasetError(f"{path}: holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def _vector(value: Any, *, n_tags: int, where: str) -> NDArray[np.float32]:
    try:
        labels = np.asarray(value, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise DatasetError(f"{where}: its tags are not a vector of numbers") from None
    if labels.shape != (n_tags,):
        raise DatasetError(f"{where}: {labels.size} labels for {n_tags} tags")
    if not ((labels >= 0) & (labels <= 1)).all():
        raise DatasetError(f"{where}: a label is not between 0 and 1")
    return labels
