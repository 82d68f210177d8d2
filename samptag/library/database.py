"""The index on disk: one SQLite file, its tables, its lock for writers, and the messages when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from samptag.errors import LibraryError
from samptag.files import data_folder, locked, os_errors_as, os_reason
from samptag.library.words import fold

VERSION = 1
_APPLICATION = 0x53544147  # "STAG": the application_id that tells an index from other SQLite files
_BUSY_SECONDS = 10.0

# Scores and embeddings belong to the audio, not to the file, so that a song that is moved, copied or retagged is heard
# once. Scores are big-endian float16, whose bytes sort as the numbers do, so that SQL compares them without decoding.
# Embeddings are in a separate table, seven to a page: a search by scores does not read them.
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE folders (path BLOB PRIMARY KEY, indexed REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE audio (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, duration REAL);
CREATE TABLE songs (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    audio INTEGER REFERENCES audio, artist TEXT, title TEXT, album TEXT, reader INTEGER NOT NULL,
    error TEXT, missing INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX songs_by_audio ON songs (audio);
CREATE TABLE weights (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, tags TEXT NOT NULL,
    space INTEGER NOT NULL, used REAL NOT NULL, head BLOB
);
CREATE TABLE heard (
    weights INTEGER NOT NULL, audio INTEGER NOT NULL, scores BLOB NOT NULL, PRIMARY KEY (weights, audio)
) WITHOUT ROWID;
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY, space INTEGER NOT NULL, audio INTEGER NOT NULL, vector BLOB NOT NULL, UNIQUE (space, audio)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, began REAL NOT NULL, weights TEXT NOT NULL, fields TEXT NOT NULL, mode TEXT NOT NULL
);
CREATE TABLE writes (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, path BLOB NOT NULL, state TEXT NOT NULL,
    old TEXT NOT NULL, new TEXT NOT NULL, size INTEGER, mtime_ns INTEGER,
    copy BLOB, copy_inode INTEGER, copy_size INTEGER, copy_mtime_ns INTEGER
);
CREATE INDEX writes_by_run ON writes (run);
"""


def default_path() -> Path:
    """The default index: ``library.db`` in the user's data folder."""
    return data_folder() / "library.db"


class Database:
    """An open index; with `create` it is made if missing, without it must exist and is only read (`read_only`).

    A LibraryError says that the file is missing, not an index, damaged, of a newer version, or cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path, self.read_only = path, not create
        if not create and not (path.is_file() and path.stat().st_size):
            raise LibraryError(f"there is no index at {path}: 'samptag index FOLDER' creates one")
        with self.explained():
            if create:
                with os_errors_as(LibraryError, f"cannot create the folder {path.parent}"):
                    path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = self._open(create)
            try:
                self._check(create)
            except BaseException:
                self.connection.close()
                raise

    def _open(self, create: bool) -> sqlite3.Connection:
        from urllib.parse import quote

        address = "file:" + quote(os.fsencode(os.path.abspath(self.path)))
        if create:
            connection = _connect(f"{address}?mode=rwc")
            if not connection.execute("PRAGMA page_count").fetchone()[0]:
                connection.execute("PRAGMA page_size = 8192")
            return connection
        if os.access(self.path.parent, os.W_OK) and os.access(self.path, os.W_OK):
            return _connect(f"{address}?mode=rw")
        # Where nothing can be created beside the file it is opened as immutable, but not if a writer that is running or
        # was killed has a log there, which is part of the index: SQLite reads a log only with the -shm file beside it.
        log = Path(f"{self.path}-wal")
        if not (log.is_file() and log.stat().st_size):
            return _connect(f"{address}?immutable=1")
        try:
            return _connect(f"{address}?mode=ro")
        except sqlite3.OperationalError as error:
            raise LibraryError(
                f"the index {self.path} cannot be read where it is: its latest changes are in {log.name}, and its "
                "folder is read-only: copy both files to a folder you can write to and name the copy with --db"
            ) from error

    def _check(self, create: bool) -> None:
        ask = self.connection.execute
        tables = ask("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version, mark = ask("PRAGMA user_version").fetchone()[0], ask("PRAGMA application_id").fetchone()[0]
        if not tables and create:
            ask("PRAGMA journal_mode = WAL")
            self.connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"
                "COMMIT;"
            )
            return
        if mark != _APPLICATION:
            raise LibraryError(f"{self.path} is not a samptag index; name another file with --db")
        if version > VERSION:
            raise LibraryError(
                f"{self.path} was made by a newer samptag (index version {version}, this one reads {VERSION}): "
                "update samptag, or name another file with --db"
            )

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """A block in which an error of SQLite becomes a LibraryError of one line that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise LibraryError(self._explain(error)) from error

    def _explain(self, error: sqlite3.Error) -> str:
        text = str(error)
        if "locked" in text or "busy" in text:
            return f"the index {self.path} is busy: another process has been writing to it for {_BUSY_SECONDS:.0f} s"
        if "readonly" in text or "unable to open" in text:
            return f"cannot write the index {self.path}: it or its folder is read-only, or it is a folder"
        if "full" in text or "disk I/O" in text:
            return f"cannot write the index {self.path}: {text}; everything recorded before is safe"
        if "malformed" in text or "not a database" in text:
            return (
                f"the index {self.path} is damaged or not an SQLite file: move it away and run 'samptag index' again "
                "(music files are not affected)"
            )
        return f"the index {self.path} cannot be used: {text}"

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block of which either all changes are kept or none."""
        try:  # around everything: Ctrl-C may come between any two lines
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                with suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self, command: str) -> Iterator[None]:
        """A block in which no other process writes to the index; readers need not wait.

        A LibraryError says that another process is in such a block, and which `command` it runs.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(Path(f"{self.path}.lock"), waiting_for=None))
            except BlockingIOError:
                said = self.rows("SELECT value FROM facts WHERE name = 'writer'")
                holder = said[0][0] if said else "another process"
                raise LibraryError(f"the index {self.path} is held by {holder}: wait until it ends") from None
            except OSError as error:
                raise LibraryError(f"cannot write the index {self.path}: {os_reason(error)}") from None
            holder = f"'samptag {command}' (process {os.getpid()}, since {time.strftime('%H:%M:%S')})"
            self.connection.execute("INSERT OR REPLACE INTO facts VALUES ('writer', ?)", (holder,))
            yield

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a SELECT."""
        return self.connection.execute(question, values).fetchall()


def _connect(address: str) -> sqlite3.Connection:
    # Transactions are begun explicitly (isolation_level None). A commit waits for the disk: the journal of what was
    # written into music files must be on it before the files are.
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = FULL")
    folded = lru_cache(maxsize=16)(fold)  # songs by one artist tend to be adjacent
    connection.create_function("fold", 1, folded, deterministic=True)
    return connection
