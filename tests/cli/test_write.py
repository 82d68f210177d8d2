"""`samptag write` on real files of every format: planned, written, read back by others, undone, and killed."""

import base64
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile
from deciding_weights import save_deciding_weights
from full_disk import on_a_full_disk
from music_library import FORMATS, MEDIA, make_rare, set_fields
from mutagen import id3
from superuser import give_up_override, needs_rights
from warm import WarmProcesses

import samptag as package
from samptag.core.card import CutoffEvidence, Evidence
from samptag.library.audio_bytes import audio_digest
from samptag.library.fields import FIELDS, TagFile

Run = Callable[..., subprocess.CompletedProcess[bytes]]
SCORES = {"techno": 0.9, "quiet": 0.7, "guitar": 0.6, "piano": 0.1}
KILLS = int(os.environ.get("SAMPTAG_TEST_KILLS", "8"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """An index that knows the tiny weights; what is decided comes from records."""
    path = tmp_path_factory.mktemp("write") / "library.db"
    with package.Library(path) as library:
        library.index([MEDIA / "bay.wav"], model=tiny_weights, device="cpu")
    return path


@pytest.fixture
def db(index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(index, tmp_path / "library.db"))


@pytest.fixture(scope="module")
def every_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_rare(tmp_path_factory.mktemp("formats"))
    for name in FORMATS:
        shutil.copyfile(MEDIA / name, folder / name)
    return folder


@pytest.fixture
def music(every_format: Path, tmp_path: Path) -> Path:
    """One file of every format."""
    return Path(shutil.copytree(every_format, tmp_path / "music"))


@pytest.fixture
def write(samptag: Run, db: Path, tmp_path: Path) -> Run:
    """``samptag write`` where techno, quiet and guitar are decided for every file named or in a folder named.

    Nobody tested the tiny weights' words, hence --unverified.
    """

    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        paths = [Path(argument) for argument in arguments if os.path.exists(argument)]
        files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
        tags = [{"tag": tag, "score": score} for tag, score in SCORES.items()]
        names = [base64.b64encode(os.fsencode(file)).decode() for file in files]
        records = [json.dumps({"path": "as tag writes it", "path_bytes": name, "tags": tags}) for name in names]
        (tmp_path / "tags.jsonl").write_text("\n".join(records))
        return samptag("write", "--unverified", "--db", db, "--from", tmp_path / "tags.jsonl", *arguments, **options)

    return run


@pytest.fixture
def undo(samptag: Run, db: Path) -> Run:
    return lambda *arguments, **options: samptag("write", "--undo", "--db", db, *arguments, **options)


def decoded(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


def everything(path: Path) -> tuple[Any, ...]:
    """All that mutagen and we find in a file's tags, its bits of sound, and its mode and time."""
    tags, status = TagFile(str(path)), path.stat()
    fields = {field: tags.raw(field) for field in FIELDS}
    had_tags = tags.had_tags and tags.kind != "mp4"  # mutagen leaves the box without atoms in which they were
    return fields, tags.others(FIELDS), had_tags, audio_digest(path), status.st_mode, status.st_mtime_ns


def error(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("samptag: error")]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_plan_touches_nothing(write: Run, music: Path):
    before = {path: path.read_bytes() for path in music.iterdir()}
    done = write(music)
    assert done.stdout.decode().count("  genre     (empty) -> Techno\n  mood      (empty) -> Quiet\n") == len(before)
    assert b"nothing has been written yet: --yes does it" in done.stderr
    assert {path: path.read_bytes() for path in music.iterdir()} == before


def test_round_trip_of_every_format(write: Run, undo: Run, samptag: Run, db: Path, music: Path):
    before = {path: everything(path) for path in music.iterdir()}
    sound = {path: decoded(path) for path in before}
    done = write(music, "--yes", "--fields", "genre,mood,grouping,comment,samptag")
    assert f"{len(before)} files written" in done.stderr.decode()
    for path in before:
        tags = TagFile(str(path))
        assert (tags.get("genre"), tags.get("mood"), tags.get("grouping")) == (
            ["Techno"],
            ["Quiet"],
            ["techno; quiet; guitar"],
        )
        assert tags.get("comment") == ["[MOOD: quiet; guitar]"]
        explained = json.loads(tags.get("samptag")[0])
        assert explained["scores"] == SCORES
        assert len(explained["weights"]) == 64
        assert np.array_equal(decoded(path), sound[path])
        assert everything(path)[3:] == before[path][3:]
        with av.open(path) as container:  # a reader that is not mutagen
            found = {**container.metadata, **container.streams.audio[0].metadata}
        assert "Techno" in {value for name, value in found.items() if name.lower() in ("genre", "tcon")}, found
    (run,) = json.loads(samptag("write", "--runs", "--json", "--db", db).stdout)["runs"]
    assert (run["files"], run["undone"]) == (len(before), 0)
    assert f"{len(before)} files restored, 0 left alone" in undo().stderr.decode()
    assert {path: everything(path) for path in music.iterdir()} == before
    assert all(np.array_equal(decoded(path), sound[path]) for path in before)
    assert "everything has been undone already" in error(undo(check=5))


def test_names_of_fields_are_those_that_players_read(write: Run, music: Path):
    write(music, "--yes")
    assert mutagen.File(music / "calm-before-the-storm.flac").tags["mood"] == ["Quiet"]
    assert mutagen.File(music / "void-sensor.ogg").tags["GENRE"] == ["Techno"]
    mp4 = mutagen.File(music / "honor-bound.m4a").tags
    assert (mp4["\xa9gen"], mp4["----:com.apple.iTunes:MOOD"]) == (["Techno"], [b"Quiet"])
    asf = mutagen.File(music / "honor-bound.wma").tags
    assert [str(value) for value in asf["WM/Mood"]] == ["Quiet"]
    for name in ("eastern-dreams.mp3", "bay.wav", "calm-before-the-storm.aiff", "bay.tta", "bay.mp2"):
        tags = mutagen.File(music / name).tags
        assert (tags["TCON"].text, tags["TMOO"].text, tags.version) == (["Techno"], ["Quiet"], (2, 4, 0))
    for name in ("bay.ape", "bay.wv", "void-sensor.mpc"):
        tags = mutagen.File(music / name).tags
        assert (list(tags["Genre"]), list(tags["Mood"])) == (["Techno"], ["Quiet"])


def test_several_values_stay_apart_in_every_format(write: Run, undo: Run, music: Path):
    for path in music.iterdir():
        tags = TagFile(str(path))
        tags.set("genre", ["AC/DC; Rock"])
        tags.set("mood", ["Soft"])
        tags.save()
    before = {path: everything(path) for path in music.iterdir()}
    write(music, "--yes", "--add")
    for path in before:
        tags = TagFile(str(path))
        assert (tags.get("genre"), tags.get("mood")) == (["AC/DC; Rock", "Techno"], ["Soft", "Quiet"]), path
    mp4 = mutagen.File(music / "honor-bound.m4a").tags
    assert (mp4["\xa9gen"], mp4["----:com.apple.iTunes:MOOD"]) == (["AC/DC; Rock", "Techno"], [b"Soft", b"Quiet"])
    undo()
    assert {path: everything(path) for path in music.iterdir()} == before


def test_id3v2_3_stays_2_3(write: Run, undo: Run, music: Path):
    song = music / "eastern-dreams.mp3"
    tags = id3.ID3()
    tags.add(id3.TPE1(encoding=3, text=["AC/DC", "Größe"]))
    tags.add(id3.TYER(encoding=0, text=["1999"]))
    tags.add(id3.APIC(encoding=0, mime="image/png", type=3, desc="cover", data=bytes(range(256)) * 300))
    tags.save(song, v2_version=3, v23_sep=None)
    before = everything(song)
    write(song, "--yes")
    after = id3.ID3(song, translate=False)
    assert (after.version, after["TXXX:MOOD"].text, "TMOO" in after) == ((2, 3, 0), ["Quiet"], False)
    assert (after["TPE1"].text, after["TYER"].text) == (["AC/DC", "Größe"], ["1999"])
    assert after["APIC:cover"].data == bytes(range(256)) * 300
    undo()
    assert everything(song) == before


def test_records_may_name_some_words_in_any_case(samptag: Run, db: Path, music: Path, tmp_path: Path):
    tags = [{"tag": "Techno", "score": 0.9}, {"tag": "quiet", "score": 0.1}]
    (tmp_path / "tags.jsonl").write_text(json.dumps({"path": str(music / "bay.wav"), "tags": tags}) + "\n")
    samptag("write", "--unverified", "--db", db, "--from", tmp_path / "tags.jsonl", "--yes", music / "bay.wav")
    written = TagFile(str(music / "bay.wav"))
    assert (written.get("genre"), written.get("mood")) == (["Techno"], [])
    assert json.loads(written.get("samptag")[0])["scores"] == {"techno": 0.9, "quiet": 0.1}


def test_only_empty_fields_unless_asked(write: Run, undo: Run, music: Path):
    song = music / "calm-before-the-storm.flac"
    file = mutagen.File(song)
    file["genre"], file["artist"] = ["techno", "Jazz"], ["Somebody"]
    file.save()
    assert "genre" not in write(song).stdout.decode().replace("samptag", "")
    write(song, "--yes", "--add")
    assert mutagen.File(song)["genre"] == ["techno", "Jazz"]  # techno was there, in another case
    undo()
    write(song, "--yes", "--replace")
    assert mutagen.File(song)["genre"] == ["Techno"]
    assert mutagen.File(song)["artist"] == ["Somebody"]
    undo()
    assert mutagen.File(song).tags.as_dict() == {"genre": ["techno", "Jazz"], "artist": ["Somebody"]}


def test_profile_of_djs(write: Run, music: Path):
    song = music / "eastern-dreams.mp3"
    tags = id3.ID3()
    tags.add(id3.COMM(encoding=3, lang="eng", desc="", text=["8A - Energy 5"]))
    tags.save(song)
    write(song, "--yes", "--profile", "rekordbox", "--add")
    assert mutagen.File(song).tags["COMM::eng"].text == ["8A - Energy 5 [MOOD: quiet; guitar]"]
    write(song, "--yes", "--profile", "rekordbox", "--add")
    assert mutagen.File(song).tags["COMM::eng"].text == ["8A - Energy 5 [MOOD: quiet; guitar]"]


def test_from_the_index_after_it_heard_the_file(samptag: Run, tiny_weights: Path, music: Path, tmp_path: Path):
    db = tmp_path / "own.db"
    samptag("index", "--db", db, "--model", tiny_weights, music)
    shutil.copyfile(MEDIA / "set" / "calm-01-honor-bound.opus", music / "new.opus")
    done = samptag("write", "--unverified", "--db", db, "--json", "--fields", "grouping", music, check=1)
    files = {Path(file["path"]).name: file for file in json.loads(done.stdout)["files"]}
    assert "not in the index" in files.pop("new.opus")["error"]
    found = json.loads(samptag("find", "--db", db, "--json").stdout)["songs"]
    for song in found:
        decided = [tag for tag, score in sorted(song["scores"].items(), key=lambda item: -item[1]) if score >= 0.5]
        grouping = [c["new"] for c in files[Path(song["path"]).name]["changes"] if c["field"] == "grouping"]
        assert grouping == ([["; ".join(decided)]] if decided else [])
    samptag("write", "--unverified", "--db", db, "--yes", "--fields", "grouping", music, check=1)
    os.utime(music / "bay.wav")
    done = samptag("write", "--db", db, "--fields", "grouping", "--replace", music / "bay.wav", check=1)
    assert "changed since it was indexed" in error(done)
    (music / "new.opus").unlink()
    assert b"0 songs heard" in samptag("index", "--db", db, "--model", tiny_weights, music).stderr


def test_files_that_are_left_alone(write: Run, music: Path, tmp_path: Path):
    read_only, linked = music / "bay.wav", music / "lava.opus"
    read_only.chmod(0o444)
    os.link(linked, tmp_path / "other name.opus")
    for agreed in ((), ("--yes",)):  # the plan says so already
        lines = write(music, *agreed, check=1).stderr.decode()
        assert "bay.wav: it is read-only" in lines
        assert "lava.opus: it has 2 names (hard links) and is left alone: --split-links gives" in lines
        assert f"{len(list(music.iterdir())) - 2} files {'written' if agreed else 'would change'}" in lines
    assert read_only.read_bytes() == (MEDIA / "bay.wav").read_bytes()
    assert os.path.samefile(linked, tmp_path / "other name.opus")


def test_hard_links_are_split_where_that_is_asked_for(write: Run, undo: Run, music: Path, tmp_path: Path):
    linked, other = music / "lava.opus", tmp_path / "other name.opus"
    os.link(linked, other)
    before = everything(other)
    write(linked, "--yes", "--split-links")
    assert mutagen.File(linked)["genre"] == ["Techno"]
    assert everything(other) == before
    os.link(linked, tmp_path / "third name.opus")
    assert "it has 2 names" in error(undo(check=1))
    undo("--split-links")
    assert everything(linked) == before
    assert mutagen.File(tmp_path / "third name.opus")["genre"] == ["Techno"]


# The real command, while whose first copy is whole and about to take the file's place other files are edited.
MEDDLED_WITH = """
import sys
waiting = sys.argv.pop(1).split("|")
def meddle(event, arguments):
    while event == "os.utime" and waiting:
        with open(waiting.pop(), "r+b") as file:
            file.write(b"?")
            file.seek(0, 2)
            file.write(b"!")
sys.addaudithook(meddle)
from samptag.cli.app import main
main()
"""


def test_files_that_change_between_the_plan_and_their_turn(
    write: Run, undo: Run, db: Path, music: Path, tmp_path: Path, cli_environment: Any
):
    first, second, third = (music / name for name in ("bay.ape", "bay.mp2", "bay.oga"))
    write(first, second, third)  # makes the records
    changed = {path: b"?" + path.read_bytes()[1:] + b"!" for path in (first, third)}
    command = ["write", "--unverified", "--db", db, "--from", tmp_path / "tags.jsonl", "--yes", first, second, third]
    done = subprocess.run(
        [sys.executable, "-c", MEDDLED_WITH, f"{first}|{third}", *map(str, command)],
        env=cli_environment,
        capture_output=True,
    )
    lines = done.stderr.decode()
    assert done.returncode == 1, lines
    assert f"samptag: error: {first}: it changed while it was being written and is left alone" in lines
    assert f"samptag: error: {third}: it has changed in the meantime and is left alone" in lines
    assert "1 file written" in lines
    assert {path: path.read_bytes() for path in changed} == changed
    assert mutagen.File(second).tags["TCON"].text == ["Techno"]
    assert not list(music.glob(".samptag-*"))
    assert "1 file restored, 0 left alone" in undo().stderr.decode()


def spoil_sound(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


SPOILT = {
    "field": lambda path: set_fields(path, genre="Rock"),
    "other field": lambda path: set_fields(path, title="Another"),
    "sound": spoil_sound,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_copy_that_does_not_read_back_as_planned_is_refused(
    write: Run, music: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
):
    save = TagFile.save

    def save_badly(tags: TagFile) -> None:
        save(tags)
        spoil(Path(tags.path))

    monkeypatch.setattr(TagFile, "save", save_badly)
    before = {path: path.read_bytes() for path in music.iterdir()}
    done = write(music / "calm-before-the-storm.flac", "--yes", check=1, inside=True)
    assert "does not read back as it should; the file is unchanged" in error(done)
    assert {path: path.read_bytes() for path in music.iterdir()} == before


def test_undo_refuses_what_changed_since(write: Run, undo: Run, music: Path):
    write(music, "--yes")
    edited = mutagen.File(music / "lava.opus")
    edited["title"] = "Edited"
    edited.save()
    done = undo(check=1)
    assert "lava.opus" in error(done)
    assert f"{len(list(music.iterdir())) - 1} files restored, 1 left alone" in done.stderr.decode()
    assert mutagen.File(music / "lava.opus")["genre"] == ["Techno"]


def test_undo_by_number(write: Run, undo: Run, music: Path):
    write(music / "bay.wav", "--yes")
    write(music / "lava.opus", "--yes")
    undo("1")
    assert mutagen.File(music / "bay.wav").tags is None
    assert mutagen.File(music / "lava.opus")["genre"] == ["Techno"]
    assert "run 1 has been undone already" in error(undo("1", check=5))
    assert "there is no run 7" in error(undo("7", check=5))
    assert "takes the number of a run" in error(undo("x", check=2))


def test_a_symbolic_link_stays_one(write: Run, music: Path, tmp_path: Path):
    link = tmp_path / "link.opus"
    link.symlink_to(music / "lava.opus")
    write(link, "--yes")
    assert link.is_symlink()
    assert mutagen.File(music / "lava.opus")["genre"] == ["Techno"]


def test_a_file_that_is_playing_plays_on(write: Run, music: Path):
    song = music / "eastern-dreams.mp3"
    with song.open("rb") as player:
        start = player.read(1000)
        write(song, "--yes")
        assert start + player.read() == (MEDIA / "eastern-dreams.mp3").read_bytes()
    assert mutagen.File(song).tags["TCON"].text == ["Techno"]


def test_mode_and_time_stay_unless_touched(write: Run, music: Path):
    song = music / "lava.opus"
    song.chmod(0o640)
    os.utime(song, ns=(10**18, 10**18 + 7))
    write(song, "--yes")
    assert (song.stat().st_mode & 0o777, song.stat().st_mtime_ns) == (0o640, 10**18 + 7)
    before = time.time()
    write(song, "--yes", "--replace", "--fields", "grouping", "--touch")
    assert song.stat().st_mtime > before - 1


def test_formats_and_files_that_cannot_be_written_are_told(write: Run, music: Path):
    with av.open(music / "x.aac", "w", format="adts") as out:
        stream = out.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    assert ".aac files have no tags that samptag can write" in error(write(music / "x.aac", check=1))
    for suffix in (".au", ".caf", ".w64"):
        soundfile.write(music / f"x{suffix}", np.zeros(4096), 44_100, format=suffix[1:].upper())
        assert f"{suffix} files have no tags that samptag can write" in error(write(music / f"x{suffix}", check=1))
    with av.open(music / "x.mka", "w") as out:
        out.mux(out.add_stream("flac", rate=44_100, layout="mono").encode(None))
    assert ".mka files have no tags that samptag can write" in error(write(music / "x.mka", check=1))
    (music / "empty.mp3").write_bytes(b"")
    assert "empty.mp3" in error(write(music / "empty.mp3", check=1))
    broken = (MEDIA / "calm-before-the-storm.flac").read_bytes()
    (music / "broken.flac").write_bytes(broken[:4] + b"\x84\xff\xff\xff" + broken[8:])
    assert "broken.flac" in error(write(music / "broken.flac", check=1))
    assert "cannot open" in error(write("none.mp3", check=1))


def old_id3(version: int, *frames: tuple[bytes, bytes]) -> bytes:
    """A tag of ID3v2.2 or 2.3."""
    head = {2: lambda size: size.to_bytes(3, "big"), 3: lambda size: size.to_bytes(4, "big") + bytes(2)}[version]
    body = b"".join(name + head(len(data)) + data for name, data in frames)
    size = bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + size + body


ITUNES = old_id3(
    2,
    (b"TT2", b"\x00Title"),
    (b"TP1", "\x01Größe".encode("utf-16-le").replace(b"\x01\x00", b"\x01\xff\xfe", 1)),
    (b"TCO", b"\x00(17)"),
    (b"TYE", b"\x001999"),
    (b"COM", b"\x00engiTunPGAP\x000"),
    (b"COM", b"\x00deu\x00Hallo"),
    (b"TCP", b"\x001"),
    (b"PIC", b"\x00JPG\x03\x00" + bytes(range(256))),
)


def test_id3v2_2_becomes_2_3_and_keeps_what_it_says(write: Run, undo: Run, music: Path):
    song = music / "itunes.mp3"
    song.write_bytes(ITUNES + (MEDIA / "eastern-dreams.mp3").read_bytes())
    before = everything(song)
    assert before[0]["genre"] == [("TCON", {"encoding": 0, "text": ["(17)"]})]
    write(song, "--yes", "--add", "--fields", "genre,mood,comment")
    after = id3.ID3(song, translate=False)
    assert after.version == (2, 3, 0)
    assert (after["TCON"].genres, after["TXXX:MOOD"].text) == (["Rock", "Techno"], ["Quiet"])
    assert after["COMM::deu"].text == ["Hallo [MOOD: quiet; guitar]"]
    assert (after["TPE1"].text, after["TYER"].text, after["COMM:iTunPGAP:eng"].text) == (["Größe"], ["1999"], ["0"])
    assert (after["APIC:"].mime, after["APIC:"].data) == ("image/jpeg", bytes(range(256)))
    with av.open(song) as container:
        assert (container.metadata["artist"], len(container.streams)) == ("Größe", 2)
    undo()
    assert everything(song) == before
    assert id3.ID3(song, translate=False)["TCON"].text == ["(17)"]
    odd = music / "odd.mp3"
    odd.write_bytes(old_id3(2, (b"XYZ", b"\x00abc")) + (MEDIA / "eastern-dreams.mp3").read_bytes())
    data = odd.read_bytes()
    assert "odd.mp3: its ID3v2.2 holds fields that ID3v2.3 has no place for" in error(write(odd, "--yes", check=1))
    assert odd.read_bytes() == data


def odd_mp3(path: Path, kind: str) -> None:
    data = (MEDIA / "eastern-dreams.mp3").read_bytes()
    id3v1 = b"TAG" + b"Title that is long".ljust(30, b"\0") + b"Artist".ljust(30, b"\0") + bytes(64) + b"\xff"
    item = b"\x03\x00\x00\x00\x00\x00\x00\x00Genre\x00Pop"
    size = (len(item) + 32).to_bytes(4, "little")
    ape = item + b"APETAGEX" + (2000).to_bytes(4, "little") + size + b"\x01\x00\x00\x00" + bytes(12)
    path.write_bytes(
        {
            "id3v1": data + id3v1,
            "apev2": data + ape,
            "broken id3": b"ID3\x04\x00\x00\x00\x00\x01\x00TPE1\x00\x00\x7f\x7f\x00\x00" + bytes(114) + data,
            "id3 twice": b"ID3\x03\x00\x00\x00\x00\x00\x0a"
            + bytes(10)
            + b"ID3\x04\x00\x00\x00\x00\x00\x0a"
            + bytes(10)
            + data,
            "UTF-8 in 2.3": old_id3(3, (b"TIT2", b"\x03Gr\xc3\xb6\xc3\x9fe"), (b"TCON", b"\x03\xc3\x96")) + data,
            "empty fields": old_id3(3, (b"TIT2", b"\x00"), (b"TPE1", b"\x00X"), (b"TCON", b"\x00")) + data,
            "year of ID3v1": old_id3(3, (b"TYER", b"\x00199\xfc"), (b"TPE1", b"\x00X")) + data + id3v1,
            "damaged fields": old_id3(3, (b"TIT2", b"\x01\xff\xfeA\x00\x00\xd8"), (b"XABC", b"\x00X")) + data,
        }[kind]
    )


@pytest.mark.parametrize(
    "kind",
    ["id3v1", "apev2", "broken id3", "id3 twice", "UTF-8 in 2.3", "empty fields", "year of ID3v1", "damaged fields"],
)
def test_odd_tags_of_mp3(kind: str, write: Run, undo: Run, music: Path):
    song = music / "odd.mp3"
    odd_mp3(song, kind)
    before, data = everything(song), song.read_bytes()
    done = write(song, "--yes", "--fields", "genre,mood")
    assert "1 file written" in done.stderr.decode()
    assert audio_digest(song) == before[3]
    if "id3v1" in kind.casefold():
        assert song.read_bytes()[-256:] == data[-256:]
    if kind == "id3v1":
        assert mutagen.File(song).tags["TPE1"].text == ["Artist"]
    if kind == "apev2":  # its genre counts: only the empty mood was filled
        assert "TCON" not in mutagen.File(song).tags
        assert b"APETAGEX" in song.read_bytes()
    if kind == "damaged fields":  # nobody can read them, and they are kept
        assert all(text in song.read_bytes() for text in (b"TIT2", b"A\x00\x00\xd8", b"XABC"))
    assert TagFile(str(song)).get("mood") == ["Quiet"]
    undo()
    assert everything(song) == before
    if kind in ("id3v1", "apev2"):
        assert song.read_bytes() == data


def test_odd_tags_of_flac_and_mp4(write: Run, undo: Run, music: Path):
    flac = music / "id3.flac"
    flac.write_bytes(
        b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10) + (MEDIA / "calm-before-the-storm.flac").read_bytes()
    )
    many = mutagen.File(music / "lava.opus")
    many["performer"] = [f"Player {number}" for number in range(5000)]
    many.save()
    many_id3 = mutagen.File(music / "eastern-dreams.mp3")
    many_id3.add_tags()
    many_id3.tags.add(mutagen.id3.TXXX(encoding=3, desc="PLAYERS", text=many["performer"]))
    many_id3.save()
    data = (MEDIA / "honor-bound.m4a").read_bytes()
    m4a = music / "odd.m4a"
    place = data.index(b"ilst") + 4
    sizes = {name: data.rindex(name, 0, place) - 4 for name in (b"moov", b"udta", b"meta", b"ilst")}
    atom = (20).to_bytes(4, "big") + b"zzzz" + (12).to_bytes(4, "big") + b"dataabcd"
    changed = bytearray(data[:place] + atom + data[place:])
    for start in sizes.values():
        changed[start : start + 4] = (int.from_bytes(changed[start : start + 4], "big") + len(atom)).to_bytes(4, "big")
    if data.index(b"mdat") > data.index(b"moov"):
        pytest.fail("the clip's index is in front, so that its offsets would have to move")
    m4a.write_bytes(changed)
    before = {path: everything(path) for path in music.iterdir()}
    write(music, "--yes")
    assert flac.read_bytes()[:3] == b"ID3"
    assert b"zzzz" in m4a.read_bytes()
    assert len(mutagen.File(music / "lava.opus")["performer"]) == 5000
    assert len(mutagen.File(music / "eastern-dreams.mp3")["TXXX:PLAYERS"].text) == 5000
    undo()
    assert {path: everything(path) for path in music.iterdir()} == before


def test_musepack_sv7_by_its_header(write: Run, undo: Run, music: Path):
    """Nothing at hand encodes SV7: a header as specified (10 frames, 44.1 kHz), and no music behind it."""
    song = music / "sv7.mpc"
    data = b"MP+\x17" + (10).to_bytes(4, "little") + bytes.fromhex("0000809b") + bytes(16) + bytes(range(256)) * 20
    song.write_bytes(data)
    write(song, "--yes")
    assert song.read_bytes().startswith(data)
    assert (list(mutagen.File(song).tags["Genre"]), mutagen.File(song).info.version) == (["Techno"], 7)
    undo()
    assert song.read_bytes() == data


def test_covers_are_kept(write: Run, undo: Run, music: Path):
    picture = mutagen.flac.Picture()
    picture.data, picture.mime = os.urandom(40_000), "image/jpeg"
    flac = mutagen.File(music / "calm-before-the-storm.flac")
    flac.add_picture(picture)
    flac.save()
    mp4 = mutagen.File(music / "honor-bound.m4a")
    mp4["covr"] = [mutagen.mp4.MP4Cover(picture.data)]
    mp4.save()
    opus = mutagen.File(music / "lava.opus")
    opus["metadata_block_picture"] = [base64.b64encode(picture.write()).decode()]
    opus.save()
    before = opus["metadata_block_picture"]
    write(music, "--yes")
    assert mutagen.File(music / "calm-before-the-storm.flac").pictures[0].data == picture.data
    assert bytes(mutagen.File(music / "honor-bound.m4a")["covr"][0]) == picture.data
    assert mutagen.File(music / "lava.opus")["metadata_block_picture"] == before


def test_a_full_disk_leaves_the_file_as_it_was(write: Run, music: Path):
    resource = pytest.importorskip("resource")
    big = music / "big.wav"
    samples, rate = soundfile.read(MEDIA / "eastern-dreams.mp3")
    soundfile.write(big, samples[: rate * 8], rate)
    data = big.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = write(big, music / "bay.wav", "--yes", check=1, preexec_fn=limit)
    assert "big.wav: cannot be written: File too large; it is unchanged" in error(done)
    assert big.read_bytes() == data
    assert mutagen.File(music / "bay.wav").tags["TCON"].text == ["Techno"]
    assert not list(music.glob(".samptag-*"))


def test_a_disk_without_room_for_the_copy(
    write: Run, db: Path, music: Path, tmp_path: Path, cli_environment: dict[str, str]
):
    disk = tmp_path / "disk"
    disk.mkdir()
    for path in (db, music / "eastern-dreams.mp3", music / "bay.wav"):
        shutil.copyfile(path, disk / path.name)
    tags = [{"tag": tag, "score": score} for tag, score in SCORES.items()]
    lines = [json.dumps({"path": name, "tags": tags}) for name in ("eastern-dreams.mp3", "bay.wav")]
    (disk / "tags.jsonl").write_text("\n".join(lines))
    command = [
        "write",
        "--unverified",
        "--yes",
        "--db",
        "library.db",
        "--from",
        "tags.jsonl",
        "eastern-dreams.mp3",
        "bay.wav",
    ]
    after = tmp_path / "after"
    done = on_a_full_disk(command, start=disk, after=after, free="160k", env=cli_environment)
    assert done.returncode == 1, done.stderr
    assert "eastern-dreams.mp3: cannot be written: No space left on device; it is unchanged" in error(done)
    assert (after / "eastern-dreams.mp3").read_bytes() == (MEDIA / "eastern-dreams.mp3").read_bytes()
    assert mutagen.File(after / "bay.wav").tags["TCON"].text == ["Techno"]
    assert not list(after.glob(".samptag-*"))
    with closing(sqlite3.connect(after / "library.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    done = on_a_full_disk(command, start=disk, after=tmp_path / "again", free="4k", env=cli_environment)
    assert done.returncode == 5, done.stderr
    assert "cannot write the index" in error(done)
    for name in ("eastern-dreams.mp3", "bay.wav"):
        assert (tmp_path / "again" / name).read_bytes() == (MEDIA / name).read_bytes()


@needs_rights
def test_a_read_only_folder(write: Run, music: Path):
    music.chmod(0o555)
    try:
        done = write(music / "bay.wav", "--yes", check=1, preexec_fn=give_up_override)
    finally:
        music.chmod(0o755)
    assert "bay.wav: cannot be written: Permission denied; it is unchanged" in error(done)


@needs_rights
def test_without_a_journal_nothing_is_written(write: Run, db: Path, music: Path):
    db.chmod(0o444)
    done = write(music, "--yes", check=5, preexec_fn=give_up_override)
    assert f"cannot write the index {db}" in error(done)
    assert (music / "bay.wav").read_bytes() == (MEDIA / "bay.wav").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_of_any_bytes(write: Run, undo: Run, music: Path, tmp_path: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"caf\xe9.mp2", b"two\nlines.oga", b"'quotes\" % ?.wv", b"-dash.tta"):
        source = music / f"bay{Path(os.fsdecode(name)).suffix}"
        shutil.copyfile(source, os.path.join(os.fsencode(folder), name))
    before = {path: everything(path) for path in folder.iterdir()}
    write(folder, "--yes")
    assert all(TagFile(str(path)).get("genre") == ["Techno"] for path in before)
    undo()
    assert {path: everything(path) for path in folder.iterdir()} == before


@pytest.fixture
def sorted_db(tmp_path: Path) -> Path:
    """An index made with weights whose words techno and loud people confirm; classical too badly, pop not at all.

    Their file is named as in the cache of weights, so that it is at hand.
    """
    lowest = {"techno": 0.75, "metal": 0.95, "loud": 0.8, "classical": 0.74}
    facts: dict[str, Any] = {"kind": "human", "n": 20, "of": 60, "roc_auc": 0.97, "data": "60 tracks"}
    evidence = {word: Evidence(**facts, roc_auc_interval=(low, 1.0)) for word, low in lowest.items()}
    by_teachers = {"pop": Evidence(kind="teachers", correlation=0.9, tracks=30, teachers=("one",))}
    words = ("techno", "metal", "loud", "quiet", "classical", "pop", "guitar", "rock")
    (tmp_path / "cache").mkdir()
    weights = save_deciding_weights(
        tmp_path / "cache" / "sorted.safetensors",
        name="sorted",
        cutoffs=dict.fromkeys(words, 0.5),
        cutoff_evidence={"classical": CutoffEvidence(precision=0.8, on="human")},
        evidence=evidence | by_teachers,
    )
    with package.Library(tmp_path / "sorted.db") as library:
        library.index([MEDIA / "bay.wav"], model=weights, device="cpu")
    return tmp_path / "sorted.db"


@pytest.fixture
def write_sorted(samptag: Run, sorted_db: Path, tmp_path: Path) -> Run:
    """``samptag write`` with these weights, where all of their words but rock are decided for what is in a folder."""

    def run(folder: Path, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        scores = {"techno": 0.9, "classical": 0.8, "pop": 0.7, "quiet": 0.65, "loud": 0.6, "guitar": 0.55, "rock": 0.4}
        tags = [{"tag": tag, "score": score} for tag, score in scores.items()]
        lines = [json.dumps({"path": str(path), "tags": tags}) for path in folder.iterdir()]
        (tmp_path / "tags.jsonl").write_text("\n".join(lines))
        records = ("--from", tmp_path / "tags.jsonl")
        environment = {"SAMPTAG_CACHE": str(tmp_path / "cache")}
        return samptag("write", "--db", sorted_db, *records, folder, *arguments, env=environment, **options)

    return run


def three_songs(folder: Path) -> Path:
    """A folder of three songs, of which one has a genre and one a mood."""
    folder.mkdir()
    for name in ("calm-before-the-storm.flac", "void-sensor.ogg", "lava.opus"):
        shutil.copyfile(MEDIA / name, folder / name)
    set_fields(folder / "void-sensor.ogg", genre="Jazz")
    set_fields(folder / "lava.opus", mood="Wild")
    return folder


def written_values(folder: Path) -> list[tuple[list[str], list[str]]]:
    return [(tags.get("genre"), tags.get("mood")) for tags in (TagFile(str(p)) for p in sorted(folder.iterdir()))]


def test_only_what_people_tested_unless_asked(write_sorted: Run, tmp_path: Path):
    music = three_songs(tmp_path / "music")
    plan = write_sorted(music)
    left_out = "samptag: left out of 3 files: 3 words that people's tags do not confirm; --unverified writes them too"
    assert left_out in plan.stderr.decode().splitlines()
    document = json.loads(write_sorted(music, "--json").stdout)
    assert (document["unverified"], document["left_out"]) == (False, {"classical": 2, "pop": 2, "quiet": 2})
    assert [file["left_out"] for file in document["files"]] == [
        ["classical", "pop", "quiet"],
        ["classical", "pop"],
        ["quiet"],
    ]
    done = write_sorted(music, "--yes")
    assert left_out in done.stderr.decode().splitlines()
    assert written_values(music) == [(["Techno"], ["Loud"]), (["Techno"], ["Wild"]), (["Jazz"], ["Loud"])]
    # What has values by now would not be written with --unverified either.
    assert "left out" not in write_sorted(music).stderr.decode()


def test_what_nobody_tested_is_written_where_asked(write_sorted: Run, tmp_path: Path):
    music = three_songs(tmp_path / "music")
    document = json.loads(write_sorted(music, "--json", "--unverified", "--yes").stdout)
    assert (document["unverified"], document["left_out"]) == (True, {})
    genres, moods = ["Techno", "Classical", "Pop"], ["Quiet", "Loud"]
    assert written_values(music) == [(genres, moods), (genres, ["Wild"]), (["Jazz"], moods)]


def test_unverified_words_of_other_fields_and_modes(write_sorted: Run, tmp_path: Path):
    music = three_songs(tmp_path / "music")
    document = json.loads(write_sorted(music, "--json", "--fields", "grouping,comment").stdout)
    assert document["files"][0]["left_out"] == ["classical", "pop", "quiet", "guitar"]
    new = {change["field"]: change["new"] for change in document["files"][0]["changes"]}
    assert (new["grouping"], new["comment"]) == (["techno; loud"], ["[MOOD: loud]"])
    assert json.loads(write_sorted(music, "--json", "--fields", "samptag").stdout)["left_out"] == {}
    document = json.loads(write_sorted(music, "--json", "--add", "--fields", "mood").stdout)
    assert document["files"][1]["left_out"] == ["quiet"]


@pytest.mark.parametrize("at_hand", [True, False])
def test_an_index_that_did_not_note_what_was_tested(write_sorted: Run, sorted_db: Path, tmp_path: Path, at_hand: bool):
    with closing(sqlite3.connect(sorted_db)) as connection, connection:
        (words,) = connection.execute("SELECT tags FROM weights").fetchone()
        old = [{name: value for name, value in word.items() if name != "verified"} for word in json.loads(words)]
        connection.execute("UPDATE weights SET tags = ?", (json.dumps(old),))
    if not at_hand:  # another file of that name says nothing about these
        save_deciding_weights(tmp_path / "cache" / "sorted.safetensors", name="sorted")
    document = json.loads(write_sorted(three_songs(tmp_path / "music"), "--json").stdout)
    assert set(document["left_out"]) == {"classical", "pop", "quiet"} | (set() if at_hand else {"techno", "loud"})


def test_usage(write: Run, samptag: Run, db: Path, music: Path, tmp_path: Path):
    assert "unknown field 'genra'" in error(write(music, "--fields", "genra", check=2))
    assert "'plex' is not one of 'navidrome', 'kodi', 'rekordbox'" in error(write(music, "--profile", "plex", check=2))
    assert "cannot be combined" in error(write(music, "--add", "--replace", check=2))
    assert "nothing to write to" in error(samptag("write", "--db", db, check=2))
    assert "nothing has been written yet" in error(samptag("write", "--undo", "--db", db, check=5))
    (tmp_path / "bad.jsonl").write_text('{"path": "x"}\n')
    done = samptag("write", "--db", db, "--from", tmp_path / "bad.jsonl", music, check=2)
    assert "line 1: not a record" in error(done)
    (tmp_path / "other.jsonl").write_text('{"path": "x", "tags": [{"tag": "jazz", "score": 1}]}\n')
    done = samptag("write", "--db", db, "--from", tmp_path / "other.jsonl", music, check=2)
    assert "unknown word 'jazz'" in error(done)


# The real command, interrupted where its third file is copied, is about to be replaced, or has just been.
INTERRUPTED = """
import signal, sys
moment, count = sys.argv.pop(1), 0
def interrupt(event, arguments):
    global count
    begins = ".samptag-" in str(arguments) and event == ("os.utime" if moment == "copied" else "os.rename")
    count += begins
    if count == 3 and (event == "open" if moment == "replaced" else begins):
        count += 1
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(interrupt)
from samptag.cli.app import main
main()
"""


@pytest.mark.parametrize("moment", ["copied", "to be replaced", "replaced"])
def test_ctrl_c_keeps_what_is_written_and_it_can_be_undone(
    moment: str,
    write: Run,
    undo: Run,
    samptag: Run,
    db: Path,
    music: Path,
    tmp_path: Path,
    cli_environment: Any,
    warm_processes: WarmProcesses,
):
    before = {path: everything(path) for path in music.iterdir()}
    write(music)  # makes the records
    command = ["write", "--unverified", "--db", db, "--from", tmp_path / "tags.jsonl", "--yes", music]
    process = warm_processes.start(["-c", INTERRUPTED, moment, *map(str, command)], env=cli_environment)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.decode().splitlines() == [
        "samptag: run 1 ended after 2 files: 'samptag write --undo' takes it back",
        "samptag: interrupted",
    ]
    assert set(music.iterdir()) == set(before)
    (run,) = json.loads(samptag("write", "--runs", "--json", "--db", db).stdout)["runs"]
    assert run["files"] == (3 if moment == "replaced" else 2)
    assert sum(TagFile(str(path)).get("genre") == ["Techno"] for path in before) == run["files"]
    undo()
    assert {path: everything(path) for path in music.iterdir()} == before


BACK_AND_FORTH = """
import sys, samptag
library = samptag.Library(sys.argv[1])
begun = False
while True:
    plan = lambda: library.plan([sys.argv[2]], records=sys.argv[3], unverified=True)
    for step in (lambda: library.write(plan()), library.undo):
        try:
            for run, outcome in step():
                assert outcome.error is None, outcome
                if not begun:
                    begun = print("begun", flush=True) is None
        except samptag.LibraryError as error:
            if "undone" not in str(error) and "nothing has been written" not in str(error):
                raise
"""


def test_kills_at_any_moment_lose_nothing(
    db: Path, music: Path, tmp_path: Path, cli_environment: dict[str, str], warm_processes: WarmProcesses
):
    """SAMPTAG_TEST_KILLS says how many times; each comes at another moment while files are written and set back."""
    before = {path: everything(path) for path in music.iterdir()}
    tags = [{"tag": tag, "score": score} for tag, score in SCORES.items()]
    (tmp_path / "tags.jsonl").write_text("\n".join(json.dumps({"path": str(p), "tags": tags}) for p in before))
    command = ["-c", BACK_AND_FORTH, *map(str, (db, music, tmp_path / "tags.jsonl"))]
    moments = random.Random(20)
    caught: set[str] = set()
    kills = 0
    while kills < KILLS or (not caught and kills < 10 * KILLS):
        kills += 1
        process = warm_processes.start(command, env=cli_environment)
        assert process.stdout.readline() == b"begun\n", process.communicate()
        time.sleep(moments.uniform(0, 0.2))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        with closing(sqlite3.connect(db)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            states = "SELECT state FROM writes WHERE state NOT IN ('done', 'undone')"
            caught |= {state for (state,) in connection.execute(states)}
        assert {path for path in music.iterdir() if not path.name.startswith(".samptag-")} == set(before)
        for path, (_, others, _, sound, mode, mtime_ns) in before.items():
            now = everything(path)
            assert now[0]["genre"] in ([], before[path][0]["genre"]) or TagFile(str(path)).get("genre") == ["Techno"]
            assert (now[1], *now[3:]) == (others, sound, mode, mtime_ns)
    with package.Library(db) as library:
        # What a kill left open is only known once the next command has looked: ask again after each.
        outcomes = []
        with suppress(package.LibraryError):  # nothing to undo
            outcomes += library.undo()
        while any(run.files > run.undone for run in library.runs()):
            outcomes += library.undo()
        assert all(outcome.error is None for _, outcome in outcomes)
    assert {path: everything(path) for path in music.iterdir()} == before
    assert caught, "no kill came while a file was being written: the test says nothing"
