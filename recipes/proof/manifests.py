"""The data sets that are compared: tracks that listeners tagged, with or without ones that only teachers heard."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.library.hearing import hear
from recipes.library.music import Track
from samptag.errors import WeightsError
from samptag.files import atomic_write
from samptag.tagging.tagger import Tagger

__all__ = ["LABELS", "write_manifests"]

LABELS = ("human", "teacher")
# One artist in so many of the tagged training tracks goes to validation.
_VALIDATION_SHARE = 4


def write_manifests(tracks: Sequence[Track], *, teachers: Sequence[str], work: Path) -> None:
    """Write ``human.jsonl`` and ``teacher.jsonl`` into `work`, unless they are there.

    Both have the same tracks for validation and for the test (the collection's split "valid"); a tag is present when
    any listener gave it. The second has the unlabelled tracks for training too: their labels are the mean scores of
    the teachers.

    Parameters
    ----------
    tracks : sequence of Track
        All tracks of the collection.
    teachers : sequence of str
        Weights with the same tags, by name or file.
    work : Path
        A folder that exists.

    Raises
    ------
    DatasetError
        A track cannot be read.
    WeightsError
        A teacher cannot be loaded, or has other tags than the first.
    """
    if all((work / f"{name}.jsonl").is_file() for name in LABELS):
        return
    tagged = list(_tagged(tracks))
    alone = [track for track in tracks if track.split == "unlabelled" and not track.held_out]
    heard = _scores(alone, teachers)
    for name, rows in zip(LABELS, (tagged, tagged + [_row(t, "train", heard[t.key]) for t in alone]), strict=True):
        with atomic_write(work / f"{name}.jsonl") as file:
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _scores(tracks: Sequence[Track], teachers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Track's key -> tag -> score, the mean over the teachers of their means over the track."""
    taggers = [Tagger.from_pretrained(name) for name in teachers]
    tags = taggers[0].tags
    for name, tagger in zip(teachers, taggers, strict=True):
        if set(tagger.tags) != set(tags):
            raise WeightsError(f"{name} has other tags than {teachers[0]}: name teachers of the same tags")
    tables = [(hear(tagger, tracks), [tagger.tags.index(tag) for tag in tags]) for tagger in taggers]
    return {
        track.key: dict(
            zip(
                tags,
                np.mean([heard[track.key].mean(axis=0)[order] for heard, order in tables], axis=0).round(4).tolist(),
                strict=True,
            )
        )
        for track in tracks
    }


def _tagged(tracks: Sequence[Track]) -> Iterator[dict[str, Any]]:
    for track in tracks:
        if track.split in ("train", "valid"):
            yield _row(track, _part(track), {tag: 1.0 for tag, share in track.tags.items() if share > 0})


def _part(track: Track) -> str:
    if track.split == "valid":
        return "test"
    return "valid" if zlib.crc32(track.artist.encode()) % _VALIDATION_SHARE == 0 else "train"


def _row(track: Track, part: str, tags: Mapping[str, float]) -> dict[str, Any]:
    return {"path": str(track.path.resolve()), "split": part, "group": track.artist, "tags": dict(tags)}
