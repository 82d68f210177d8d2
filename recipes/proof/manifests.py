"""The data sets that are compared: tracks that listeners tagged, with or without ones that only a teacher heard."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.samplecnn_3_9_mtat50.collection import Track, read_teacher_scores
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from samptag.files import atomic_write

__all__ = ["LABELS", "write_manifests"]

LABELS = ("human", "teacher")
# One artist in so many of the tagged training tracks goes to validation.
_VALIDATION_SHARE = 4


def write_manifests(tracks: Sequence[Track], *, teacher_scores: Path, work: Path) -> None:
    """Write ``human.jsonl`` and ``teacher.jsonl`` into `work`.

    Both have the same tracks for validation and for the test (the collection's split "valid"); a tag is present when
    any listener gave it. The second has the unlabelled tracks for training too: their labels are the teacher's
    mean scores.

    Parameters
    ----------
    tracks : sequence of Track
        All tracks of the collection.
    teacher_scores : Path
        The teacher's scores of the same collection, see `read_teacher_scores`.
    work : Path
        A folder that exists.

    Raises
    ------
    DatasetError
        The scores are another collection's.
    """
    table, _ = read_teacher_scores(teacher_scores, tracks=tracks, tags=TAGS)
    scores = {
        key: {tag: round(float(value), 4) for tag, value in zip(TAGS, row, strict=True)}
        for key, row in zip(table.keys, table.values, strict=True)
    }
    tagged = list(_tagged(tracks))
    unlabelled = [
        _row(track, "train", scores[track.key])
        for track in tracks
        if track.split == "unlabelled" and not track.held_out and track.key in scores
    ]
    for name, rows in zip(LABELS, (tagged, tagged + unlabelled), strict=True):
        with atomic_write(work / f"{name}.jsonl") as file:
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _tagged(tracks: Sequence[Track]) -> Iterator[dict[str, Any]]:
    for track in tracks:
        if track.split != "unlabelled":
            tags = {tag: 1.0 for tag, share in json.loads(track.tags).items() if share > 0}
            yield _row(track, _part(track), tags)


def _part(track: Track) -> str:
    if track.split == "valid":
        return "test"
    return "valid" if zlib.crc32(track.artist.encode()) % _VALIDATION_SHARE == 0 else "train"


def _row(track: Track, part: str, tags: Mapping[str, float]) -> dict[str, Any]:
    group = track.artist or track.key
    return {"path": str(track.path.resolve()), "split": part, "group": group, "tags": dict(tags)}
