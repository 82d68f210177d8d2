"""MTG-Jamendo: the repository's split TSVs and its tree of full tracks, in either audio quality."""

import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samptag.data.dataset import Clip, Dataset, make_dataset
from samptag.data.listing import find_audio_root, first_match, list_audio, note_line, read_rows
from samptag.errors import DatasetError

EXPECTS = "splits/split-0"

SUBSETS = ("top50tags", "full", "genre", "instrument", "moodtheme")
_PARTS = {"train": "train", "validation": "valid", "test": "test"}
_NAME = re.compile(r"jamendo-([0-4])(?:-(\w+))?")


class _Row(NamedTuple):
    artist: str
    path: str
    part: str
    tags: tuple[str, ...]


def find(root: Path) -> Path | None:
    """The folder that holds split-0 to split-4: `root`, its splits/ or data/splits/, or the same one level below."""
    places = ("", "splits/", "data/splits/", "*/", "*/splits/", "*/data/splits/")
    found = first_match(root, *(f"{place}split-[0-4]/autotagging*-train.tsv" for place in places))
    return found.parent.parent if found else None


def read(root: Path, *, split: str | None = None, subset: str | None = None) -> Dataset:
    """MTG-Jamendo under "jamendo-0" (the default) to "jamendo-4" and one of `SUBSETS`; clips are grouped by artist."""
    number, subset = _parse_name(split, subset)
    folder = find(root)
    if folder is None:
        advice = "get data/splits of the mtg-jamendo-dataset repository"
        raise DatasetError(f"{root}: no split-0/autotagging-train.tsv; {advice}")
    rows = _read_split(folder / f"split-{number}", infix="" if subset == "full" else f"_{subset}")
    names, categories, raw = _name_tags({tag for row in rows for tag in row.tags})
    index = {tag: position for position, tag in enumerate(raw)}
    # The keys of both layouts in turn, so that a sample of the list finds whichever is there.
    keys = [(row.path, row.path.removesuffix(".mp3") + ".low.mp3") for row in rows]
    audio = list_audio(find_audio_root(root, list(chain(*keys)), looked_for="NN/ID.mp3 or NN/ID.low.mp3"))
    clips: list[Clip] = []
    for row, either in zip(rows, keys, strict=True):
        path = audio.take(*either)
        if path is not None:
            labels = np.zeros(len(names), dtype=np.float32)
            labels[[index[tag] for tag in row.tags]] = 1
            clips.append(Clip(path=path, key=row.path, part=row.part, labels=labels, group=row.artist))
    return make_dataset(
        format="jamendo",
        root=root,
        split_name=f"jamendo-{number}-{subset}",
        tags=names,
        tag_categories=categories,
        clips=clips,
        problems=audio.problems + audio.unlisted(),
        published=dict(Counter(row.part for row in rows)),
    )


def _parse_name(split: str | None, subset: str | None) -> tuple[int, str]:
    match = _NAME.fullmatch(split or "jamendo-0")
    if not match or (match[2] and match[2] not in SUBSETS):
        known = ", ".join(SUBSETS)
        raise DatasetError(f"jamendo has no split {split!r}: choose jamendo-0 to jamendo-4, with a subset of {known}")
    if subset is not None and subset not in SUBSETS:
        raise DatasetError(f"jamendo has no subset {subset!r}: choose {', '.join(SUBSETS)}")
    if subset and match[2] and subset != match[2]:
        raise DatasetError(f"split {split!r} and subset {subset!r} do not agree")
    return int(match[1]), subset or match[2] or "top50tags"


def _read_split(folder: Path, *, infix: str) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[str, str] = {}
    for word, part in _PARTS.items():
        path = folder / f"autotagging{infix}-{word}.tsv"
        table = read_rows(path, delimiter="\t", quoted=False)
        _, header = next(table, (0, []))
        if header[:2] != ["TRACK_ID", "ARTIST_ID"] or header[3:4] != ["PATH"] or header[5:6] != ["TAGS"]:
            raise DatasetError(f"{path}: the header is not TRACK_ID ARTIST_ID ALBUM_ID PATH DURATION TAGS")
        for line, fields in table:
            if len(fields) < 6:
                raise DatasetError(f"{path}, line {line}: {len(fields)} columns instead of at least 6")
            note_line(lines, fields[3], path=path, line=line, place=f"{path.name}, line {line}")
            bad = next((tag for tag in fields[5:] if "---" not in tag), None)
            if bad is not None:
                raise DatasetError(f"{path}, line {line}: {bad!r} is not CATEGORY---TAG")
            rows.append(_Row(fields[1], fields[3], part, tuple(fields[5:])))
    if not rows:
        raise DatasetError(f"{folder}: the split's files list no tracks")
    return rows


def _name_tags(raw: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Names, categories and raw tags ("genre---rock"); a name in two categories becomes "ambient (genre)"."""
    ordered = sorted(raw)
    pairs = [tag.split("---", 1) for tag in ordered]
    shared = Counter(name for _, name in pairs)
    names = tuple(name if shared[name] == 1 else f"{name} ({category})" for category, name in pairs)
    return names, tuple(category for category, _ in pairs), ordered
