"""The command that makes a page; what the page does is tested in tests/report."""

import base64
import json
import re
from pathlib import Path

import pytest


@pytest.fixture
def report(samptag, tiny_weights):
    def run(*arguments, **options):
        return samptag("report", "--model", tiny_weights, *arguments, **options)

    return run


def library_of(page):
    return json.loads(re.search(r'id="library">(.*?)</script>', page.read_text(encoding="utf-8")).group(1))


def test_songs_folders_and_a_broken_file(report, media, short_set, broken_file, tmp_path):
    page = tmp_path / "out.html"
    page.write_text("old")
    broken = broken_file("text.mp3")
    done = report(short_set, media / "bay.wav", media / "bay.wav", broken, "-o", page, check=1)
    assert done.stdout == b""
    *_, last = done.stderr.decode().splitlines()
    assert last.startswith("samptag: 25 files tagged, 1 failed; ")
    assert last.endswith(f"; written to {page}")
    library = library_of(page)
    assert library["title"] == "26 songs"
    assert library["model"] == "tiny-test"
    songs = library["songs"]
    assert songs["name"].count("bay.wav") == 1
    assert [bool(error) for error in songs["error"]] == [False] * 25 + [True]
    assert songs["seconds"][0] == pytest.approx(1, abs=0.1)
    assert not any(songs["embedded"])


def test_one_song_and_the_command_agree(report, tag, media, tmp_path):
    page = tmp_path / "out.html"
    done = report(media / "eastern-dreams.mp3", "-o", page, "--hop", "0.5", "--title", "A <b>")
    assert done.stderr.decode().endswith(f"; written to {page}\n")
    record = json.loads(tag(media / "eastern-dreams.mp3", "--hop", "0.5", "--top", "0", "--json").stdout)
    library = library_of(page)
    packed = base64.b64decode(re.search(r'id="scores">(.*?)</script>', page.read_text(encoding="utf-8")).group(1))
    scores = [int.from_bytes(packed[i : i + 2], "little") / 65_535 for i in range(0, len(packed), 2)]
    expected = {item["tag"]: item["score"] for item in record["tags"]}
    assert dict(zip(library["tags"], scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert library["songs"]["segments"] == [record["segments"]]
    assert library["title"] == "A <b>"
    assert "<h1>A &lt;b&gt;</h1>" in page.read_text(encoding="utf-8")


def test_small_files_are_embedded_as_they_are(report, media, tmp_path):
    page = tmp_path / "out.html"
    report(media / "bay.wav", media / "eastern-dreams.mp3", "-o", page, "--embed", "0.1")
    songs = library_of(page)["songs"]
    assert songs["embedded"] == [True, False]
    assert songs["audio"][0] in ("audio/x-wav", "audio/wav")
    (sound,) = re.findall(r'id="sound-0">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert base64.b64decode(sound) == (media / "bay.wav").read_bytes()
    assert "sound-1" not in page.read_text(encoding="utf-8")


def test_neighbours_come_from_the_index(report, samptag, media, short_set, tiny_weights, deciding_weights, tmp_path):
    db, page = tmp_path / "library.db", tmp_path / "out.html"
    samptag("index", short_set, "--db", db, "--model", tiny_weights)
    song = media / "eastern-dreams.mp3"
    report(song, "-o", page, "--db", db)
    (alike,) = library_of(page)["songs"]["alike"]
    told = json.loads(samptag("similar", song, "--db", db, "-m", tiny_weights, "-n", "8", "--json").stdout)["songs"]
    # Embeddings in the index are of half precision: the order of near ones may differ.
    assert len({item["name"] for item in alike} & {Path(other["path"]).stem for other in told}) >= 7
    assert all(item["song"] is None and item["address"].endswith(".flac") for item in alike)
    assert all(item["words"].count(" · ") == 2 for item in alike)

    inside = sorted(short_set.iterdir())
    report(*inside, "-o", page, env={"SAMPTAG_DB": str(db)})
    songs = library_of(page)["songs"]
    assert {item["song"] for alike in songs["alike"] for item in alike} <= set(range(len(inside)))
    assert all(number not in {item["song"] for item in alike} for number, alike in enumerate(songs["alike"]))

    report(song, "-o", page)
    assert library_of(page)["songs"]["alike"] == [[]]
    other = samptag("report", song, "--model", deciding_weights, "-o", page, "--db", db, check=5)
    assert b"no song of the index was heard with" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-"], "standard input"),
        (["song.mp3", "-o", "song.txt"], "must end in .html"),
        (["song.mp3", "-o", "no/such/folder/x.html"], "cannot write no/such/folder/x.html: No such file or directory"),
    ],
)
def test_what_cannot_be_meant(report, arguments, reason, tmp_path):
    done = report(*arguments, check=2, cwd=tmp_path)
    (line,) = done.stderr.decode().splitlines()
    assert reason in line


def test_on_a_cpu_torch_is_not_imported(report, media, tmp_path):
    cold = {"preexec_fn": lambda: None, "env": {"PYTHONPROFILEIMPORTTIME": "1"}}
    done = report("--device", "cpu", media / "bay.wav", "-o", tmp_path / "x.html", **cold)
    imports = {line.split()[-1] for line in done.stderr.decode().splitlines()}
    assert "samptag.report.page" in imports
    assert not {"torch", "matplotlib", "sklearn", "scipy"} & imports
