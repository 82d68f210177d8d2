"""The Million Song Dataset with Last.FM tags: the published 2017 split's pickles and the tree of 7digital clips.

A pickle is a program. Strangers' pickles may call nothing here but the few constructors below, each of which only makes
data. numpy's own are not among them: their `__setstate__` trusts what a pickle says about a dtype's fields and flags.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samptag.data.dataset import Clip, Dataset, Problem, make_dataset
from samptag.data.listing import find_audio_root, first_match, list_audio, read_text
from samptag.errors import DatasetError
from samptag.files import os_errors_as

EXPECTS = TRAIN_LIST = "filtered_list_train.cP"
TEST_LIST = "filtered_list_test.cP"
LABELS = "msd_id_to_tag_vector.cP"
TO_7DIGITAL = "MSD_id_to_7D_id.pkl"
TO_PATH = "7D_id_to_path.pkl"
TAG_LIST = "50tagList.txt"
SPLIT = "msd-lee-2017"
# The first 201 680 of the published training list train, the other 11 774 validate (the split's README).
TRAIN_COUNT = 201_680
PUBLISHED_COUNTS = {"train": TRAIN_COUNT, "valid": 11_774, "test": 28_435}


def find(root: Path) -> Path | None:
    """The folder with the split's pickles: `root`, or one up to two levels below it; None if there is none."""
    found = first_match(root, TRAIN_LIST, f"*/{TRAIN_LIST}", f"*/*/{TRAIN_LIST}")
    return found.parent if found else None


def read(root: Path) -> Dataset:
    """The Million Song Dataset under "msd-lee-2017" (Lee et al. 2017: clips of at least 29.1 s, 50 Last.FM tags)."""
    folder = find(root)
    if folder is None:
        raise DatasetError(f"{root}: {TRAIN_LIST} is missing; it comes with the published split (MSD_split)")
    tags = tuple(line.strip() for line in read_text(folder / TAG_LIST).splitlines() if line.strip())
    members, problems = _members(folder, n_tags=len(tags))
    audio = list_audio(find_audio_root(root, [key for _, key, _, _ in members], looked_for="the 7digital clips"))
    clips = [
        Clip(path=path, key=key, part=part, labels=labels, group=track)
        for track, key, part, labels in members
        if (path := audio.take(key)) is not None
    ]
    problems += audio.problems + audio.unlisted()
    return make_dataset(
        format="msd", root=root, split_name=SPLIT, tags=tags, clips=clips, problems=problems, published=PUBLISHED_COUNTS
    )


def _members(folder: Path, *, n_tags: int) -> tuple[list[tuple[str, str, str, NDArray[np.float32]]], list[Problem]]:
    """(track, key, part, labels) of every listed track, and problems for those whose path or tags are not known."""
    training, test = (_checked(folder / name, list) for name in (TRAIN_LIST, TEST_LIST))
    lists = {"train": training[:TRAIN_COUNT], "valid": training[TRAIN_COUNT:], "test": test}
    vectors, to_7digital, to_path = (_checked(folder / name, dict) for name in (LABELS, TO_7DIGITAL, TO_PATH))
    members: list[tuple[str, str, str, NDArray[np.float32]]] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for part, tracks in lists.items():
        for track in tracks:
            if not isinstance(track, str):
                raise DatasetError(f"{folder}: the {part} list holds {track!r} where a track's id should be")
            if track in seen:
                raise DatasetError(f"{folder}: track {track} is listed twice")
            seen.add(track)
            path = to_path.get(to_7digital.get(track))
            if not isinstance(path, str) or track not in vectors:
                problems.append(Problem.of("missing", track, "its path or tags are not listed"))
                continue
            labels = _vector(vectors[track], n_tags=n_tags, where=f"{folder / LABELS}: {track}")
            members.append((track, path.lstrip("/"), part, labels))
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


_PLAIN_KINDS = "biufSU"


class _Dtype:
    """What a pickle says about a dtype, checked; `dtype` is the real one."""

    def __init__(self, name: Any, align: Any = False, copy: Any = False) -> None:
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in _PLAIN_KINDS or dtype.names or dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of {name!r} is not plain numbers or text")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order, structure = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in structure):
            raise pickle.UnpicklingError("an array of records is not plain numbers or text")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        super().__setstate__((version, shape, _real(dtype), fortran, _raw_bytes(raw)))


def _real(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    return dtype.dtype


def _raw_bytes(data: Any) -> bytes:
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def _make_array(kind: Any, shape: Any, typecode: Any) -> Any:
    return _Array((0,), dtype="b")  # as numpy does: the real shape and bytes arrive with the state


def _make_array_at_once(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return np.frombuffer(_raw_bytes(data), dtype=_real(dtype)).reshape(shape, order=order)


def _make_scalar(dtype: Any, value: Any) -> Any:
    return np.frombuffer(_raw_bytes(value), dtype=_real(dtype), count=1)[0]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",  # only ever named as an argument
    ("_codecs", "encode"): lambda text, encoding: str(text).encode("latin-1"),
    ("__builtin__", "bytes"): lambda: b"",  # so protocols 0 to 2 write b""; anything else fails for its arguments
    ("collections", "OrderedDict"): dict,
}
for _package in ("__builtin__", "builtins"):
    _ALLOWED |= {(_package, "set"): set, (_package, "frozenset"): frozenset}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _make_array
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _make_scalar
    _ALLOWED[f"{_package}.numeric", "_frombuffer"] = _make_array_at_once


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to things outside itself")


def load_plain_pickle(path: Path) -> Any:
    """The lists, dicts, strings, numbers and arrays in a pickle; Python 2's byte strings as latin-1 text."""
    with os_errors_as(DatasetError, f"{path}: cannot be read"):
        data = path.read_bytes()
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{path}: refused: {error}") from None
    # A damaged pickle raises whatever the opcode it breaks in raises.
    except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, OverflowError) as error:
        raise DatasetError(f"{path}: not a complete pickle: {type(error).__name__}: {error}") from None
