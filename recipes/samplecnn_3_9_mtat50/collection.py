"""Folders of music, with or without a table of what is in them, and a teacher's scores of their tracks.

A folder may hold ``tracks.csv``, one row a track: ``path`` (relative to the folder), ``source`` (a name in
``sources.csv``), ``artist``, ``title``, ``split`` (train, valid or unlabelled) and ``tags`` (JSON: tag -> share of the
listeners' clips of that track that carry it). Without one, every audio file under the folder is an unlabelled track.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from samptag.data import list_audio
from samptag.errors import DatasetError
from samptag.evaluation.predictions import ScoreTable
from samptag.fetch import file_sha256

__all__ = ["TABLE", "Source", "Track", "held_out_paths", "public_sources", "read_music", "read_teacher_scores"]

TABLE = "tracks.csv"
_COLUMNS = ("path", "source", "artist", "title", "split", "tags")
# Shorter ones are sounds of a game, not music.
_LEAST_BYTES = 150_000
_NO_MUSIC = ("sounds/", "sfx/", "speech", "voice", "effects", "ambien")


@dataclass(frozen=True, kw_only=True)
class Track:
    """One piece of music.

    Attributes
    ----------
    key : str
        Posix path relative to its folder: what tables and lists call it.
    path : Path
        The audio file.
    source : str
        Which of ``sources.csv`` it comes from; the folder's name where there is no table.
    artist, title : str
        "" where unknown.
    split : str
        "train", "valid" or "unlabelled".
    tags : str
        The tags that listeners gave it, as JSON; "" for none.
    held_out : bool
        Never trained on, though no listener tagged it: agreement with the teacher is measured on it.
    """

    key: str
    path: Path
    source: str
    artist: str = ""
    title: str = ""
    split: str = "unlabelled"
    tags: str = ""
    held_out: bool = False

    @property
    def trainable(self) -> bool:
        """Whether the student may learn from it."""
        return self.split != "valid" and not self.held_out


def read_music(folder: Path) -> tuple[Track, ...]:
    """The tracks of a folder, in the order of its table or else by path.

    Raises
    ------
    DatasetError
        The folder is not there, or its table lacks a column.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder of music")
    held_out = held_out_paths()
    if (folder / TABLE).is_file():
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = [name for name in _COLUMNS if rows and name not in rows[0]]
        if missing:
            raise DatasetError(f"{folder / TABLE} has no column {', '.join(missing)}")
        return tuple(
            Track(
                key=row["path"],
                path=folder / row["path"],
                source=row["source"],
                artist=row["artist"],
                title=row["title"],
                split=row["split"],
                tags=row["tags"],
                held_out=row["path"] in held_out and row["split"] == "unlabelled",
            )
            for row in rows
        )
    return tuple(_bare_files(folder))


def _bare_files(folder: Path) -> Iterator[Track]:
    """The music in a folder without a table, each piece once though several games may hold it."""
    seen: set[str] = set()
    for key, size in sorted(list_audio(folder).sizes.items(), key=lambda item: item[0].split("/")):
        if size < _LEAST_BYTES or any(word in key.lower() for word in _NO_MUSIC):
            continue
        digest = file_sha256(folder / key)
        if digest not in seen:
            seen.add(digest)
            source = key.split("/")[0] if "/" in key else folder.name
            yield Track(key=key, path=folder / key, source=source)


def held_out_paths() -> frozenset[str]:
    """The tracks of the collection that the shipped weights never saw."""
    text = files(__package__).joinpath("held_out.txt").read_text(encoding="utf-8")
    return frozenset(text.split("\n")[:-1])


@dataclass(frozen=True, kw_only=True)
class Source:
    """A row of ``sources.csv``: where music comes from.

    Attributes
    ----------
    source : str
        Its name, and that of its folder.
    kind : str
        "repository", "debian" or "pypi".
    what, licence : str
    origin, version, folder : str
        The repository, its commit and the folder in it; or the package, its version and the folder in it.
    """

    source: str
    kind: str
    what: str
    licence: str
    origin: str
    version: str
    folder: str


def public_sources() -> tuple[Source, ...]:
    """All sources of the shipped weights."""
    with files(__package__).joinpath("sources.csv").open(encoding="utf-8") as file:
        return tuple(Source(**row) for row in csv.DictReader(file))


def read_teacher_scores(file: Path, *, tracks: Sequence[Track], tags: Sequence[str]) -> tuple[ScoreTable, np.ndarray]:
    """What the teacher says about the tracks of a collection.

    Parameters
    ----------
    file : Path
        An .npz with ``scores`` (segments, networks, tags) in [0, 1] of the consecutive segments of all tracks, and
        ``segments_per_track`` (tracks,), in the order of the collection's table.
    tracks : sequence of Track
        All tracks of the collection.
    tags : sequence of str
        The teacher's, in its order.

    Returns
    -------
    ScoreTable
        The mean over networks and segments of each track that has a segment.
    ndarray of float32, (segments, tags)
        The mean over networks of each segment.

    Raises
    ------
    DatasetError
        The file belongs to another collection.
    """
    with np.load(file) as content:
        segments = content["scores"].astype(np.float32).mean(axis=1)
        counts = content["segments_per_track"]
    if len(counts) != len(tracks) or counts.sum() != len(segments) or segments.shape[1] != len(tags):
        raise DatasetError(
            f"{file} scores {len(counts)} tracks and {segments.shape[1]} tags; the collection has {len(tracks)} tracks "
            f"and the weights {len(tags)} tags"
        )
    ends = np.cumsum(counts)
    kept = [i for i, count in enumerate(counts) if count]
    means = np.stack([segments[ends[i] - counts[i] : ends[i]].mean(axis=0) for i in kept])
    keys = tuple(tracks[i].key for i in kept)
    return ScoreTable(name="teacher", keys=keys, tags=tuple(tags), values=means), segments
