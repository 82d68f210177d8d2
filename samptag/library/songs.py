"""Songs as the index has them, and the search for those that match an expression."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samptag.errors import LibraryError, UsageError
from samptag.library.database import Database
from samptag.library.query import FIELDS, Condition, score_sql
from samptag.library.words import Vocabulary, fold, near
from samptag.text import path_fields

_COLUMNS = "s.path, s.artist, s.title, s.album, a.duration, h.scores, h.audio"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights that songs of the index were heard with."""

    id: int  # in the index
    name: str
    digest: str  # sha256 of the file
    space: int  # id of the weights whose embeddings these share; their own id where they share none
    vocabulary: Vocabulary


@dataclass(frozen=True, kw_only=True)
class Song:
    """One song of the index."""

    path: str  # absolute; undecodable bytes of a name are surrogate escapes
    artist: str | None  # this and the next two from the file's tags
    title: str | None
    album: str | None
    duration: float  # seconds
    model: str  # name of the weights
    words: tuple[str, ...] = field(repr=False)  # of these weights
    packed: bytes = field(repr=False)  # their scores as the index stores them, in big-endian float16
    audio: int  # id of its audio in the index: the same for files that play the same
    similarity: float | None = None  # cosine in [-1, 1] to the query of `Library.similar`

    @property
    def scores(self) -> dict[str, float]:
        """Every word with its score in [0, 1], to three digits; decoded here, since most songs' scores are not used."""
        return dict(zip(self.words, struct.unpack(f">{len(self.words)}e", self.packed), strict=True))

    @property
    def label(self) -> str:
        """Artist and title, or the file's name, to be shown."""
        title = self.title or Path(self.path).stem
        return f"{self.artist} - {title}" if self.artist else title


def choose_weights(database: Database, model: str | os.PathLike[str] | None) -> Weights:
    """The weights of that name or file that songs were heard with, or those of the last `index`.

    A LibraryError says that no song was heard with these, or that there are no songs.
    """
    rows = database.rows("SELECT id, name, digest, space, tags FROM weights ORDER BY used DESC, id DESC")
    if not rows:
        raise LibraryError(f"the index {database.path} holds no songs yet: 'samptag index FOLDER' hears them")
    if model is None:
        return _weights(rows[0], rows)
    asked = os.fspath(model)
    from samptag.pretrained import load_registry

    entry = load_registry().find(asked)
    found = [row for row in rows if row[1] in (asked, entry and entry.name)]
    if not found and os.path.isfile(asked):
        from samptag.fetch import file_sha256

        digest = file_sha256(Path(asked))
        found = [row for row in rows if row[2] == digest]
    if found:
        return _weights(found[0], rows)
    names = list(dict.fromkeys(str(row[1]) for row in rows))
    if entry is None and not os.path.isfile(asked):
        raise LibraryError(f"no song of the index was heard with {asked!r}: {near(asked, names)}")
    raise LibraryError(
        f"no song of the index was heard with {asked!r}, but with {' and '.join(names)}: "
        f"'samptag index --model {asked}' hears them with it"
    )


def _weights(row: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Weights:
    """The weights in a row of the index; hints at unknown words come from the other rows and the default weights."""
    number, name, digest, space, tags = row

    def elsewhere(word: str) -> str:
        for other in rows:
            if other[1] != name and Vocabulary.from_json(other[4]).find(word) is not None:
                return f"which {other[1]} knows: use --model {other[1]}"
        from samptag.pretrained import DEFAULT, load_registry

        default = load_registry().entries.get(DEFAULT)
        if default is not None and fold(word) in map(fold, default.tags.tags):
            advice = f"'samptag index --model {DEFAULT}' hears them with it"
            return f"which {DEFAULT} knows; the songs were heard with {name}: {advice}"
        return ""

    vocabulary = Vocabulary.from_json(tags, elsewhere=elsewhere)
    return Weights(id=number, name=name, digest=digest, space=space, vocabulary=vocabulary)


def select(
    database: Database, weights: Weights, condition: Condition, *, order: str = "s.path", limit: int | None = None
) -> list[tuple[Any, ...]]:
    """The rows of the songs that are not missing and for which the condition holds."""
    at_most = "" if limit is None else f" LIMIT {limit:d}"
    return database.rows(
        f"SELECT {_COLUMNS} FROM heard h JOIN songs s ON s.audio = h.audio JOIN audio a ON a.id = h.audio "
        f"WHERE h.weights = ? AND NOT s.missing AND {condition.sql} ORDER BY {order}{at_most}",
        weights.id,
        *condition.values,
    )


def song_of(row: Sequence[Any], weights: Weights, *, similarity: float | None = None) -> Song:
    """The song in a row of `select`."""
    path, artist, title, album, duration, scores, audio = row
    return Song(
        path=os.fsdecode(path),
        artist=artist,
        title=title,
        album=album,
        duration=duration or 0.0,
        model=weights.name,
        words=weights.vocabulary.tags,
        packed=scores,
        audio=audio,
        similarity=similarity,
    )


def limit_artists(songs: Iterable[Song], per_artist: int) -> Iterator[Song]:
    """The first `per_artist` songs of each artist, and all songs without an artist."""
    counts: Counter[str] = Counter()
    for song in songs:
        artist = fold(song.artist)
        counts[artist] += 1
        if not artist or counts[artist] <= per_artist:
            yield song


def song_record(song: Song) -> dict[str, Any]:
    """The song as a JSON record of schema samptag.song/1."""
    record: dict[str, Any] = {"schema": "samptag.song/1", **path_fields(song.path)}
    record.update(artist=song.artist, title=song.title, album=song.album, duration=round(song.duration, 3))
    record.update(model=song.model, scores={tag: round(score, 4) for tag, score in song.scores.items()})
    if song.similarity is not None:
        record["similarity"] = round(song.similarity, 4)
    return record


def order_sql(sort: str, vocabulary: Vocabulary) -> str:
    """An order as SQL: by a word or a field, reversed by a minus in front; ties are ordered by path."""
    name, backwards = (sort[1:], True) if sort.startswith("-") and vocabulary.find(sort) is None else (sort, False)
    place, column = vocabulary.find(name), name.casefold()
    if place is not None:
        return f"{score_sql(place)} {'ASC' if backwards else 'DESC'}, s.path"
    if column not in FIELDS:
        raise UsageError(f"cannot sort by {sort!r}, {vocabulary.hint(name, also=(*FIELDS, 'random'))}")
    key = "a.duration" if column == "duration" else f"fold(s.{column})"
    return f"{key} {'DESC' if backwards else 'ASC'}, s.path"
