"""`samptag learn` on real files: from playlists, folders, tables and the files' own fields."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from music_library import make_music, set_fields

import samptag as package
from samptag.library import learning

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 24 excerpts by 12 artists and 8 other files, heard with the weights that samptag comes with."""
    folder = tmp_path_factory.mktemp("learn")
    music = make_music(folder / "music", songs=12)
    for clip in (music / "driving").iterdir():
        set_fields(clip, genre="Dance")
    for clip in (music / "calm").iterdir():
        set_fields(clip, genre="Score")
    with package.Library(folder / "library.db") as made:
        made.index([music], device="cpu")
    return folder / "library.db"


@pytest.fixture
def learn(samptag: Run, library: Path) -> Callable[..., dict[str, Any]]:
    def run(source: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        done = samptag("learn", "--db", library, "--json", "--from", source, *arguments, **options)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return run


def words(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {word["word"]: word for word in document["words"]}


def test_folders_are_learned_or_refused(learn: Any, library: Path):
    found = words(learn(library.parent / "music", "--suggest", "2"))
    assert [word for word, record in found.items() if record["learned"]] == ["calm", "driving"]
    assert found["formats"]["refused"] == "8 songs with it, by 1 artist (at least 10 by 3 are needed)"
    for word in ("calm", "driving"):
        record = found[word]
        assert (record["songs"], record["artists"]) == (12, 6)
        low, high = record["roc_auc_interval"]
        assert 0.5 < low < record["roc_auc"] < high <= 1.05
        assert 0 < record["cutoff"] < 1
        assert record["suggestions"] == []  # every song has a label
        for wrong in record["most_wrong"]:
            assert (word in Path(wrong["path"]).parts) == wrong["bears_word"]
            assert (wrong["score"] > 0.5) != wrong["bears_word"]


def test_what_is_learned_is_ordinary_weights(
    learn: Any, samptag: Run, library: Path, tmp_path: Path, cli_environment: Any
):
    playlists = tmp_path / "playlists"
    playlists.mkdir()
    for word, artist in (("rest", "calm"), ("run", "driving")):
        samptag("find", "--db", library, f"artist ~ {artist}", "-o", playlists / f"{word}.m3u8")
    with (playlists / "run.m3u8").open("a") as file:
        file.write("gone.mp3\nC:\\Music\\x.mp3\n")
    document = learn(playlists, "--as", "mine")
    assert document["not_in_index"] == 2
    assert Path(document["weights"]).is_file()

    known = json.loads(samptag("weights", "show", "mine", "--json").stdout)
    for word in document["words"]:
        evidence, cutoff = known["evidence"][word["word"]], known["cutoff_evidence"][word["word"]]
        assert (evidence["kind"], evidence["n"], evidence["of"]) == ("human", 12, document["songs"])
        assert [evidence["roc_auc"], evidence["pr_auc"]] == [word["roc_auc"], word["pr_auc"]]
        assert evidence["roc_auc_interval"] == [min(end, 1) for end in word["roc_auc_interval"]]
        assert cutoff == {"precision": pytest.approx(word["precision"], abs=1e-3), "on": "human"}
        assert word["precision"] >= 0.8
    assert b"people's tags: ROC-AUC" in samptag("weights", "show", "mine").stdout

    cutoffs = {word["word"]: word["cutoff"] for word in document["words"]}
    found = json.loads(samptag("find", "--db", library, "--model", "mine", "run", "--json").stdout)
    assert found["cutoffs"] == {"run": pytest.approx(cutoffs["run"], abs=1e-4)}
    kinds = [Path(song["path"]).parent.name for song in found["songs"]]
    assert kinds.count("driving") >= 8
    assert kinds.count("calm") <= 2

    # tag hears segments one by one and means their scores, the index scores the mean embedding
    clip = next(path for path in sorted((library.parent / "music" / "calm").iterdir()))
    tagged = json.loads(samptag("tag", "--model", "mine", "--json", clip).stdout)
    indexed = json.loads(samptag("find", "--db", library, "--model", "mine", "--json", f'path ~ "{clip.name}"').stdout)
    scores = {tag["tag"]: tag["score"] for tag in tagged["tags"]}
    assert indexed["songs"][0]["scores"] == pytest.approx(scores, abs=0.15)
    assert scores["rest"] > scores["run"]

    manifest = tmp_path / "manifest.csv"
    clips = [clip for kind in ("calm", "driving") for clip in sorted((library.parent / "music" / kind).iterdir())]
    rows = [f"{clip},test,{'rest' if clip.parent.name == 'calm' else 'run'}" for clip in clips]
    manifest.write_text("path,split,tags\n" + "\n".join(rows) + "\n")
    figures = json.loads(samptag("eval", "--data", manifest, "--model", "mine", "--json").stdout)
    assert figures["macro"]["roc_auc"] > 0.9

    # what is indexed later is scored by the learned words as well, and plain find still means the weights that hear
    done = samptag("index", "--db", library)
    assert b"0 songs heard" in done.stderr
    assert b"unknown word 'run'" in samptag("find", "--db", library, "run", check=2).stderr


def test_names_are_not_taken_twice_without_force(learn: Any, samptag: Run, library: Path):
    source = library.parent / "music"
    learn(source, "--as", "twice")
    done = samptag("learn", "--db", library, "--from", source, "--as", "twice", check=None)
    assert done.returncode in (2, 3)
    assert b"twice" in done.stderr
    learn(source, "--as", "twice", "--force")


def test_a_name_that_is_a_path_touches_no_file(samptag: Run, library: Path, tmp_path: Path):
    (tmp_path / "mine.safetensors").write_bytes(b"something else")
    for name, advice in ((tmp_path / "mine", "cannot be a name: use letters"), ("mel", "choose another name")):
        source = library.parent / "music"
        done = samptag("learn", "--db", library, "--from", source, "--as", name, check=2)
        (line,) = done.stderr.decode().splitlines()
        assert advice in line
    assert (tmp_path / "mine.safetensors").read_bytes() == b"something else"


def test_own_fields_give_a_category_that_write_uses(learn: Any, samptag: Run, library: Path):
    found = words(learn("genre", "--as", "genres"))
    assert {word for word, record in found.items() if record["learned"]} == {"Dance", "Score"}
    done = samptag("write", "--db", library, "--model", "genres", "--json", library.parent / "music" / "formats")
    new = [c["new"] for file in json.loads(done.stdout)["files"] for c in file["changes"] if c["field"] == "genre"]
    assert new
    assert {value for values in new for value in values} <= {"Dance", "Score"}


def test_table_with_one_word_takes_the_rest_as_a_no(learn: Any, library: Path, tmp_path: Path):
    clips = sorted((library.parent / "music" / "calm").iterdir())
    rows = "".join(f'"{clip}",evening\n' for clip in clips)
    (tmp_path / "labels.csv").write_text(f"path,tag\n{rows}")
    found = learn(tmp_path / "labels.csv")
    assert found["songs"] == 32
    assert words(found)["evening"]["learned"]
    (tmp_path / "few.csv").write_text(f'path,tag\n"{clips[0]}",evening\nnone.mp3,evening\n')
    found = learn(tmp_path / "few.csv", "--suggest", "3")
    assert words(found)["evening"]["refused"] == "1 song with it, by 1 artist (at least 10 by 3 are needed)"
    assert found["not_in_index"] == 1


def test_of_many_songs_some_are_learned_from_and_all_examined(library: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "_MOST", 8)
    with package.Library(library) as opened:
        result, _ = opened.learn(library.parent / "music")
    calm, driving, _ = result.words
    assert (calm.songs, driving.songs, result.songs) == (12, 12, 32)
    assert min(calm.roc_auc, driving.roc_auc) > 0.75


def test_labels_that_say_nothing_are_refused(samptag: Run, learn: Any, library: Path, tmp_path: Path):
    clips = sorted((library.parent / "music").rglob("*.opus"))
    drawn = random.Random(3)
    rows = "".join(f'"{clip}",{drawn.choice(["heads", "tails"])}\n' for clip in clips)
    (tmp_path / "labels.csv").write_text(f"path,tag\n{rows}")
    found = words(learn(tmp_path / "labels.csv"))
    assert all(record["refused"].startswith("not told from other songs") for record in found.values())
    done = samptag("learn", "--db", library, "--from", tmp_path / "labels.csv", "--as", "noise", check=5)
    assert b"no word was learned" in done.stderr


def test_usage(samptag: Run, library: Path, tmp_path: Path):
    def error(source: Any, check: int) -> bytes:
        return samptag("learn", "--db", library, "--from", source, check=check).stderr

    assert b"cannot take labels from 'nowhere'" in error("nowhere", 2)
    (tmp_path / "x.csv").write_text("file,label\n")
    assert b"columns path and tag" in error(tmp_path / "x.csv", 2)
    (tmp_path / "x.m3u8").write_text("gone.mp3\n")
    assert b"'gone.mp3' is not in the index" in error(tmp_path / "x.m3u8", 5)
    (tmp_path / "empty.m3u8").write_text("#EXTM3U\n")
    for source in (tmp_path / "empty.m3u8", "mood"):
        assert b"there are no labels to learn from" in error(source, 5)


def test_learning_hears_nothing(library: Path, cli_environment: dict[str, str]):
    code = (
        "import sys; sys.argv = ['samptag', 'learn', *sys.argv[1:]]\n"
        "from samptag.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'av'} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "--db", str(library), "--from", str(library.parent / "music")]
    done = subprocess.run(command, env=cli_environment, capture_output=True, check=True)
    assert done.stderr.decode().splitlines()[-1] == "[]"


@pytest.mark.skipif(os.name == "nt", reason="what another system's paths are")
def test_playlists_as_people_have_them(samptag: Run, tiny_weights: Path, tmp_path: Path):
    """Byte order mark, CRLF, addresses, links, other systems' paths, what is not there; relative to the playlist."""
    folder, lists = tmp_path / "music", tmp_path / "lists" / "by mood"
    make_music(folder, songs=6, short=True)
    lists.mkdir(parents=True)
    calm = sorted((folder / "calm").iterdir())
    odd = [name.encode() for name in ("calm/100% quiet.opus", "calm/two words.opus")] + [b"calm/caf\xe9.opus"]
    for path, name in zip(calm, odd, strict=False):
        os.rename(path, os.path.join(os.fsencode(folder), name))
    (calm[3]).rename(folder / "calm" / "Käse.opus")
    (tmp_path / "link").symlink_to(folder)
    with package.Library(tmp_path / "library.db") as made:
        made.index([tmp_path / "link"], model=tiny_weights, device="cpu")
    entries = [
        f"file://{folder}/calm/100%25%20quiet.opus".encode(),
        os.fsencode(tmp_path) + b"/link/calm/two words.opus",
        b"file://localhost" + os.fsencode(folder) + b"/calm/caf%E9.opus",
        "..\\..\\music\\calm\\Käse.opus".encode("cp1252"),
        b"../../music/calm/" + calm[4].name.encode(),
        os.fsencode(calm[5]),
        b"C:\\Music\\a.mp3",
        b"\\\\server\\share\\b.mp3",
        b"E:/c.mp3",
        b"http://radio.example/stream",
        b"file://server/share/d.mp3",
        b"../gone.mp3",
    ]
    playlist = b"\xef\xbb\xbf#EXTM3U\r\n" + b"\r\n".join(b"#EXTINF:6,x\r\n" + entry for entry in entries)
    (lists / "evening.m3u8").write_bytes(playlist)
    done = samptag("learn", "--db", tmp_path / "library.db", "--json", "--from", lists)
    document = json.loads(done.stdout)
    assert document["not_in_index"] == 6
    assert words(document)["evening"]["songs"] == 6
    note = rb"6 labelled songs are not in the index, such as 'C:\\Music\\a.mp3', '\\\\server\\share\\b.mp3'"
    assert note in done.stderr
    samptag("find", "--db", tmp_path / "library.db", "path ~ '/calm/'", "-o", lists / "again.m3u8")
    (lists / "evening.m3u8").unlink()
    document = json.loads(samptag("learn", "--db", tmp_path / "library.db", "--json", "--from", lists).stdout)
    assert (document["not_in_index"], words(document)["again"]["songs"]) == (0, 6)
