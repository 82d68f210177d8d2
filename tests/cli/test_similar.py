"""`samptag similar` on an index of real files."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from music_library import MEDIA, make_music
from tiny_weights import save_tiny_weights

import samptag as package

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
SET = MEDIA / "set"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 32 songs heard with the weights that samptag comes with, and of a copy and a louder re-encoding."""
    folder = tmp_path_factory.mktemp("similar")
    music = make_music(folder / "music", songs=12)
    shutil.copyfile(music / "calm" / "calm-02-mountain-idyll.opus", music / "copy.opus")
    samples, rate = soundfile.read(music / "calm" / "calm-02-mountain-idyll.opus")
    soundfile.write(music / "again.flac", samples, rate)
    with package.Library(folder / "library.db") as made:
        made.index([music], device="cpu")
    return folder / "library.db"


@pytest.fixture
def similar(samptag: Run, library: Path) -> Callable[..., list[dict[str, Any]]]:
    def run(*arguments: Any) -> list[dict[str, Any]]:
        done = samptag("similar", "--json", "--db", library, *arguments)
        songs: list[dict[str, Any]] = json.loads(done.stdout)["songs"]
        return songs

    return run


def names(songs: list[dict[str, Any]]) -> list[str]:
    return [Path(song["path"]).name for song in songs]


def music(library: Path, name: str) -> Path:
    return library.parent / "music" / name.split("-")[0] / name


def test_calm_music_is_like_calm_music(similar: Any, library: Path):
    seed = music(library, "calm-04-helen-leaves-sparta.opus")
    cosines = [song["similarity"] for song in similar(seed, "-n", "50")]
    assert cosines == sorted(cosines, reverse=True)
    means = {}
    for kind in ("calm", "driving"):
        found = similar(seed, "-n", "50", "--where", f"artist ~ {kind}")
        assert {song["artist"].split()[0] for song in found} == {kind.title()}
        means[kind] = np.mean([song["similarity"] for song in found])
    assert means["calm"] > means["driving"] + 0.2


def test_the_same_recording_comes_once(similar: Any, library: Path):
    idyll = {"calm-02-mountain-idyll.opus", "copy.opus", "again.flac"}
    assert not idyll & set(names(similar(library.parent / "music" / "copy.opus", "-n", "50")))
    assert len(idyll & set(names(similar(music(library, "calm-01-honor-bound.opus"), "-n", "50")))) == 1


def test_what_a_codec_says_about_a_damaged_song_is_not_shown(samptag: Run, library: Path, broken_file: Any):
    done = samptag("similar", broken_file("hole.mp3"), "--db", library)
    assert done.stdout
    assert all(line.startswith("samptag: ") for line in done.stderr.decode().splitlines())


def test_a_song_outside_the_index_is_heard_on_the_spot(similar: Any, library: Path, tmp_path: Path):
    samples, rate = soundfile.read(music(library, "driving-04-combat-2.opus"))
    soundfile.write(tmp_path / "new.wav", samples[: len(samples) * 3 // 4], rate)
    (best,) = similar(tmp_path / "new.wav", "-n", "1")
    assert Path(best["path"]).name == "driving-04-combat-2.opus"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_what_is_no_file_is_not_waited_for(samptag: Any, library: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp3")
    for arguments in (("similar", tmp_path / "pipe.mp3"), ("similar", "/dev/zero")):
        (line,) = samptag(*arguments, "--db", library, check=1).stderr.decode().splitlines()
        assert line == f"samptag: error: cannot compare with {str(arguments[1])!r}: not a regular file"
    done = samptag("index", "--db", shutil.copyfile(library, tmp_path / "own.db"), tmp_path / "pipe.mp3", check=1)
    assert f"cannot index {str(tmp_path / 'pipe.mp3')!r}: not a regular file" in done.stderr.decode()


def test_several_seeds_and_songs_to_keep_away_from(similar: Any, library: Path):
    calm, driving = music(library, "calm-04-helen-leaves-sparta.opus"), music(library, "driving-04-combat-2.opus")
    alone = {song["path"]: song["similarity"] for song in similar(calm, "-n", "50")}
    away = {song["path"]: song["similarity"] for song in similar(calm, "--not", driving, "-n", "50")}
    both = {song["path"]: song["similarity"] for song in similar(calm, driving, "-n", "50")}
    techno = str(music(library, "driving-03-combat-1.opus"))
    assert away[techno] < alone[techno] < both[techno]
    assert str(driving) not in away


def test_a_path_goes_from_one_end_to_the_other(similar: Any, library: Path):
    start, end = music(library, "calm-02-mountain-idyll.opus"), music(library, "driving-09-sky-vibe.opus")
    path = similar(start, "--path-to", end, "-n", "6")
    assert len(set(names(path))) == 6
    to_start = {song["path"]: song["similarity"] for song in similar(start, "-n", "50")}
    to_end = {song["path"]: song["similarity"] for song in similar(end, "-n", "50")}
    leaning = [to_end[song["path"]] - to_start[song["path"]] for song in path]
    assert np.corrcoef(leaning, range(6))[0, 1] > 0.8
    assert leaning[0] < 0 < leaning[-1]


def test_playlist_and_artists(samptag: Run, similar: Any, library: Path, tmp_path: Path):
    seed = music(library, "calm-01-honor-bound.opus")
    samptag("similar", seed, "--db", library, "-n", "4", "-o", tmp_path / "radio.m3u8")
    assert (tmp_path / "radio.m3u8").read_text().count("#EXTINF:") == 4
    artists = [song["artist"] for song in similar(seed, "--per-artist", "1", "-n", "50") if song["artist"]]
    assert len(artists) == len(set(artists)) == 12


def test_embeddings_of_other_weights_are_not_compared(samptag: Run, library: Path, tmp_path: Path):
    other = save_tiny_weights(tmp_path / "other.safetensors", name="samplecnn-3-9-mtat50", seed=6)
    done = samptag("similar", MEDIA / "bay.wav", "--db", library, "--model", other, check=5)
    assert b"no song of the index was heard with" in done.stderr
    with package.Library(tmp_path / "tiny.db") as made:
        made.index([MEDIA / "lava.opus"], model=other, device="cpu")
    done = samptag("similar", SET / "calm-12-mirage.opus", "--db", tmp_path / "tiny.db", check=5)
    assert b"embeddings of two models cannot be compared" in done.stderr


def test_what_cannot_be_compared(samptag: Run, library: Path, broken_file: Any):
    assert b"cannot open 'none.mp3'" in samptag("similar", "none.mp3", "--db", library, check=1).stderr
    assert b"text.mp3" in samptag("similar", broken_file("text.mp3"), "--db", library, check=1).stderr
    seeds = (MEDIA / "bay.wav", MEDIA / "lava.opus")
    done = samptag("similar", *seeds, "--path-to", MEDIA / "bay.wav", "--db", library, check=2)
    assert b"a path leads from one song" in done.stderr


def test_a_song_of_the_index_needs_no_model(library: Path, cli_environment: dict[str, str]):
    code = (
        "import sys; sys.argv = ['samptag', 'similar', *sys.argv[1:]]\n"
        "from samptag.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'sklearn', 'soundfile'} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, str(music(library, "calm-01-honor-bound.opus")), "--db", str(library)]
    assert subprocess.run(command, env=cli_environment, capture_output=True, check=True).stderr.decode() == "[]\n"
