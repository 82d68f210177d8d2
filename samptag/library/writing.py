"""Tags written into music files so that no file is ever half-written and every run can be undone.

Each file is copied beside itself; the copy gets the tags, is read back and compared (the fields as planned, every other
field and picture as before, the audio by its digest), flushed to the disk, and only then takes the file's name. The
journal in the index records each step before it is taken, by the state of the file:

    copying    the copy named there may exist; the file is the old one
    ready      the copy is complete; the file is the old one, or the copy if it has the inode named there
    done       the file is the new one; its old fields are under `old`
    undoing, undo-ready, undone       the same when the old fields are put back
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from samptag.errors import LibraryError, SamptagError
from samptag.files import os_reason, sync
from samptag.library.audio_bytes import audio_digest
from samptag.library.database import Database
from samptag.library.fields import TagFile, need_mutagen
from samptag.library.plan import FilePlan, WritePlan, why_not


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done to one file; `error` says why it is unchanged."""

    path: str
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """One run of `write` that wrote files."""

    id: int
    began: float  # seconds since 1970
    weights: str  # name of the weights
    fields: str  # separated by commas
    mode: str
    files: int  # how many it wrote
    undone: int  # how many of them have been put back


def write_plan(database: Database, plan: WritePlan, *, touch: bool = False) -> Iterator[tuple[int, Outcome]]:
    """As `Library.write`; the caller holds the database for writing."""
    need_mutagen()
    recover(database)
    if not plan.changed:
        return
    facts = (time.time(), plan.model, ",".join(plan.fields), plan.mode)
    step = "INSERT INTO runs (began, weights, fields, mode) VALUES (?, ?, ?, ?)"
    run = int(database.connection.execute(step, facts).lastrowid or 0)
    for file in plan.changed:
        yield run, _attempt(file.path, partial(_write_file, database, run, plan, file, touch))


def undo_run(database: Database, run: int | None, *, split_links: bool = False) -> Iterator[tuple[int, Outcome]]:
    """As `Library.undo`; the caller holds the database for writing."""
    need_mutagen()
    recover(database)
    known = [item for item in runs(database) if run in (None, item.id)]
    if not known:
        raise LibraryError("nothing has been written yet" if run is None else f"there is no run {run}: see --runs")
    open_runs = [item for item in known if item.undone < item.files]
    if not open_runs:
        raise LibraryError(
            "everything has been undone already" if run is None else f"run {run} has been undone already"
        )
    number = open_runs[-1].id
    rows = database.rows("SELECT id, path FROM writes WHERE run = ? AND state = 'done' ORDER BY id DESC", number)
    for row, name in rows:
        path = os.fsdecode(name)
        yield number, _attempt(path, partial(_undo_file, database, row, path, split_links))


def runs(database: Database) -> list[Run]:
    """All runs of `write`, the oldest first; those that wrote nothing are left out."""
    rows = database.rows(
        "SELECT r.id, r.began, r.weights, r.fields, r.mode, count(*), sum(w.state = 'undone') "
        "FROM runs r JOIN writes w ON w.run = r.id WHERE w.state IN ('done', 'undone') GROUP BY r.id ORDER BY r.id"
    )
    return [Run(*row) for row in rows]


def recover(database: Database) -> None:
    """Settle the journal by looking at the files, after a run that was killed or interrupted; remove its copies."""
    rows = database.rows("SELECT id, path, state, copy, copy_inode FROM writes WHERE state NOT IN ('done', 'undone')")
    for number, path, state, copy, inode in rows:
        try:
            with suppress(FileNotFoundError):
                os.unlink(copy)
            found = os.stat(path).st_ino
        except FileNotFoundError:
            found = None
        except OSError:
            continue
        if found is None and not os.path.isdir(os.path.dirname(path)):
            continue  # a drive that is not there: this entry waits until it is back
        undoing = state.startswith("undo")
        if state.endswith("ready") and found == inode:
            _settle(database, number, "undone" if undoing else "done", path)
        else:  # the file is as it was
            step = "UPDATE writes SET state = 'done'" if undoing else "DELETE FROM writes"
            database.connection.execute(f"{step} WHERE id = ?", (number,))


def _attempt(path: str, action: Callable[[], None]) -> Outcome:
    try:
        action()
    except LibraryError:
        raise
    except SamptagError as error:
        return Outcome(path=path, error=str(error))
    except OSError as error:
        return Outcome(path=path, error=f"{path}: cannot be written: {os_reason(error)}; it is unchanged")
    return Outcome(path=path)


def _write_file(database: Database, run: int, plan: WritePlan, file: FilePlan, touch: bool) -> None:
    target = os.path.realpath(file.path)
    status = _checked(file.path, target, file.size, file.mtime_ns, split_links=plan.split_links)
    fields = [change.field for change in file.changes]
    tags = TagFile(target, source=file.path)
    for change in file.changes:
        if tuple(tags.get(change.field)) != change.old:
            raise SamptagError(f"{file.path}: its {change.field} changed after the plan was made")
    old = {"had_tags": tags.had_tags, "fields": {field: tags.raw(field) for field in fields}}
    new = {change.field: list(change.new) for change in file.changes}
    step = "INSERT INTO writes (run, path, state, old, new, copy) VALUES (?, ?, 'copying', ?, ?, ?)"
    facts = (run, os.fsencode(file.path), json.dumps(old), json.dumps(new), _copy_name(target))
    number = int(database.connection.execute(step, facts).lastrowid or 0)

    def alter(copy: TagFile) -> None:
        for field, values in new.items():
            copy.set(field, values)
        copy.save()

    def check(copy: TagFile) -> bool:
        return all(copy.get(field) == values for field, values in new.items())

    _replace(database, number, file.path, target, status, fields, alter, check, states=("ready", "done"), touch=touch)


def _undo_file(database: Database, number: int, path: str, split_links: bool) -> None:
    # One at a time: with their scores, the values of a whole library's files would fill hundreds of megabytes.
    question = "SELECT old, new, size, mtime_ns FROM writes WHERE id = ?"
    old_text, new_text, size, mtime_ns = database.rows(question, number)[0]
    target = os.path.realpath(path)
    status = _checked(path, target, size, mtime_ns, split_links=split_links)
    old, new = json.loads(old_text), json.loads(new_text)
    tags = TagFile(target, source=path)
    if any(tags.get(field) != values for field, values in new.items()):
        raise SamptagError(f"{path}: it has changed since it was written and is left alone")
    wanted = {field: [(name, value) for name, value in raw] for field, raw in old["fields"].items()}
    step = "UPDATE writes SET state = 'undoing', copy = ? WHERE id = ?"
    database.connection.execute(step, (_copy_name(target), number))

    def alter(copy: TagFile) -> None:
        for field, raw in wanted.items():
            copy.restore(field, raw)
        copy.save()
        if not old["had_tags"]:
            copy.strip()

    def check(copy: TagFile) -> bool:
        return all(copy.raw(field) == raw for field, raw in wanted.items())

    states = ("undo-ready", "undone")
    _replace(database, number, path, target, status, list(wanted), alter, check, states=states, touch=False)


def _replace(
    database: Database,
    number: int,
    path: str,
    target: str,
    status: os.stat_result,
    fields: list[str],
    alter: Callable[[TagFile], None],
    check: Callable[[TagFile], bool],
    *,
    states: tuple[str, str],
    touch: bool,
) -> None:
    """Put an altered copy in the file's place, or leave everything as it was."""
    ready, done = states
    copy = os.fsdecode(database.rows("SELECT copy FROM writes WHERE id = ?", number)[0][0])
    try:
        sound = audio_digest(target)
        shutil.copyfile(target, copy)
        before = TagFile(copy, source=path)
        others = before.others(fields)
        alter(before)
        after = TagFile(copy, source=path)
        if not check(after) or after.others(fields) != others or audio_digest(copy) != sound:
            raise SamptagError(
                f"{path}: what was written into a copy does not read back as it should; the file is unchanged"
            )
        shutil.copystat(target, copy)
        if hasattr(os, "chown"):
            with suppress(PermissionError):
                os.chown(copy, status.st_uid, status.st_gid)
                os.chmod(copy, stat.S_IMODE(status.st_mode))
        if touch:
            os.utime(copy)
        sync(copy, os.O_RDWR)
        made = os.stat(copy)
        step = "UPDATE writes SET state = ?, copy_inode = ?, copy_size = ?, copy_mtime_ns = ? WHERE id = ?"
        database.connection.execute(step, (ready, made.st_ino, made.st_size, made.st_mtime_ns, number))
        now = os.stat(target)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (status.st_ino, status.st_size, status.st_mtime_ns):
            raise SamptagError(f"{path}: it changed while it was being written and is left alone")
        os.replace(copy, target)
        sync(os.path.dirname(target))
        _settle(database, number, done, os.fsencode(path))
    except BaseException:
        with suppress(sqlite3.Error):  # then the next run does it
            recover(database)
        raise


def _checked(path: str, target: str, size: int, mtime_ns: int, *, split_links: bool) -> os.stat_result:
    """The file's status, if it is as expected and the file may be replaced."""
    status = os.stat(target)
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise SamptagError(f"{path}: it has changed in the meantime and is left alone")
    if refused := why_not(path, status, split_links=split_links):
        raise SamptagError(refused)
    return status


def _copy_name(target: str) -> bytes:
    """An unused name beside the file: hidden, and with its suffix, by which formats are recognised."""
    name = f".samptag-{secrets.token_hex(8)}{Path(target).suffix[:16]}"
    return os.fsencode(os.path.join(os.path.dirname(target), name))


def _settle(database: Database, number: int, state: str, path: bytes) -> None:
    """Record in the journal and in the table of songs that the copy has taken the file's place."""
    with database.transaction() as connection:
        connection.execute(
            "UPDATE writes SET state = ?, size = copy_size, mtime_ns = copy_mtime_ns WHERE id = ?", (state, number)
        )
        connection.execute(
            "UPDATE songs SET (size, mtime_ns) = (SELECT size, mtime_ns FROM writes WHERE id = ?) WHERE path = ?",
            (number, path),
        )
