"""MagnaTagATune: annotations_final.csv and MP3 clips of 29 s in folders 0-9, a-f."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samptag.audio.headers import mp3_seconds
from samptag.data.dataset import Clip, Dataset, Problem, make_dataset
from samptag.data.listing import find_audio_root, first_match, list_audio, note_line, read_table
from samptag.data.measure import measure_files
from samptag.errors import DatasetError
from samptag.files import cache_folder
from samptag.text import Progress

EXPECTS = ANNOTATIONS = "annotations_final.csv"
ZIP_PARTS = ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")
CLEAN, PONS = "mtat-clean-2017", "mtat-pons-2018"
# The 50 most frequent of the 188 tags, most frequent first, as published with the 2017 split; synonyms not merged.
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice",
    "weird", "country", "female voice", "metal", "choral",
)  # fmt: skip
# Lee, Park, Kim, Nam 2017: clips with at least one of the 50 tags and at least 29.1 s of audio, folders 0-b, c, d-f.
PUBLISHED_COUNTS = {"train": 15_244, "valid": 1_529, "test": 4_332}
# Lee et al. 2017 kept clips "with more than 29.1 seconds"; a full clip is 809 frames of 576 samples, 29.124 s.
SHORTEST_SECONDS = 29.1
FOLDER_PARTS = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
# "artist-album-07-title-30-59": what precedes the last two numbers, the clip's start and end, names the track.
_CLIP_NAME = re.compile(r"-\d+-\d+$")


def find(root: Path) -> Path | None:
    """The annotations in `root` or one level below, else a part of the zip that has yet to be unpacked."""
    return _find_annotations(root) or first_match(root, *ZIP_PARTS)


def _find_annotations(root: Path) -> Path | None:
    return first_match(root, ANNOTATIONS, f"*/{ANNOTATIONS}")


def listed_clips(annotations: Path) -> list[str]:
    """The FOLDER/NAME.mp3 of every row of annotations_final.csv."""
    return [row.key for row in _read_annotations(annotations)]


class _Row(NamedTuple):
    key: str
    part: str
    labels: NDArray[np.float32]


def read(root: Path, *, split: str | None = None, progress: Progress | None = None) -> Dataset:
    """MagnaTagATune under `split`: "mtat-clean-2017" (Lee et al. 2017; the default) or "mtat-pons-2018" (section 5.2).

    Audio is counted from the MP3 frames: clip_info_final.csv gives every clip's nominal 29 s, also to empty files.
    """
    name = CLEAN if split is None else split
    if name not in (CLEAN, PONS):
        raise DatasetError(f"mtat has no split {split!r}: choose {CLEAN}, {PONS}")
    annotations = _find_annotations(root)
    if annotations is None:
        raise DatasetError(f"{root}: {ANNOTATIONS} is missing; 'samptag data download mtat {root}' fetches it")
    rows = _read_annotations(annotations)
    audio = list_audio(_audio_root(root, annotations, rows))
    listed: list[tuple[_Row, Path]] = []
    for row in rows:
        found = audio.find(row.key)
        if name == CLEAN and not row.labels.any():
            continue
        # Not `take`: the data set as published has empty files, which no split counts.
        if found is None:
            audio.problems.append(Problem.of("missing", row.key))
        else:
            listed.append((row, audio.root / found))
    clips, left_out = _long_enough(listed, audio.root, clean=name == CLEAN, progress=progress)
    problems = audio.problems + left_out + audio.unlisted()
    counts = PUBLISHED_COUNTS if name == CLEAN else None
    return make_dataset(
        format="mtat", root=root, split_name=name, tags=TAGS, clips=clips, problems=problems, published=counts
    )


def _audio_root(root: Path, annotations: Path, rows: list[_Row]) -> Path:
    keys = [row.key for row in rows]
    try:
        return find_audio_root(root, keys, looked_for="the folders 0 to f")
    except DatasetError:
        parts = [part for folder in (root, annotations.parent) for part in ZIP_PARTS if (folder / part).is_file()]
        if not parts:
            raise
        message = f"the clips are still zipped in {parts[0]} and its further parts"
        raise DatasetError(f"{root}: {message}; 'samptag data unpack {root}' unpacks them") from None


def _read_annotations(path: Path) -> list[_Row]:
    needed = ("mp3_path", *TAGS)
    header, table = read_table(path, delimiter="\t", needed=needed, empty="it should list 25 863 clips")
    columns, where = [header.index(tag) for tag in TAGS], header.index("mp3_path")
    rows: list[_Row] = []
    lines: dict[str, str] = {}
    for line, fields in table:
        key = fields[where]
        part = FOLDER_PARTS.get(key.split("/")[0])
        if part is None or key.count("/") != 1:
            raise DatasetError(f"{path}, line {line}: mp3_path {key!r} is not FOLDER/NAME.mp3 with a folder 0 to f")
        note_line(lines, key, path=path, line=line)
        bad = next((fields[column] for column in columns if fields[column] not in ("0", "1")), None)
        if bad is not None:
            raise DatasetError(f"{path}, line {line}: a label is {bad!r}; every label must be 0 or 1")
        rows.append(_Row(key, part, np.array([fields[column] == "1" for column in columns], dtype=np.float32)))
    if not rows:
        advice = f"delete it, and 'samptag data download mtat {path.parent}' fetches it again"
        raise DatasetError(f"{path}: has a header but lists no clips; {advice}")
    return rows


def _long_enough(
    rows: list[tuple[_Row, Path]], root: Path, *, clean: bool, progress: Progress | None
) -> tuple[list[Clip], list[Problem]]:
    paths, directory = [path for _, path in rows], cache_folder("audio") / "measured"
    measured = measure_files(
        paths, mp3_seconds, name="mp3-seconds-1", root=root, directory=directory, progress=progress
    )
    clips: list[Clip] = []
    problems: list[Problem] = []
    for (row, path), seconds in zip(rows, measured, strict=True):
        if seconds is None:
            problems.append(Problem.of("unreadable", row.key, "cannot be read"))
        elif seconds == 0:
            problems.append(Problem.of("short", row.key, "holds no audio"))
        elif clean and seconds < SHORTEST_SECONDS:
            words = f"{seconds:.3f} s, shorter than the split's {SHORTEST_SECONDS} s"
            problems.append(Problem.of("short", row.key, words))
        else:
            group = _CLIP_NAME.sub("", row.key.split("/")[1].removesuffix(".mp3"))
            clips.append(Clip(path=path, key=row.key, part=row.part, labels=row.labels, group=group))
    return clips, problems
