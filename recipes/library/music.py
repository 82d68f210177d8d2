"""Folders of music with a table, and what people say about it.

A folder holds ``tracks.csv``, one row a track: ``path`` (relative to the folder), ``source``, ``artist``, ``title``,
``split`` (train, valid, test or unlabelled) and, where people said something, ``tags`` (JSON: MagnaTagATune's tag ->
share of the track's clips that carry it) and ``genre`` (the folder that Emotify keeps it in). ``nhs.csv`` beside it
says who sings in the test clips of the Natural History of Song.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from samptag.data.listing import read_table
from samptag.evaluation.predictions import Truth

# Of each track; what follows in a long one sounds much like it, and six teachers hear all of it.
SEGMENTS_PER_CLIP = 24
TABLE = "tracks.csv"
SINGERS = "nhs.csv"
MIXES = ("evr", "diarmuid", "1f616emo")  # sources whose notes say whether there is a voice
# Two of the held-out choirs again, the women and the men apart: not learned from.
SAME_PIECES = ("choir-cantabant-sancti", "choir-hail-to-the-chief-leslie")
GENRES = ("classical", "electronic", "pop", "rock")


@dataclass(frozen=True, kw_only=True)
class Track:
    """One piece of music; texts are "" where unknown."""

    key: str  # its path as the table has it
    path: Path
    artist: str
    source: str
    split: str
    genre: str = ""
    tags: Mapping[str, float] = field(default_factory=dict)  # of people; empty for none
    held_out: bool = False  # never trained on, though no one tagged it
    voice: bool | None = None  # whether there is one, where those who made the music say so
    sex: str = ""  # who sings, as documented: male, female, both or unknown; "" outside that test
    sex_heard: str = ""  # the same as most listeners heard it

    @property
    def tested(self) -> bool:
        """Whether more than cut-offs on the teachers' scores needs it."""
        return self.held_out or self.split != "unlabelled" or self.voice is not None

    @property
    def learned(self) -> bool:
        """Whether students learn from it."""
        return self.split == "train" or not (self.tested or self.path.name.startswith(SAME_PIECES))


def read_music(folder: Path) -> tuple[Track, ...]:
    """The tracks of a folder in the order of its table.

    Raises
    ------
    DatasetError
        A table cannot be read or lacks a column.
    """
    held_out = files(__package__).joinpath("held_out.txt").read_text(encoding="utf-8").splitlines()
    singers = {row["path"]: row for row in _table(folder / SINGERS, "path", "singers_sex", "sex_heard")}
    return tuple(
        Track(
            key=row["path"],
            path=folder / row["path"],
            artist=row["artist"] or row["path"],
            source=row["source"],
            split=row["split"],
            genre=row.get("genre", ""),
            tags=json.loads(row.get("tags") or "{}"),
            held_out=row["path"] in held_out and row["split"] == "unlabelled",
            voice=row["note"].startswith("vox") if row["source"] in MIXES else None,
            sex=singers.get(row["path"], {}).get("singers_sex", ""),
            sex_heard=singers.get(row["path"], {}).get("sex_heard", ""),
        )
        for row in _table(folder / TABLE, "path", "artist", "source", "split")
    )


def truth_of(tracks: Sequence[Track], *, words: Mapping[str, Sequence[str]], name: str) -> Truth:
    """What people say about the words: a word is present where any of its tags is, in any clip of the track.

    "instrumental" is where nobody wrote any tag of "vocals": few people write that there is no voice.
    """
    present = np.array(
        [[any(track.tags.get(tag, 0) > 0 for tag in tags) for tags in words.values()] for track in tracks]
    )
    if {"instrumental", "vocals"} <= words.keys():
        place = list(words).index
        present[:, place("instrumental")] = ~present[:, place("vocals")]
    return Truth(
        keys=tuple(track.key for track in tracks),
        tags=tuple(words),
        labels=present.astype(np.float32),
        groups=tuple(track.artist for track in tracks),
        split_name=name,
        split_hash="",
    )


def _table(path: Path, *needed: str) -> list[dict[str, str]]:
    """The rows of a table; none where there is no singers' table."""
    if path.name == SINGERS and not path.is_file():
        return []
    header, rows = read_table(path, delimiter=",", needed=needed, empty=f"its columns are {', '.join(needed)}")
    return [dict(zip(header, fields, strict=True)) for _, fields in rows]
