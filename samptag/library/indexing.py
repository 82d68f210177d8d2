"""Filling the index: new files are heard, moved files are recognised, everything else is left as it is."""

from __future__ import annotations

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
from samptag.files import os_reason
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

# A batch is one transaction: the most that a kill can cost, and how often a commit waits for the disk.
_BATCH_SONGS, _BATCH_SECONDS = 64, 2.0


@dataclass
class IndexReport:
    """What one run of `index` did, in numbers of songs."""

    heard: int = 0  # went through the model
    known: int = 0  # had been heard before under another name or with other tags
    moved: int = 0  # found under a new name or in a new folder
    unchanged: int = 0  # not touched
    failed: int = 0  # could not be decoded; they are remembered and left alone until they change
    still_broken: int = 0  # failed in an earlier run and have not changed
    missing: int = 0  # not found in these folders; they stay in the index until they are pruned
    seconds: float = 0.0  # of audio that was heard


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Callbacks that report the progress of indexing; all are optional."""

    # Called once, with the number of new or changed songs; and before it, if these weights are new to the index, with
    # the name of the last run's weights, how many of their songs are heard again now, and how many are not.
    begin: Callable[[int], None] = lambda count: None
    anew: Callable[[str, int, int], None] = lambda name, again, left: None
    seconds: Callable[[float], None] = lambda amount: None  # from other threads: decoded since the last call
    warn: Callable[[str], None] = lambda message: None  # a line about an odd file
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
    digest: bytes | None = None  # of its audio; None if it could not be read
    error: str | None = None


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
    """The id of the weights file with this sha256 in the index, or None."""
    rows = database.rows("SELECT id FROM weights WHERE digest = ?", digest)
    return int(rows[0][0]) if rows else None


def remember_weights(
    database: Database, digest: str, card: ModelCard, *, space: int | None = None, head: bytes | None = None
) -> int:
    """Add weights to the index, unless it has them, and return their id; call it inside a transaction.

    `digest` is the file's sha256. Weights that were learned on the body of others have the same embeddings: `space` is
    the id of the others, and `head` the learned classifier from `head_bytes`, which then scores whatever they hear.
    """
    known = weights_id(database, digest)
    if known is not None:
        return known
    words = Vocabulary.of_card(card).to_json()
    cursor = database.connection.execute(
        "INSERT INTO weights (digest, name, tags, space, used, head) VALUES (?, ?, ?, ?, ?, ?)",
        # Learned weights have to be named: the default stays the weights that heard the songs.
        (digest, card.name, words, space or 0, time.time() if space is None else 0.0, head),
    )
    number = int(cursor.lastrowid or 0)
    if space is None:
        database.connection.execute("UPDATE weights SET space = id WHERE id = ?", (number,))
    return number


class IndexRun:
    """One run that brings the index up to date with folders and files; the caller holds the database for writing.

    `roots` are absolute paths, or empty for all that were indexed before; if nothing was, it is a LibraryError.
    `digest` is the sha256 of the weights file. `make_tagger` returns the Tagger of these weights, given about how many
    seconds of music it is for, and is called only if there are any.
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
        self.lost: set[bytes] = set()  # missing files that are in none of the folders
        self.roots = roots or self._known_roots()
        self.gone: dict[bytes, int] = {}  # the ids of missing songs, by path
        self.audio = dict(database.rows("SELECT digest, id FROM audio"))
        self.heard = {audio for (audio,) in database.rows("SELECT audio FROM heard WHERE weights = ?", self.weights)}
        # Digests that the model has heard or hears in this run: the same audio under two names is heard once.
        self.claimed = {digest for digest, audio in self.audio.items() if audio in self.heard}
        self.waiting: dict[str, _Song] = {}  # are being heard, by path
        # Need not be heard, or have the same audio as a song that is; filled in the tagger's threads.
        self.doubles: deque[_Song] = deque()
        self.batch: list[tuple[_Song, TrackResult | None]] = []  # to be written next
        self.lock = threading.Lock()
        self.is_sound = True  # False during a transaction: until it ends, the database may not hold what is noted here

    def _known_roots(self) -> list[str]:
        """The folders that were indexed before, and the files that were indexed by their own names."""
        folders = [path for (path,) in self.database.rows("SELECT path FROM folders ORDER BY path")]
        files = sorted(path for path in self.rows if not _below(path, folders))
        if not folders and not files:
            raise LibraryError("nothing has been indexed yet: name the folder of your music")
        there = [path for path in files if os.path.lexists(path)]
        self.lost = {path for path in set(files).difference(there) if _has_entries(os.path.dirname(path))}
        return [os.fsdecode(path) for path in (*folders, *there)]

    def run(self) -> IndexReport:
        """Hear what is new or changed, and recognise what has moved."""
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
        """The new or changed songs, the paths that were found, and those that could not be read or listed."""
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
                    problem = f"cannot index {item.path!r}: not a regular file"
            except OSError as error:
                problem = problem or f"cannot open {item.path!r}: {os_reason(error)}"
            if problem is not None:
                self._fail(problem)
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

    def _fail(self, error: object) -> None:
        self.report.failed += 1
        self.observer.fail(str(error))

    def _touch(self, seen: set[bytes], unreadable: list[bytes]) -> None:
        """Record the folders, and which songs are missing from them or back again.

        Nothing is called missing from a folder that cannot be listed or is empty: a drive may be unplugged.
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
        try:
            if first is not None:
                tagger = self.make_tagger(sum(guessed_seconds(song.path, song.size) for song in songs))
                self._hear(tagger, chain([first], to_hear))
                self._keep()
                if self.doubles:
                    self._hear(tagger, self._doubles_to_hear())
        finally:
            if self.is_sound:
                self._keep()

    def _hear(self, tagger: Tagger, inputs: Iterator[Input]) -> None:
        if self.weights is None:
            with self.database.transaction():
                self.weights = remember_weights(self.database, self.digest, tagger.card)
        last = time.monotonic()
        for result in tagger.tag_many(inputs, taggram=False, on_seconds=self.observer.seconds):
            song = self.waiting.pop(result.path)
            self.batch.append((song, result))
            for warning in result.warnings:
                self.observer.warn(f"{song.path}: {warning}")
            if len(self.batch) >= _BATCH_SONGS or time.monotonic() - last > _BATCH_SECONDS:
                self._keep()
                last = time.monotonic()
            self.observer.done()

    def _keep(self) -> None:
        """Write the songs that were heard, and then those that have the same audio or need not be heard."""
        self._store()
        unheard: list[_Song] = []
        while self.doubles:
            song = self.doubles.popleft()
            if song.digest is not None and self.audio.get(song.digest) not in self.heard:
                unheard.append(song)
                continue
            self.batch.append((song, None))
            self.observer.done()
        self.doubles.extend(unheard)
        self._store()

    def _doubles_to_hear(self) -> Iterator[Input]:
        """The doubles of songs that failed, to be heard themselves, unless one of them has been heard by then."""
        for song in [self.doubles.popleft() for _ in range(len(self.doubles))]:
            if self.audio.get(song.digest or b"") in self.heard:
                self.doubles.append(song)
            else:
                self.waiting[song.path] = song
                yield Input(path=song.path, source=song.path)

    def _to_hear(self, songs: Sequence[_Song]) -> Iterator[Input]:
        """The songs that the model must hear; the rest become `doubles`. It runs in the tagger's threads."""
        for song in songs:
            try:
                song.digest = audio_digest(song.path)
                song.fields = read_fields(song.path)
            except OSError as error:
                song.error = f"{song.path}: cannot be read: {os_reason(error)}"
            with self.lock:
                if song.digest is None or song.digest in self.claimed:
                    self.doubles.append(song)
                    continue
                self.claimed.add(song.digest)
                self.waiting[song.path] = song
            yield Input(path=song.path, source=song.path)

    def _store(self) -> None:
        """Write the batch in one transaction, and empty it."""
        self.is_sound = False
        with self.database.transaction():
            for song, result in self.batch:
                self._store_song(song, result)
        self.batch.clear()
        self.is_sound = True

    def _store_song(self, song: _Song, result: TrackResult | None) -> None:
        ask = self.database.connection.execute
        if result is not None and result.error is not None:
            song.error = result.error.message
        if song.error is not None or song.digest is None:
            self._fail(song.error)
            # Only a fault of the file itself is remembered: memory that ran out may suffice next time.
            if result is not None and result.error is not None and result.error.type == "AudioError":
                self._store_row(song, None)
            return
        if _has_changed(song):
            self.observer.warn(f"{song.path}: it changed while it was being read; the next run will index it")
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
        """Write the song's row; return whether it is the row of a file that has moved here."""
        ask = self.database.connection.execute
        names = map(song.fields.get, ("artist", "title", "album"))
        values = (os.fsencode(song.path), song.size, song.mtime_ns, audio, *names, reader_rank(), song.error)
        columns, marks = "path, size, mtime_ns, audio, artist, title, album, reader, error", "?, ?, ?, ?, ?, ?, ?, ?, ?"
        renew = f"UPDATE songs SET ({columns}, missing) = ({marks}, 0) WHERE id = ?"
        if song.row is not None:
            ask(renew, (*values, song.row.id))
            return False
        for number, path in ask("SELECT id, path FROM songs WHERE audio = ?", (audio,)).fetchall():
            if not os.path.lexists(path):
                ask(renew, (*values, number))
                self.report.missing -= path in self.gone
                return True
        ask(f"INSERT INTO songs ({columns}) VALUES ({marks})", values)
        return False


def head_bytes(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """A classifier, (words, size) and (words,), as the index stores it."""
    import numpy as np

    return np.concatenate([weight, bias[:, None]], axis=1).astype("<f4").tobytes()


def head_scores(head: bytes, embeddings: NDArray[np.float32]) -> NDArray[np.float16]:
    """The scores that a classifier from `head_bytes` gives embeddings, (songs, size): (songs, words), big-endian."""
    import numpy as np

    table = np.frombuffer(head, "<f4").reshape(-1, embeddings.shape[1] + 1)
    logits = embeddings.astype(np.float64) @ table[:, :-1].T + table[:, -1]
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)), dtype=">f2")


def prune(database: Database, names: Sequence[str | os.PathLike[str]]) -> int:
    """Forget the missing songs below folders, or all of them; return how many there were."""
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
