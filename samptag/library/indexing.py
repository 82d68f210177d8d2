"""Filling the index: what is new is heard, what has moved is followed, everything else is left as it is."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from samptag.errors import LibraryError
from samptag.library.audio_bytes import audio_digest
from samptag.library.database import Database
from samptag.library.fields import read_fields, reader_rank
from samptag.library.words import Vocabulary
from samptag.tagging.files import Input, expand_inputs, guessed_seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samptag.core.card import ModelCard
    from samptag.tagging.result import TrackResult
    from samptag.tagging.tagger import Tagger

# A batch is one transaction: what a kill can cost, and how often the disk is waited for.
_BATCH_SONGS, _BATCH_SECONDS = 64, 2.0


@dataclass
class IndexReport:
    """What one run of `index` did: numbers of songs."""

    heard: int = 0  # whose sound went through the model
    known: int = 0  # whose sound had been heard before under another name or with other tags
    moved: int = 0  # found under a new name or in a new folder
    unchanged: int = 0  # not touched
    failed: int = 0  # files that could not be heard; they are remembered and left alone until they change
    still_broken: int = 0  # files that failed in an earlier run and have not changed
    missing: int = 0  # of these folders, not found; they stay in the index until they are pruned
    seconds: float = 0.0  # duration of what was heard


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Who is told while an index is made; every field may be left as it is."""

    # Once, how many songs are new or changed; before it, where these weights are new to the index, the name of those of
    # the last run, how many of its songs are heard again now, and how many are not.
    begin: Callable[[int], None] = lambda count: None
    anew: Callable[[str, int, int], None] = lambda name, again, left: None
    seconds: Callable[[float], None] = lambda amount: None  # from other threads: that were decoded since
    warn: Callable[[str], None] = lambda message: None  # a line about a file that is odd
    fail: Callable[[str], None] = lambda message: None  # a line about a file that failed
    done: Callable[[], None] = lambda: None  # after each of the new or changed songs


@dataclass(kw_only=True)
class _Song:
    """A file that is new or changed."""

    path: str
    size: int
    mtime_ns: int
    row: _Row | None
    fields: dict[str, str | None] = field(default_factory=dict)
    digest: bytes | None = None  # None where it could not be read
    error: str | None = None

    @property
    def name(self) -> bytes:
        return os.fsencode(self.path)


class _Row(NamedTuple):
    """What the index knows of a path."""

    id: int
    size: int
    mtime_ns: int
    audio: int | None
    error: str | None
    reader: int
    missing: int


def weights_id(database: Database, digest: str) -> int | None:
    """The number under which the index knows the weights file with this sha256, or None."""
    rows = database.rows("SELECT id FROM weights WHERE digest = ?", digest)
    return int(rows[0][0]) if rows else None


def remember_weights(
    database: Database, digest: str, card: ModelCard, *, space: int | None = None, head: bytes | None = None
) -> int:
    """The number of weights that the index is to know from now on; call it inside a transaction.

    `digest` is the file's sha256, `space` the number of weights with the same body, whose embeddings are the same (None
    for a body of their own), `head` the classifier of weights that were learned on that body, see `head_bytes`: what
    the body hears, they score.
    """
    known = weights_id(database, digest)
    if known is not None:
        return known
    words = json.dumps(Vocabulary.of_card(card).to_json(), ensure_ascii=False)
    cursor = database.connection.execute(
        "INSERT INTO weights (digest, name, tags, space, used, head) VALUES (?, ?, ?, ?, ?, ?)",
        # Learned weights are asked for by name: those that hear stay the ones that are meant without.
        (digest, card.name, words, space or 0, time.time() if space is None else 0.0, head),
    )
    number = int(cursor.lastrowid or 0)
    if space is None:
        database.connection.execute("UPDATE weights SET space = id WHERE id = ?", (number,))
    return number


class IndexRun:
    """One run that brings the index up to date with folders and files; the caller holds the database for writing.

    `roots` are absolute paths, none for all that were indexed before, and a LibraryError where there are none either.
    `digest` is the sha256 of the weights file; `make_tagger` gives the Tagger of these weights for about so many
    seconds of music, and is called only where there is any to hear.
    """

    def __init__(
        self,
        database: Database,
        roots: list[str],
        digest: str,
        make_tagger: Callable[[float], Tagger],
        observer: Observer,
    ) -> None:
        self.database, self.observer = database, observer
        self.digest, self.make_tagger = digest, make_tagger
        self.report = IndexReport()
        self.weights = weights_id(database, digest)
        known = "SELECT path, id, size, mtime_ns, audio, error, reader, missing FROM songs"
        self.rows = {path: _Row(*rest) for path, *rest in database.rows(known)}
        self.lost: set[bytes] = set()  # are missing though they lie below none of the folders
        self.roots = roots or self._known_roots()
        self.gone: dict[bytes, int] = {}  # what is missing now, with its number
        self.audio = dict(database.rows("SELECT digest, id FROM audio"))
        self.heard = {audio for (audio,) in database.rows("SELECT audio FROM heard WHERE weights = ?", self.weights)}
        # Digests the model has heard, or hears in this run: the same sound under two names is heard once.
        self.claimed = {digest for digest, audio in self.audio.items() if audio in self.heard}
        self.ready: deque[_Song] = deque()  # need no hearing; filled in the tagger's threads
        self.doubles: list[_Song] = []  # sound like others that are being heard, or could not be
        self.waiting: dict[str, _Song] = {}  # are being heard, by path
        self.lock = threading.Lock()
        self.is_sound = True  # False from the beginning of a transaction to its end: what is noted here may not be so

    def _known_roots(self) -> list[str]:
        """The folders that were indexed before, and the files that were indexed by their own names."""
        folders = [path for (path,) in self.database.rows("SELECT path FROM folders ORDER BY path")]
        files = sorted(path for path in self.rows if not _below(path, folders))
        if not folders and not files:
            raise LibraryError("nothing was indexed before: name the folder of your music")
        there = [path for path in files if os.path.lexists(path)]
        self.lost = {path for path in set(files).difference(there) if _has_entries(os.path.dirname(path))}
        return [os.fsdecode(path) for path in (*folders, *there)]

    def run(self) -> IndexReport:
        """Hear what is new or changed, and follow what has moved."""
        inputs = expand_inputs(self.roots)
        songs, seen, unreadable = self._sort_out(inputs)
        self._touch(seen, unreadable)
        if songs:
            last = self.database.rows("SELECT name FROM weights ORDER BY used DESC, id DESC LIMIT 1")
            if last and self.weights is None:
                again = sum(song.row is not None and song.row.audio is not None for song in songs)
                present = self.database.rows("SELECT count(*) FROM songs WHERE audio NOT NULL AND NOT missing")[0][0]
                self.observer.anew(last[0][0], again, present - again)
            self.observer.begin(len(songs))
            self._take_in(songs)
        return self.report

    def _sort_out(self, inputs: list[Input]) -> tuple[list[_Song], set[bytes], list[bytes]]:
        """What is new or changed; the paths that were found; and where nothing could be listed."""
        songs: list[_Song] = []
        seen: set[bytes] = set()
        unreadable: list[bytes] = []
        for item in inputs:
            name = os.fsencode(item.path)
            if name in seen:
                continue
            problem: object = item.error
            try:
                status = os.stat(item.path)
                if problem is None and not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                    problem = f"cannot index {item.path!r}: it is no regular file"
            except OSError as error:
                problem = problem or f"cannot open {item.path!r}: {error.strerror}"
            if problem is not None:
                self._fail_unseen(problem)
                unreadable.append(name)
                continue
            seen.add(name)
            row = self.rows.get(name)
            if row is None or not self._is_unchanged(row, status):
                songs.append(_Song(path=item.path, size=status.st_size, mtime_ns=status.st_mtime_ns, row=row))
            elif row.error is not None:
                self.report.still_broken += 1
            else:
                self.report.unchanged += 1
        return songs, seen, unreadable

    def _is_unchanged(self, row: _Row, status: os.stat_result) -> bool:
        if (row.size, row.mtime_ns) != (status.st_size, status.st_mtime_ns) or row.reader < reader_rank():
            return False
        if row.error is not None:
            return not ("PyAV" in row.error and find_spec("av"))
        return row.audio in self.heard

    def _fail_unseen(self, error: object) -> None:
        self.report.failed += 1
        self.observer.fail(str(error))

    def _touch(self, seen: set[bytes], unreadable: list[bytes]) -> None:
        """Note the folders, and what is missing below them or back again.

        Below a folder that cannot be listed, or that is empty now, nothing is called missing: a drive may be unplugged.
        """
        folders = [os.fsencode(root) for root in self.roots if os.path.isdir(root)]
        back = []
        for path, row in self.rows.items():
            if path in seen:
                if row.missing:
                    back.append((row.id,))
            elif path in self.lost or (_below(path, folders) and not _below(path, unreadable)):
                self.gone[path] = row.id
        self.report.missing = len(self.gone)
        now = time.time()
        with self.database.transaction() as connection:
            known = [path for (path,) in connection.execute("SELECT path FROM folders")]
            tops = [path for path in folders if not _below(path, [p for p in (*known, *folders) if p != path])]
            inner = [(path,) for path in known if _below(path, [top for top in tops if top != path])]
            connection.executemany("DELETE FROM folders WHERE path = ?", inner)
            connection.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?)", [(path, now) for path in tops])
            connection.executemany("UPDATE songs SET missing = 1 WHERE id = ?", [(row,) for row in self.gone.values()])
            connection.executemany("UPDATE songs SET missing = 0 WHERE id = ?", back)
            connection.execute("UPDATE weights SET used = ? WHERE digest = ?", (now, self.digest))

    def _take_in(self, songs: list[_Song]) -> None:
        to_hear = self._to_hear(songs)
        first = next(to_hear, None)
        batch: list[tuple[_Song, TrackResult | None]] = []
        try:
            if first is not None:
                tagger = self.make_tagger(sum(guessed_seconds(song.path, song.size) for song in songs))
                self._hear(tagger, chain([first], to_hear), batch)
                self._keep(batch)
                if self.doubles:
                    self._hear(tagger, self._doubles_to_hear(), batch)
        finally:
            if self.is_sound:
                self._keep(batch)

    def _hear(self, tagger: Tagger, inputs: Iterator[Input], batch: list[tuple[_Song, TrackResult | None]]) -> None:
        if self.weights is None:
            with self.database.transaction():
                self.weights = remember_weights(self.database, self.digest, tagger.card)
        last = time.monotonic()
        for result in tagger.tag_many(inputs, taggram=False, on_seconds=self.observer.seconds):
            song = self.waiting.pop(result.path)
            batch.append((song, result))
            for warning in result.warnings:
                self.observer.warn(f"{song.path}: {warning}")
            if len(batch) >= _BATCH_SONGS or time.monotonic() - last > _BATCH_SECONDS:
                self._keep(batch)
                last = time.monotonic()
            self.observer.done()

    def _keep(self, batch: list[tuple[_Song, TrackResult | None]]) -> None:
        """Write what was heard, and then what sounds like it or needs no hearing."""
        self._store(batch)
        while self.ready:
            self.doubles.append(self.ready.popleft())
        unheard: list[_Song] = []
        for song in self.doubles:
            if song.digest is not None and self.audio.get(song.digest) not in self.heard:
                unheard.append(song)
                continue
            batch.append((song, None))
            self.observer.done()
        self.doubles = unheard
        self._store(batch)

    def _doubles_to_hear(self) -> Iterator[Input]:
        """Those of the doubles whose like failed, while the rest becomes `ready`."""
        doubles, self.doubles = self.doubles, []
        for song in doubles:
            if self.audio.get(song.digest or b"") in self.heard:
                self.ready.append(song)
            else:
                self.waiting[song.path] = song
                yield Input(path=song.path, source=song.path)

    def _to_hear(self, songs: Sequence[_Song]) -> Iterator[Input]:
        """What the model must hear of `songs`, while the rest becomes `ready`; runs in the tagger's threads."""
        for song in songs:
            try:
                song.digest = audio_digest(song.path)
                song.fields = read_fields(song.path)
            except OSError as error:
                song.error = f"{song.path}: cannot be read: {error.strerror}"
            with self.lock:
                if song.digest is None or song.digest in self.claimed:
                    self.ready.append(song)
                    continue
                self.claimed.add(song.digest)
                self.waiting[song.path] = song
            yield Input(path=song.path, source=song.path)

    def _store(self, batch: list[tuple[_Song, TrackResult | None]]) -> None:
        """Write what is in `batch`, which is then empty."""
        self.is_sound = False
        with self.database.transaction():
            for song, result in batch:
                self._store_song(song, result)
        batch.clear()
        self.is_sound = True

    def _store_song(self, song: _Song, result: TrackResult | None) -> None:
        ask = self.database.connection.execute
        if result is not None and result.error is not None:
            song.error = result.error.message
        if song.error is not None or song.digest is None:
            self._fail_unseen(song.error)
            # Only what is wrong with the file itself is remembered: memory that ran out is another matter next time.
            if result is not None and result.error is not None and result.error.type == "AudioError":
                self._store_row(song, None)
            return
        if _has_changed(song):
            self.observer.warn(f"{song.path}: it changed while it was read; the next run takes it in")
            return
        audio = self.audio.get(song.digest)
        if audio is None:
            heard = (song.digest, None if result is None else result.duration)
            audio = int(ask("INSERT INTO audio (digest, duration) VALUES (?, ?)", heard).lastrowid or 0)
            self.audio[song.digest] = audio
        if result is not None:
            self._store_result(audio, result)
        if self._store_row(song, audio):
            self.report.moved += 1
        elif result is None:
            self.report.known += 1

    def _store_result(self, audio: int, result: TrackResult) -> None:
        import numpy as np

        ask = self.database.connection.execute
        scores = np.array([item.score for item in result.scores], dtype=">f2").tobytes()
        ask("INSERT OR REPLACE INTO heard VALUES (?, ?, ?)", (self.weights, audio, scores))
        ask("UPDATE audio SET duration = ? WHERE id = ?", (result.duration, audio))
        if result.embedding is not None:
            space = ask("SELECT space FROM weights WHERE id = ?", (self.weights,)).fetchone()[0]
            vector = np.asarray(result.embedding, dtype="<f2").tobytes()
            ask("INSERT OR REPLACE INTO embeddings (space, audio, vector) VALUES (?, ?, ?)", (space, audio, vector))
            learned = "SELECT id, head FROM weights WHERE space = ? AND head NOT NULL AND id != ?"
            for number, head in ask(learned, (space, self.weights)).fetchall():
                packed = head_scores(head, np.asarray(result.embedding)[None])[0].tobytes()
                ask("INSERT OR IGNORE INTO heard VALUES (?, ?, ?)", (number, audio, packed))
        self.heard.add(audio)
        self.report.heard += 1
        self.report.seconds += result.duration

    def _store_row(self, song: _Song, audio: int | None) -> bool:
        """Write the song's row; whether it is the one of a song that has moved."""
        ask = self.database.connection.execute
        names = map(song.fields.get, ("artist", "title", "album"))
        values = (song.size, song.mtime_ns, audio, *names, reader_rank(), song.error)
        columns, marks = "size, mtime_ns, audio, artist, title, album, reader, error", "?, ?, ?, ?, ?, ?, ?, ?"
        if song.row is not None:
            ask(f"UPDATE songs SET ({columns}, missing) = ({marks}, 0) WHERE id = ?", (*values, song.row.id))
            return False
        for number, path in ask("SELECT id, path FROM songs WHERE audio = ?", (audio,)).fetchall():
            if not os.path.lexists(path):
                renewed = f"UPDATE songs SET (path, {columns}, missing) = (?, {marks}, 0) WHERE id = ?"
                ask(renewed, (song.name, *values, number))
                self.report.missing -= path in self.gone
                return True
        ask(f"INSERT INTO songs (path, {columns}) VALUES (?, {marks})", (song.name, *values))
        return False


def head_bytes(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """A classifier, (words, size) and (words,), as the index keeps it."""
    import numpy as np

    return np.concatenate([weight, bias[:, None]], axis=1).astype("<f4").tobytes()


def head_scores(head: bytes, embeddings: NDArray[np.float32]) -> NDArray[np.float16]:
    """What a classifier from `head_bytes` says of embeddings, (songs, size): scores (songs, words), big-endian."""
    import numpy as np

    table = np.frombuffer(head, "<f4").reshape(-1, embeddings.shape[1] + 1)
    logits = embeddings.astype(np.float64) @ table[:, :-1].T + table[:, -1]
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)), dtype=">f2")


def prune(database: Database, names: Sequence[str | os.PathLike[str]]) -> int:
    """Forget the missing songs below folders, or all of them; how many they were."""
    folders = [os.fsencode(os.path.abspath(name)) for name in names]
    missing = database.rows("SELECT id, path FROM songs WHERE missing")
    gone = [(number,) for number, path in missing if not folders or _below(path, folders)]
    with database.transaction() as connection:
        connection.executemany("DELETE FROM songs WHERE id = ?", gone)
        connection.execute("DELETE FROM audio WHERE id NOT IN (SELECT audio FROM songs WHERE audio NOT NULL)")
        connection.execute("DELETE FROM heard WHERE audio NOT IN (SELECT id FROM audio)")
        connection.execute("DELETE FROM embeddings WHERE audio NOT IN (SELECT id FROM audio)")
    return len(gone)


def _has_changed(song: _Song) -> bool:
    try:
        status = os.stat(song.path)
    except OSError:
        return True
    return (status.st_size, status.st_mtime_ns) != (song.size, song.mtime_ns)


def _has_entries(folder: bytes) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return False


def _below(path: bytes, folders: Sequence[bytes]) -> bool:
    separator = os.fsencode(os.sep)
    return any(path == folder or path.startswith(folder.rstrip(separator) + separator) for folder in folders)
