"""Songs in folders, one folder per tag."""

from pathlib import Path

import numpy as np

from samptag.data.dataset import Clip, Dataset, Problem, make_dataset, named_part, split_by_group
from samptag.data.listing import list_audio
from samptag.errors import DatasetError

EXPECTS = "one folder of audio for each tag"


def find(root: Path) -> Path | None:
    """`root` itself, if there is an audio file in one of its folders."""
    return root if any("/" in key for key in list_audio(root).sizes) else None


def read(root: Path) -> Dataset:
    """Songs in folders named after their tag: ROOT/TAG/.../song.mp3, or ROOT/train/TAG/song.mp3 with valid and test."""
    audio = list_audio(root)
    inside = [key for key in sorted(audio.sizes) if "/" in key]
    if not inside:
        raise DatasetError(f"{root}: no audio in its folders; expected one folder for each tag")
    by_part = all(named_part(key.split("/")[0]) for key in inside)
    level = 1 if by_part else 0  # of the tags' folders
    problems: list[Problem] = []
    songs: dict[Path, list[str]] = {}  # by the file that a path leads to
    for key in sorted(audio.sizes):
        if key.count("/") > level:
            songs.setdefault((root / key).resolve(), []).append(key)
        else:
            problems.append(Problem.of("unlisted", key, "is not in the folder of a tag"))
    tags = tuple(sorted({key.split("/")[level] for keys in songs.values() for key in keys}))
    kept = [keys for keys in songs.values() if audio.take(keys[0]) is not None]
    firsts = [keys[0] for keys in kept]
    parts = [named_part(key.split("/")[0]) or "" for key in firsts] if by_part else split_by_group(firsts)
    clips = []
    for keys, part in zip(kept, parts, strict=True):
        if by_part and len({key.split("/")[0] for key in keys}) > 1:
            raise DatasetError(f"{root / keys[0]}: the same file is in two parts: {keys[0]}, {keys[-1]}")
        carried = {key.split("/")[level] for key in keys}
        labels = np.array([tag in carried for tag in tags], dtype=np.float32)
        clips.append(Clip(path=root / keys[0], key=keys[0], part=part, labels=labels, group=keys[0]))
    problems += audio.problems
    return make_dataset(format="folders", root=root, split_name="folders", tags=tags, clips=clips, problems=problems)
