"""A folder of music without labels, for models that are taught by others."""

from pathlib import Path, PurePosixPath

import numpy as np

from samptag.data.dataset import Clip, Dataset, make_dataset, split_by_group
from samptag.data.listing import list_audio
from samptag.errors import DatasetError

EXPECTS = "audio files"
# Fewer folders than this are not taken for albums: one of them may be half of the music.
LEAST_FOLDERS = 20


def find(root: Path) -> Path | None:
    """`root` itself, if there is audio in it."""
    return root if list_audio(root).sizes else None


def read(root: Path) -> Dataset:
    """Every audio file below `root`, without tags; a tenth is for validation, by album if folders are albums."""
    audio = list_audio(root)
    keys = [key for key in sorted(audio.sizes) if audio.take(key) is not None]
    if not keys:
        raise DatasetError(f"{root}: no audio files")
    folders = [str(PurePosixPath(key).parent) for key in keys]
    groups = folders if len(set(folders)) >= LEAST_FOLDERS else keys
    nothing = np.zeros(0, dtype=np.float32)
    clips = [
        Clip(path=root / key, key=key, part="valid" if part == "valid" else "train", labels=nothing, group=group)
        for key, group, part in zip(keys, groups, split_by_group(groups), strict=True)
    ]
    return make_dataset(format="music", root=root, split_name="music", tags=(), clips=clips, problems=audio.problems)
