"""Songs that sound alike: the angle between embeddings, measured from their mean in the library.

One pass over the table reads them in batches, so that memory does not grow with the library.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from samptag.errors import AudioError, LibraryError
from samptag.files import os_errors_as
from samptag.library.audio_bytes import audio_digest
from samptag.library.database import Database
from samptag.library.query import Condition
from samptag.library.songs import Song, Weights, limit_artists, select, song_of
from samptag.tagging.alike import directions

if TYPE_CHECKING:
    from samptag.tagging.tagger import Tagger

Vectors: TypeAlias = NDArray[np.float32]

# Cosine from which two recordings are taken to be the same.
#
# Sixteen songs, 30 s each, compared with themselves as MP3 of 64 and 128 kbit/s, Vorbis, AAC of 96 and Opus of 32
# kbit/s, at 22.05, 44.1 or 48 kHz, reach .9954 at least. Of the 161 596 pairs among 569 tracks two lie above .995, each
# two parts of one song, and two more, one choir's chants, above .99. A song that is half as loud or begins half a
# second later can fall to .962 (.985 on average), where different songs lie too (46 pairs above .97): no threshold
# separates those.
NEAR = 0.995

_SAMPLE = 2048  # songs that the mean is taken of
_ROWS = 1024  # embeddings at once: half a megabyte in float32, which stays in cache
_UNLIKE_WEIGHT = 0.5  # of the songs to avoid, where the songs to resemble have 1


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A song that others are compared with."""

    vector: Vectors  # (size,), its embedding
    audio: int | None  # id of its audio in the index; None if it was heard on the spot


def embedding_of(
    database: Database, weights: Weights, path: str | os.PathLike[str], make_tagger: Callable[[], Tagger]
) -> Seed:
    """The embedding of a song: from the index, by its path or else by its audio, or heard on the spot."""
    name = os.path.abspath(path)
    question = "SELECT e.audio, e.vector FROM embeddings e WHERE e.space = ? AND e.audio = "
    by_path = question + "(SELECT audio FROM songs WHERE path = ? AND size = ? AND mtime_ns = ?)"
    by_audio = question + "(SELECT id FROM audio WHERE digest = ?)"
    with os_errors_as(AudioError, f"cannot open {os.fspath(path)!r}"):
        status = os.stat(name)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a pipe would be waited for
            raise AudioError(f"cannot compare with {os.fspath(path)!r}: not a regular file")
        facts = (os.fsencode(name), status.st_size, status.st_mtime_ns)
        found = database.rows(by_path, weights.space, *facts) or database.rows(
            by_audio, weights.space, audio_digest(name)
        )
    if found:
        return Seed(vector=unpacked(found[0][1])[0], audio=found[0][0])
    result = make_tagger().tag(name)
    if result.embedding is None:
        raise AudioError(f"{os.fspath(path)!r} has no embedding")
    return Seed(vector=result.embedding, audio=None)


def similar_songs(
    database: Database,
    weights: Weights,
    seeds: Sequence[Seed],
    *,
    unlike: Sequence[Seed] = (),
    n: int = 25,
    condition: Condition | None = None,
    per_artist: int | None = None,
) -> list[Song]:
    """The songs most like `seeds` and least like `unlike`, most similar first; see `Library.similar`."""
    search = _Search(database, weights, [*seeds, *unlike], condition)
    query = search.directions(seeds).mean(axis=0)
    if unlike:
        query = query - _UNLIKE_WEIGHT * search.directions(unlike).mean(axis=0)
    query /= max(float(np.linalg.norm(query)), 1e-9)
    ids, cosines = search.cosines(query[None])
    songs = search.songs(ids, cosines[:, 0])
    if per_artist is not None:
        songs = limit_artists(songs, per_artist)
    return list(islice(songs, max(n, 0)))


def path_between(
    database: Database, weights: Weights, start: Seed, end: Seed, *, n: int = 25, condition: Condition | None = None
) -> list[Song]:
    """Songs that lead from `start` to `end` in `n` even steps, without these two.

    Each step takes the song nearest to a point on the arc between the two embeddings, of those not taken yet.
    """
    search = _Search(database, weights, [start, end], condition)
    ends = search.directions([start, end])
    ids, cosines = search.cosines(ends)
    angle = max(float(np.arccos(np.clip(ends[0] @ ends[1], -1, 1))), 1e-3)
    songs = []
    for step in range(1, n + 1):
        share = step / (n + 1)
        towards = np.array([np.sin((1 - share) * angle), np.sin(share * angle)]) / np.sin(min(angle, np.pi - 1e-3))
        song = next(search.songs(ids, cosines @ towards.astype(np.float32)), None)
        if song is None:
            break
        songs.append(song)
    return songs


def all_embeddings(database: Database, space: int) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Ids of audio, (k,), and their embeddings, (k, size), some thousand at a time."""
    for numbers, packed in packed_embeddings(database, space):
        yield numbers, unpacked(packed, len(numbers))


def packed_embeddings(database: Database, space: int) -> Iterator[tuple[NDArray[np.int64], bytes]]:
    """As `all_embeddings`, in float16 as they are stored; `unpacked` reads them."""
    cursor = database.connection.execute(
        "SELECT audio, vector FROM embeddings NOT INDEXED WHERE space = ? ORDER BY id", (space,)
    )
    while rows := cursor.fetchmany(_ROWS):
        numbers, vectors = zip(*rows, strict=True)
        yield np.array(numbers), b"".join(vectors)


def unpacked(packed: bytes | NDArray[np.int16], rows: int = 1) -> Vectors:
    """Float16 numbers as float32, (rows, size).

    By their bits: NumPy's own conversion took up to twenty times as long (100 000 embeddings: 1.0 s against 0.05 s),
    most of the time of a whole search. The bits are moved to their places, all copies of the sign but one are cleared,
    and the different bias of the exponent is made up for by a factor, which is exact.
    """
    bits = np.frombuffer(packed, "<i2").reshape(rows, -1).astype(np.int32)
    bits <<= 13
    bits &= np.array(0x8FFF_E000, np.uint32).view(np.int32)
    values: Vectors = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


class _Search:
    """One search: the songs allowed, without the seeds, those returned before, and recordings that sound the same."""

    def __init__(
        self, database: Database, weights: Weights, seeds: Sequence[Seed], condition: Condition | None
    ) -> None:
        self._database, self._weights = database, weights
        self._mean = self._mean_embedding()
        self._allowed: set[int] | None = None
        if condition is not None and condition.sql != "1":
            self._allowed = {row[-1] for row in select(database, weights, condition, order="s.id")}
        self._taken = {seed.audio for seed in seeds}
        self._taken_directions = list(self.directions(seeds))

    def _mean_embedding(self) -> Vectors:
        """The mean embedding of the library, or in a large one of a sample spread evenly over it."""
        ask, space = self._database.rows, self._weights.space
        count, last = ask("SELECT count(*), max(id) FROM embeddings WHERE space = ?", space)[0]
        if not count:
            where = f"the index {self._database.path}"
            raise LibraryError(f"{where} holds no embeddings of {self._weights.name}: index again")
        numbers = range(1, last + 1, max(1, last // _SAMPLE))
        chosen = ",".join(map(str, numbers)) if count > _SAMPLE else "SELECT id FROM embeddings"
        rows = ask(f"SELECT vector FROM embeddings WHERE id IN ({chosen}) AND space = ?", space)
        mean: Vectors = unpacked(b"".join(vector for (vector,) in rows), len(rows)).mean(axis=0)
        return mean

    def directions(self, seeds: Sequence[Seed]) -> Vectors:
        """Unit vectors from the library's mean to songs, (songs, size)."""
        return directions(np.stack([seed.vector for seed in seeds]), self._mean)

    def cosines(self, units: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        """Ids of all audio, and the cosines of their centred embeddings with each of `units`: (n,), (n, units)."""
        rows = [*units, self._mean]
        offset, mean_square = units @ self._mean, float(self._mean @ self._mean)
        ids, cosines = [], []
        for numbers, vectors in all_embeddings(self._database, self._weights.space):
            # |x - m|^2 and (x - m)q are computed from x itself, which saves the pass that subtracts, and by einsum:
            # BLAS took four times as long for so thin a product, waking its threads.
            products = np.stack([np.einsum("ij,j->i", vectors, row) for row in rows], axis=1)
            squares = np.einsum("ij,ij->i", vectors, vectors) - 2 * products[:, -1] + mean_square
            ids.append(numbers)
            cosines.append((products[:, :-1] - offset) / np.sqrt(np.maximum(squares, 1e-12))[:, None])
        return np.concatenate(ids), np.concatenate(cosines)

    def songs(self, ids: NDArray[np.int64], near: Vectors) -> Iterator[Song]:
        """The songs that are not missing and not taken yet, one for each audio, the highest of `near` first."""
        question = "SELECT vector FROM embeddings WHERE space = ? AND audio = ?"
        for place in np.argsort(-near, kind="stable"):
            audio = int(ids[place])
            if self._allowed is not None and audio not in self._allowed:
                continue
            rows = select(self._database, self._weights, Condition(sql="h.audio = ?", values=(audio,)), limit=1)
            if not rows:
                continue
            vector = unpacked(self._database.rows(question, self._weights.space, audio)[0][0])
            unit = directions(vector, self._mean)[0]
            if audio in self._taken or max(float(unit @ other) for other in self._taken_directions) >= NEAR:
                continue
            self._taken.add(audio)
            self._taken_directions.append(unit)
            yield song_of(rows[0], self._weights, similarity=float(near[place]))
