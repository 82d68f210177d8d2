"""A folder of songs, one folder a tag."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from samptag.data.dataset import Clip, Dataset, Problem, make_dataset
from samptag.data.listing import AudioListing, empty_file, list_audio
from samptag.data.splits import choose_split, named_part, split_by_group
from samptag.errors import DatasetError

__all__ = ["EXPECTS", "find", "read"]

EXPECTS = "one folder of audio for each tag"


def find(root: Path) -> Path | None:
    """`root` itself, where an audio file lies in one of its folders."""
    return root if any("/" in key for key in list_audio(root).sizes) else None


def read(
    root: Path,
    *,
    split: str | None = None,
    subset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Songs in folders named for their tag: ROOT/TAG/.../song.mp3, or ROOT/train/TAG/song.mp3 with valid and test.

    A song in two folders by a link has both tags. Without split folders the split is by song, deterministic
    (`splits.split_by_group`). Folder names are the tags, in alphabetical order.

    Raises
    ------
    DatasetError
        There is no audio in the folders, or one file is in two splits.
    """
    name = choose_split(split, known=("folders",), format="folders")
    audio = list_audio(root)
    inside = sorted(key for key in audio.sizes if "/" in key)
    if not inside:
        raise DatasetError(f"{root}: no audio in its folders; expected one folder for each tag")
    problems = [
        Problem.of("unlisted", key, "is in no tag's folder") for key in sorted(audio.sizes.keys() - set(inside))
    ]
    by_split = all(named_part(key.split("/")[0]) for key in inside)
    if by_split:
        shallow = [key for key in inside if key.count("/") < 2]
        problems += [Problem.of("unlisted", key, "is in no tag's folder") for key in shallow]
        inside = [key for key in inside if key.count("/") >= 2]
    songs = _songs(root, inside, tag_level=1 if by_split else 0)
    tags = tuple(sorted({tag for keys in songs.values() for tag, _ in keys}))
    clips, empty = _clips(audio, songs, tags=tags, by_split=by_split)
    return make_dataset(format="folders", root=root, split_name=name, tags=tags, clips=clips, problems=problems + empty)


def _songs(root: Path, keys: list[str], *, tag_level: int) -> dict[Path, list[tuple[str, str]]]:
    """(tag, key) pairs of every file, by the file a path leads to."""
    songs: dict[Path, list[tuple[str, str]]] = {}
    for key in keys:
        songs.setdefault((root / key).resolve(), []).append((key.split("/")[tag_level], key))
    return songs


def _clips(
    audio: AudioListing, songs: dict[Path, list[tuple[str, str]]], *, tags: tuple[str, ...], by_split: bool
) -> tuple[list[Clip], list[Problem]]:
    index = {tag: position for position, tag in enumerate(tags)}
    problems: list[Problem] = []
    kept: list[list[tuple[str, str]]] = []
    for pairs in songs.values():
        key = pairs[0][1]
        if audio.sizes[key] == 0:
            problems.append(empty_file(key))
        else:
            kept.append(pairs)
    keys = [pairs[0][1] for pairs in kept]
    splits = [named_part(key.split("/")[0]) or "" for key in keys] if by_split else split_by_group(keys)
    clips = []
    for pairs, key, split in zip(kept, keys, splits, strict=True):
        labels = np.zeros(len(tags), dtype=np.float32)
        labels[[index[tag] for tag, _ in pairs]] = 1
        if by_split and len({pair_key.split("/")[0] for _, pair_key in pairs}) > 1:
            raise DatasetError(f"{audio.root / key}: the same file is in two splits: {pairs[0][1]}, {pairs[-1][1]}")
        clips.append(Clip(path=audio.root / key, key=key, split=split, labels=labels, group=key))
    return clips, problems
