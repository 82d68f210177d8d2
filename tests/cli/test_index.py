"""`samptag index` on real files, as the command a person types."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from full_disk import on_a_full_disk
from music_library import MEDIA, make_music, set_fields
from superuser import give_up_override, needs_rights
from warm import WarmProcesses

from samptag.pretrained import DEFAULT

KILLS = int(os.environ.get("SAMPTAG_TEST_KILLS", "4"))
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return make_music(tmp_path / "music", songs=2, short=True)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


@pytest.fixture
def index(samptag: Run, tiny_weights: Path, db: Path) -> Run:
    """``samptag index --db DB --model tiny ...``."""

    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return samptag("index", "--db", db, "--model", tiny_weights, *arguments, **options)

    return run


def summary(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode().splitlines()[-1].removeprefix("samptag: ")


def paths(samptag: Run, db: Path, expression: str = "") -> set[str]:
    done = samptag("find", "-0", "--db", db, expression)
    return {Path(os.fsdecode(name)).name for name in done.stdout.split(b"\0") if name}


def test_a_second_run_touches_only_what_is_new_or_changed(index: Run, samptag: Run, music: Path, db: Path):
    assert summary(index(music)) == "12 songs heard, 0 unchanged"
    shutil.copyfile(MEDIA / "set" / "calm-09-cisalpine-gaul.opus", music / "calm" / "new.opus")
    changed = music / "formats" / "bay.wav"
    changed.write_bytes(changed.read_bytes()[:-2000])
    assert summary(index(music)) == "2 songs heard, 11 unchanged"
    assert summary(index()) == "0 songs heard, 13 unchanged"
    document = json.loads(index("--json").stdout)
    assert (document["schema"], document["songs"], document["broken"]) == ("samptag.index/1", 13, [])
    assert document["weights"][0]["songs"] == 13
    assert document["folders"] == [str(music)]


def test_without_a_folder_files_indexed_by_their_names_are_visited_too(index: Run, samptag: Run, music: Path, db: Path):
    named, gone = music / "formats" / "bay.wav", music / "formats" / "lava.opus"
    index(music / "calm", named, gone)
    named.write_bytes(named.read_bytes()[:-2000])
    gone.unlink()
    assert summary(index()) == "1 song heard, 2 unchanged, 1 missing (--prune forgets them)"
    named.rename(music / "calm" / "bay.wav")
    assert summary(index()) == "0 songs heard, 2 unchanged, 1 moved, 1 missing (--prune forgets them)"
    shutil.rmtree(music / "formats")  # as a drive that is unplugged
    assert summary(index()) == "0 songs heard, 3 unchanged"


def test_a_file_that_is_named_where_it_was_and_where_it_is_has_moved(index: Run, music: Path):
    old, new = music / "formats" / "bay.wav", music / "bay.wav"
    index(old)
    old.rename(new)
    assert summary(index(old, new, check=1)) == "0 songs heard, 0 unchanged, 1 moved, 1 failed"


def test_an_index_of_other_weights_says_whose_words_it_has_and_how_to_go_on(samptag: Run, music: Path, db: Path):
    old, new = "samplecnn-3-9-mtat50", DEFAULT
    files, to = music / "formats", ("--db", db)
    samptag("index", files, *to, "--model", old)
    assert samptag("find", "female vocal >= 0", *to).stdout.count(b"\n") == 8
    for question in (("jazz > .1",), ("", "--sort", "jazz")):
        refused = samptag("find", *question, *to, check=2).stderr.decode()
        advice = f"'samptag index --model {new}' hears them with it"
        assert f"which {new} knows; the songs were heard with {old}: {advice}" in refused
    refused = samptag("find", "--model", new, *to, check=5).stderr.decode()
    assert f"was heard with '{new}', but with {old}: 'samptag index --model {new}' hears them with it" in refused
    refused = samptag("find", "--model", "samplecnn-3-9-mtat5", *to, check=5).stderr.decode()
    assert refused.rstrip().endswith(f"was heard with 'samplecnn-3-9-mtat5': did you mean '{old}'?")

    told = samptag("index", *to).stderr.decode().splitlines()
    assert told[0].startswith(f"samptag: 8 songs were heard with {old} and will be heard again with {new}; the old ")
    assert len(told) == 2
    assert told[-1] == "samptag: 8 songs heard, 0 unchanged"
    assert samptag("find", "jazz >= 0", *to).stdout.count(b"\n") == 8
    refused = samptag("find", "female vocal > .1", *to, check=2).stderr.decode()
    assert f"unknown word 'female vocal', which {old} knows: use --model {old}" in refused
    assert samptag("find", "female vocal >= 0", "--model", old, *to).stdout.count(b"\n") == 8
    assert len(samptag("index", *to).stderr.splitlines()) == 1


def test_a_folder_heard_with_other_weights_leaves_the_rest_and_says_so(index: Run, samptag: Run, music: Path, db: Path):
    new, to = DEFAULT, ("--db", db)
    index(music / "formats")
    told = samptag("index", music / "calm", *to).stderr.decode().splitlines()
    assert told == [
        f"samptag: 8 other songs of the index will not be heard with {new} yet: "
        "'samptag index' without a folder does that",
        "samptag: 2 songs heard, 0 unchanged",
    ]
    note = f"samptag: 2 of 10 songs were heard with {new}; 'samptag index --model {new}' hears the others"
    for question in (("find", ""), ("similar", music / "calm" / "calm-01-honor-bound.opus")):
        assert samptag(*question, *to).stderr.decode().splitlines() == [note]
    assert samptag("index", *to).stderr.decode().splitlines() == ["samptag: 8 songs heard, 2 unchanged"]
    assert samptag("find", "", *to).stderr == b""
    told = samptag("find", "", "--model", "tiny-test", *to).stderr.decode()
    assert told.endswith(
        "8 of 10 songs were heard with tiny-test; 'samptag index' with these weights hears the others\n"
    )


def test_scores_are_those_of_tag(index: Run, samptag: Run, tag: Run, music: Path, db: Path):
    index(music)
    found = json.loads(samptag("find", "--json", "--db", db, "path ~ formats").stdout)["songs"]
    tagged = json.loads(tag("--json", "--top", "0", music / "formats").stdout)
    assert [song["path"] for song in found] == [record["path"] for record in tagged]
    for song, record in zip(found, tagged, strict=True):
        assert song["scores"] == pytest.approx({t["tag"]: t["score"] for t in record["tags"]}, abs=4e-4)
        assert song["duration"] == pytest.approx(record["duration"], abs=1e-3)


def test_moved_copied_and_retagged_files_are_not_heard_again(index: Run, samptag: Run, music: Path, db: Path):
    index(music)
    (music / "formats" / "lava.opus").rename(music / "moved.opus")
    shutil.copyfile(music / "moved.opus", music / "copy.opus")
    set_fields(music / "formats" / "eastern-dreams.mp3", artist="Somebody", title="Dreams")
    assert summary(index(music)) == "0 songs heard, 10 unchanged, 1 moved, 2 with new tags or names"
    assert paths(samptag, db, "path ~ lava.opus or path ~ moved.opus or path ~ copy.opus") == {
        "moved.opus",
        "copy.opus",
    }
    assert paths(samptag, db, "artist = somebody and title = dreams") == {"eastern-dreams.mp3"}


def test_what_vanished_stays_until_it_is_pruned(index: Run, samptag: Run, music: Path, db: Path):
    index(music)
    (music / "formats" / "bay.wav").unlink()
    assert summary(index(music)) == "0 songs heard, 11 unchanged, 1 missing (--prune forgets them)"
    assert "bay.wav" not in paths(samptag, db)
    assert json.loads(index("--status", "--json").stdout)["missing"] == 1
    assert summary(index(music, "--prune")) == "1 missing song forgotten"
    assert json.loads(index("--status", "--json").stdout)["songs"] == 11


def test_an_unplugged_drive_loses_nothing(index: Run, samptag: Run, music: Path, db: Path):
    index(music)
    shutil.move(music / "calm", music.parent / "elsewhere")
    (music / "calm").mkdir()
    done = index(music / "calm", "--prune", check=1)
    assert b"no audio files in the folder" in done.stderr
    shutil.rmtree(music)
    done = index(check=1)
    assert summary(done).startswith("0 songs heard, 0 unchanged, 1 failed")
    assert json.loads(index("--status", "--json").stdout)["missing"] == 0


def test_broken_files_are_remembered_until_they_change(index: Run, music: Path, broken_file: Any):
    shutil.copyfile(broken_file("text.mp3"), music / "text.mp3")
    shutil.copyfile(broken_file("empty.wav"), music / "empty.wav")
    done = index(music, check=1)
    assert summary(done) == "12 songs heard, 0 unchanged, 2 failed"
    assert summary(index(music)) == "0 songs heard, 12 unchanged, 2 that failed before left alone"
    broken = json.loads(index("--status", "--json").stdout)["broken"]
    assert [Path(item["path"]).name for item in broken] == ["empty.wav", "text.mp3"]
    assert all(Path(item["path"]).name in item["error"] for item in broken)
    shutil.copyfile(MEDIA / "bay.wav", music / "empty.wav")
    assert summary(index(music)).startswith("0 songs heard, 12 unchanged, 1 with new tags or names, 1 that failed")


def test_what_needs_pyav_is_heard_once_it_is_installed(index: Run, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("av")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "av", None)
        assert b"needs PyAV" in index(MEDIA / "honor-bound.m4a", check=1, inside=True).stderr
    assert summary(index(inside=True)) == "1 song heard, 0 unchanged"


def test_broken_files_that_are_alike_are_all_broken(index: Run, music: Path):
    for name in ("one.mp3", "two.mp3"):
        (music / name).write_bytes(b"")
        (music / f"other-{name}").write_bytes(b"no music" * 999)
    assert summary(index(music, check=1)) == "12 songs heard, 0 unchanged, 4 failed"
    assert summary(index(music)) == "0 songs heard, 12 unchanged, 4 that failed before left alone"


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_of_any_bytes(index: Run, samptag: Run, tmp_path: Path, db: Path):
    folder = os.fsencode(tmp_path / "music")
    os.mkdir(folder)
    for name in (b"caf\xe9.opus", b"two\nlines.opus", b"'quotes\" % ?.opus"):
        shutil.copyfile(MEDIA / "lava.opus", os.path.join(folder, name))
    index(folder)
    done = samptag("find", "-0", "--db", db)
    assert {os.path.basename(path) for path in done.stdout.split(b"\0") if path} == set(os.listdir(folder))


def test_symbolic_and_hard_links_are_one_song_heard_once(index: Run, music: Path):
    (music / "link").symlink_to(music / "calm")
    os.link(music / "formats" / "bay.wav", music / "hard.wav")
    assert summary(index(music)) == "12 songs heard, 0 unchanged, 1 with new tags or names"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_where_it_was(
    number: signal.Signals, index: Run, tiny_weights: Path, music: Path, db: Path, cli_environment: Any
):
    for place in range(150):
        data = bytearray((MEDIA / "bay.wav").read_bytes())
        data[2000:2002] = place.to_bytes(2, "little")
        (music / f"{place}.wav").write_bytes(data)
    (music / "broken.mp3").write_bytes(b"no music" * 999)
    command = [sys.executable, "-m", "samptag", "index", "--db", db, "--model", tiny_weights, music]
    for _ in range(5):  # on a busy machine it may be over before this process looks at it
        process = subprocess.Popen(command, env=cli_environment, stderr=subprocess.PIPE)
        while process.poll() is None and not heard(db):
            time.sleep(0.02)
        process.send_signal(number)
        _, stderr = process.communicate()
        if heard(db) < 162:
            break
        db.unlink()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.decode().splitlines()[-1] == "samptag: interrupted"
    before = heard(db)
    assert 0 < before < 162
    assert integrity(db) == "ok"
    done = index(music, check=None)
    assert summary(done).startswith(f"{162 - before} songs heard, {before} unchanged")
    assert "1 failed" in summary(done) or "1 that failed before left alone" in summary(done)


# A dozen short songs are one transaction, which a kill can only let pass or not.
A_SONG_A_TRANSACTION = """
import samptag.cli.app, samptag.library.indexing
samptag.library.indexing._BATCH_SONGS = 1
samptag.cli.app.run()
"""


def test_killed_at_any_moment_it_ends_with_what_one_run_finds(
    index: Run,
    tiny_weights: Path,
    music: Path,
    db: Path,
    cli_environment: dict[str, str],
    warm_processes: WarmProcesses,
):
    """SAMPTAG_TEST_KILLS says how many times; the moments lie within the time that a whole run takes here."""
    command = ["-c", A_SONG_A_TRANSACTION, *map(str, ("index", "--db", db, "--model", tiny_weights, music))]

    def whole_run() -> float:
        began = time.monotonic()
        process = warm_processes.start(command, env=cli_environment)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return time.monotonic() - began

    def forget() -> None:
        for path in db.parent.glob(f"{db.name}*"):
            path.unlink()

    whole_run()  # the first makes the process to fork from: its time says nothing
    whole = contents(db)
    forget()
    seconds = whole_run()
    moments = random.Random(7)
    kills, left = 0, []
    while kills < KILLS or (not any(0 < songs < len(whole) for songs in left) and kills < 20 * KILLS):
        if heard(db) == len(whole):
            forget()
        process = warm_processes.start(command, env=cli_environment)
        time.sleep(moments.uniform(0.1, 1) * seconds)
        kills += process.poll() is None
        process.kill()
        process.communicate()
        assert not db.exists() or integrity(db) == "ok"
        left.append(heard(db))
    assert any(0 < songs < len(whole) for songs in left), f"no kill came between two songs: {left}"
    index(music)
    assert contents(db) == whole


def contents(db: Path) -> list[tuple[Any, ...]]:
    """Scores and embeddings by the digest of their sound."""
    with closing(sqlite3.connect(db)) as connection:
        return sorted(
            connection.execute(
                "SELECT digest, scores, vector FROM heard JOIN audio ON audio.id = heard.audio "
                "JOIN embeddings ON embeddings.audio = heard.audio"
            )
        )


def heard(db: Path) -> int:
    """How many songs the index holds; 0 before it is there."""
    if not db.is_file():
        return 0
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM heard").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def change(db: Path, statement: str) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(statement)


def integrity(db: Path) -> str:
    with closing(sqlite3.connect(db)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def test_two_at_once_say_who_holds_it(index: Run, samptag: Run, music: Path, db: Path):
    index(music)
    from samptag.library.database import Database

    database = Database(db, create=True)
    with database.writing("index"):
        done = index(music, check=5)
        assert f"held by 'samptag index' (process {os.getpid()}" in done.stderr.decode()
        assert len(paths(samptag, db)) == 12  # reading goes on
    database.close()
    index(music)


def test_databases_that_cannot_be_used(index: Run, samptag: Run, music: Path, db: Path, tmp_path: Path):
    def error(*arguments: Any) -> str:
        done = samptag(*arguments, check=5)
        assert done.stdout == b""
        (line,) = done.stderr.decode().splitlines()
        return line

    assert "there is no index at" in error("find", "--db", db)
    db.write_bytes(b"no database at all, but long enough to be one" * 300)
    assert "is damaged or not an SQLite file" in error("find", "--db", db)
    assert "is damaged or not an SQLite file" in error("index", "--db", db, music)
    db.unlink()
    change(db, "CREATE TABLE x (y)")
    assert "is not a samptag index" in error("find", "--db", db)
    db.unlink()
    index(music)
    data = db.read_bytes()
    change(db, "PRAGMA user_version = 99")
    assert "made by a newer samptag (index version 99" in error("find", "--db", db)
    assert "made by a newer samptag" in error("index", "--db", db, music)
    db.write_bytes(data[: len(data) // 2])
    assert "damaged" in error("find", "--db", db, "--sort", "artist")
    assert "read-only, or it is a folder" in error("index", "--db", tmp_path, music)


@needs_rights
def test_a_read_only_index_can_be_searched(index: Run, samptag: Run, music: Path, tmp_path: Path, db: Path):
    index(music)
    folder = tmp_path / "read-only"
    folder.mkdir()
    shutil.copyfile(db, folder / "library.db")
    (folder / "library.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        found = samptag("find", "--db", folder / "library.db", preexec_fn=give_up_override)
        assert found.stdout.count(b"\n") == 12
        done = samptag("index", "--db", folder / "library.db", music, check=5, preexec_fn=give_up_override)
    finally:
        folder.chmod(0o755)
    assert b"cannot write the index" in done.stderr


@needs_rights
@pytest.mark.parametrize("whole", [True, False], ids=["with the log's index", "without it"])
def test_a_read_only_index_whose_writer_was_killed(
    index: Run, samptag: Run, music: Path, tmp_path: Path, db: Path, whole: bool
):
    index(music)
    killed = (
        "import os, sys; from pathlib import Path; from samptag.library.database import Database\n"
        "database = Database(Path(sys.argv[1]), create=True)\n"
        "with database.transaction() as connection:\n"
        "    connection.execute('UPDATE songs SET title = ?', ('in the log',))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, db])
    folder = tmp_path / "read-only"
    folder.mkdir()
    for name in ("library.db", "library.db-wal", *(["library.db-shm"] if whole else [])):
        shutil.copyfile(db.with_name(name), folder / name).chmod(0o444)
    assert (folder / "library.db-wal").stat().st_size
    folder.chmod(0o555)
    code = 0 if whole else 5
    try:
        ask = ("find", "--db", folder / "library.db", 'title = "in the log"')
        found = samptag(*ask, check=code, preexec_fn=give_up_override)
    finally:
        folder.chmod(0o755)
    assert found.stdout.count(b"\n") == (12 if whole else 0)
    if not whole:
        (line,) = found.stderr.decode().splitlines()
        assert "its latest changes are in library.db-wal, and its folder is read-only: copy both" in line


def test_a_full_disk_keeps_what_was_recorded(index: Run, samptag: Run, music: Path, db: Path):
    resource = pytest.importorskip("resource")
    index(music / "formats")
    before = paths(samptag, db)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    done = index(music, check=5, preexec_fn=limit)
    assert "cannot write the index" in summary(done)
    assert integrity(db) == "ok"
    assert paths(samptag, db) == before
    assert summary(index(music)) == "4 songs heard, 8 unchanged"


def test_a_disk_without_room_for_the_index(
    index: Run, samptag: Run, tiny_weights: Path, music: Path, db: Path, tmp_path: Path, cli_environment: dict[str, str]
):
    index(music / "formats")
    before = paths(samptag, db)
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copyfile(db, disk / "library.db")
    command = ["index", "--db", "library.db", "--model", tiny_weights, music]
    done = on_a_full_disk(command, start=disk, after=tmp_path / "after", free="44k", env=cli_environment)
    assert done.returncode == 5, done.stderr
    assert "cannot write the index" in summary(done)
    left = tmp_path / "after" / "library.db"
    assert integrity(left) == "ok"
    assert paths(samptag, left) >= before
    samptag("index", "--db", left, "--model", tiny_weights, music)
    assert len(paths(samptag, left)) == 12


def test_a_run_with_nothing_to_hear_loads_no_model(
    index: Run, music: Path, db: Path, tiny_weights: Path, cli_environment: Any
):
    index(music)
    code = (
        "import sys; sys.argv = ['samptag', *sys.argv[1:]]\n"
        "from samptag.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numba', 'sklearn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "index", "--db", str(db), "--model", str(tiny_weights), str(music)]
    done = subprocess.run(command, env=cli_environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stderr


def test_usage(samptag: Run, db: Path, music: Path):
    assert b"nothing has been indexed yet" in samptag("index", "--db", db, check=5).stderr
    assert b"--status only shows the index" in samptag("index", "--status", music, "--db", db, check=2).stderr
    assert b"cannot open" in samptag("index", "--db", db, music / "none", check=1).stderr
