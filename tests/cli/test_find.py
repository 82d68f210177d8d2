"""`samptag find` on an index of real files."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from music_library import make_music

import samptag as package
from samptag.library.playlists import read_m3u

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """An index of 20 songs heard with the tiny weights; the music lies beside it."""
    folder = tmp_path_factory.mktemp("find")
    make_music(folder / "music")
    with package.Library(folder / "library.db") as made:
        made.index([folder / "music"], model=tiny_weights, device="cpu")
    return folder / "library.db"


@pytest.fixture
def find(samptag: Run, library: Path) -> Callable[..., list[str]]:
    """``find("piano > .5", "--sort", ...)``: the names of the songs found, in order."""

    def run(*arguments: Any) -> list[str]:
        return [Path(line).name for line in samptag("find", "--db", library, *arguments).stdout.decode().splitlines()]

    return run


def songs(samptag: Run, library: Path, *arguments: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(samptag("find", "--json", "--db", library, *arguments).stdout)["songs"]
    return found


def test_found_songs_are_those_the_scores_say(samptag: Run, library: Path, find: Callable[..., list[str]]):
    everything = songs(samptag, library)
    assert len(everything) == 20
    middle = sorted(song["scores"]["piano"] for song in everything)[10]
    expected = [Path(s["path"]).name for s in everything if s["scores"]["piano"] > middle and s["artist"]]
    assert 0 < len(expected) < 12
    assert find(f"piano > {middle} and (artist ~ calm or artist ~ driving)") == expected


def test_order_limit_and_artists(samptag: Run, library: Path, find: Callable[..., list[str]]):
    best = songs(samptag, library, "--sort", "guitar")
    scores = [song["scores"]["guitar"] for song in best]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 10
    assert find("--sort", "-guitar", "-n", "3") == find("--sort", "-guitar")[:3]
    artists = [song["artist"] for song in songs(samptag, library, "artist ~ a", "--sort", "-artist")]
    assert artists == sorted(artists, reverse=True, key=str.casefold)
    one_each = songs(samptag, library, "--per-artist", "1", "--sort", "guitar")
    named = [song["artist"] for song in one_each if song["artist"]]
    assert sorted(named) == ["Calm 1", "Calm 2", "Calm 3", "Driving 1", "Driving 2", "Driving 3"]
    assert len(one_each) == 6 + 8  # those without an artist all stay


def test_random_order_is_the_seeds(find: Callable[..., list[str]]):
    first = find("--sort", "random", "--seed", "1")
    assert first == find("--sort", "random", "--seed", "1")
    assert first != find("--sort", "random", "--seed", "2")
    assert find("--sort", "random", "--seed", "1", "-n", "4") == first[:4]
    assert sorted(first) == sorted(find())


def test_playlist_beside_the_music_has_paths_that_lead_to_it(samptag: Run, library: Path):
    playlist = library.parent / "music" / "lists" / "calm.m3u8"
    playlist.parent.mkdir(exist_ok=True)
    samptag("find", "--db", library, "artist ~ calm", "-o", playlist)
    entries = read_m3u(playlist)
    assert [entry.text for entry in entries] == [
        f"../calm/{path.name}" for path in sorted((library.parent / "music" / "calm").iterdir())
    ]
    assert all(os.path.samefile(entry.path or "", library.parent / "music" / entry.text[3:]) for entry in entries)
    assert playlist.read_text().splitlines()[1].startswith("#EXTINF:6,Calm 1 - calm-01")


def test_other_outputs(samptag: Run, library: Path, tmp_path: Path):
    samptag("find", "--db", library, "artist ~ calm", "-o", tmp_path / "calm.nsp")
    rules = json.loads((tmp_path / "calm.nsp").read_text())
    assert rules["any"][0] == {"is": {"filepath": "calm/calm-01-honor-bound.opus"}}
    samptag("find", "--db", library, "artist ~ calm", "-o", tmp_path / "calm.jsonl")
    records = [json.loads(line) for line in (tmp_path / "calm.jsonl").read_text().splitlines()]
    assert records == songs(samptag, library, "artist ~ calm")
    assert b"must end in .m3u8" in samptag("find", "--db", library, "-o", tmp_path / "x.txt", check=2).stderr
    assert b"cannot be combined" in samptag("find", "--db", library, "-0", "--json", check=2).stderr
    assert not (tmp_path / "x.txt").exists()


def test_a_word_alone_says_what_it_means_without_cutoffs(samptag: Run, library: Path):
    done = samptag("find", "--db", library, "piano", "--json")
    assert b"store no cut-offs: a word alone means a score of at least 0.5" in done.stderr
    document = json.loads(done.stdout)
    assert document["cutoffs"] == {"piano": 0.5}
    assert all(song["scores"]["piano"] >= 0.5 for song in document["songs"])


def test_words_and_names_with_quotes(samptag: Run, library: Path, tmp_path: Path):
    db = shutil.copyfile(library, tmp_path / "library.db")
    renamed = {"strings": '12" mix', "quiet": "rock 'n' roll"}
    with closing(sqlite3.connect(db)) as connection, connection:
        words = json.loads(connection.execute("SELECT tags FROM weights").fetchone()[0])
        words = [{**word, "tag": renamed.get(word["tag"], word["tag"])} for word in words]
        connection.execute("UPDATE weights SET tags = ?", (json.dumps(words),))
        connection.execute(
            "UPDATE songs SET artist = ? WHERE CAST(path AS TEXT) LIKE '%bay.wav'", ('The "Bay" o\' Pigs',)
        )
    for plain, quoted in (("strings > .4", "'12\" mix' > .4"), ("quiet > .4", "\"rock 'n' roll\" > .4")):
        expected = samptag("find", "--db", library, plain).stdout
        assert samptag("find", "--db", db, quoted).stdout == expected != b""
    assert samptag("find", "--db", db, "artist ~ '\"bay\"'").stdout.endswith(b"bay.wav\n")
    done = samptag("find", "--db", db, '12" mix > .4', check=2)
    assert b"column 3 of the expression" in done.stderr


def test_status_counts_the_words_that_can_be_decided(samptag: Run, library: Path, tmp_path: Path):
    assert b" words, 0 with cut-offs\n" in samptag("index", "--status", "--db", library).stdout
    db = shutil.copyfile(library, tmp_path / "library.db")
    with closing(sqlite3.connect(db)) as connection, connection:
        words = json.loads(connection.execute("SELECT tags FROM weights").fetchone()[0])
        words[0]["cutoff"] = 0.3
        connection.execute("UPDATE weights SET tags = ?", (json.dumps(words),))
    (weights,) = json.loads(samptag("index", "--status", "--json", "--db", db).stdout)["weights"]
    assert (weights["words"], weights["decidable"], weights["cutoffs"]) == (8, 1, False)


def test_errors_mark_the_place(samptag: Run, library: Path):
    done = samptag("find", "--db", library, "piano > .5 and pinao", check=2)
    assert done.stderr.decode().splitlines() == [
        "samptag: error: column 16 of the expression: unknown word 'pinao', did you mean 'piano'?: "
        "piano > .5 and ^pinao"
    ]
    assert b"did you mean 'piano'" in samptag("find", "--db", library, "--sort", "pino", check=2).stderr
    assert (
        b"no song of the index was heard with 'other'"
        in samptag("find", "--db", library, "--model", "other", check=5).stderr
    )


def test_a_search_loads_no_numpy(library: Path, cli_environment: dict[str, str]):
    code = (
        "import sys; sys.argv = ['samptag', 'find', 'piano > .5 or artist ~ calm', '--db', sys.argv[1]]\n"
        "from samptag.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numpy', 'sklearn', 'mutagen', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, library], env=cli_environment, capture_output=True, check=True)
    assert done.stderr.decode() == "[]\n"
    assert done.stdout.count(b"\n") >= 6
