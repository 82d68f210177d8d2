"""What goes out of `samptag tag` for other programs and for the eye: Parquet, labels for Audacity, heat maps."""

import json
import os
import shutil
from itertools import pairwise

import numpy as np
import pytest

ODD_NAME = "a $x^2$ & <b> 音楽.mp3"


@pytest.fixture
def song(media, tmp_path):
    return shutil.copy(media / "eastern-dreams.mp3", tmp_path / ODD_NAME)


@pytest.fixture
def without(tmp_path):
    """``without("matplotlib")``: the environment of a user who has not installed it."""

    def make(name):
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"import sys; sys.modules[{name!r}] = None\n")
        return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}

    return make


def test_parquet_has_the_records_of_json(tag, short_set, broken_file, song, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    inputs = [short_set, broken_file("text.mp3"), song]
    tag(*inputs, "-o", tmp_path / "x.parquet", "--top", "3", check=1)
    tag(*inputs, "-o", tmp_path / "x.jsonl", "--top", "3", check=1)
    table = parquet.read_table(tmp_path / "x.parquet")
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(table.column_names) == {"path_bytes", *records[0]}
    assert str(table.schema.field("tags").type) == (
        "list<element: struct<tag: string, score: double, category: string, decided: bool>>"
    )
    rows = table.to_pylist()
    for row in rows:
        row["tags"] = [{name: value for name, value in item.items() if value is not None} for item in row["tags"]]
    assert len(rows) == len(records) == 26
    assert rows == [{"path_bytes": None, **record} for record in records]


def test_parquet_into_a_pipe_is_whole(tag, media, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    done = tag(media / "bay.wav", "--format", "parquet")
    (tmp_path / "x.parquet").write_bytes(done.stdout)
    assert parquet.read_table(tmp_path / "x.parquet").column("path").to_pylist() == [str(media / "bay.wav")]


def test_labels_cover_what_scores_above_the_threshold(tag, song, tmp_path):
    labels, archive = tmp_path / "x.txt", tmp_path / "x.npz"
    threshold = "0.55"
    done = tag(
        song, "--labels", labels, "--taggram", archive, "--threshold", threshold, "--tags", "strings,flöte", "--json"
    )
    duration = json.loads(done.stdout)["duration"]
    arrays = np.load(archive)
    scores, starts, tags = arrays["taggram_0"], arrays["starts_0"], list(arrays["tags"])
    lines = [line.split("\t") for line in labels.read_text(encoding="utf-8").splitlines()]
    spans = [(float(start), float(end), name) for start, end, name in lines]
    assert spans == sorted(spans, key=lambda span: span[0])
    assert {name for *_, name in spans} == {"strings", "flöte"}
    middles = starts + 6561 / 22050 / 2  # of the tiny model's segments, but for the last, which overlaps
    for tag_name in ("strings", "flöte"):
        column = scores[:, tags.index(tag_name)]
        mine = [(start, end) for start, end, name in spans if name == tag_name]
        inside = [any(start <= middle < end for start, end in mine) for middle in middles]
        assert inside == list(column >= float(threshold))
        assert all(later[0] > earlier[1] for earlier, later in pairwise(mine))
    assert all(0 <= start < end <= duration + 1e-6 for start, end, _ in spans)


def test_a_picture_has_the_words_and_the_name_as_text(tag, song, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    done = tag(song, "--taggram", tmp_path / "x.svg", "--tags", "piano,flöte")
    assert done.stderr == b""
    drawn = (tmp_path / "x.svg").read_text(encoding="utf-8")
    for text in (">piano<", ">flöte<", ">a $x^2$ &amp; &lt;b&gt; 音楽.mp3<"):
        assert text in drawn
    assert ">techno<" not in drawn
    tag(song, "--taggram", tmp_path / "again.svg", "--tags", "piano,flöte")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == drawn


def test_a_picture_shows_the_taggram(tag, song, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.image import imread

    done = tag(song, "--taggram", tmp_path / "x.png", "--tags", "piano", "--hop", "3", "--tail", "drop")
    assert done.stderr == b""
    tag(song, "--taggram", tmp_path / "x.npz", "--hop", "3", "--tail", "drop")
    archive = np.load(tmp_path / "x.npz")
    scores = archive["taggram_0"][:, list(archive["tags"]).index("piano")]
    middle = imread(tmp_path / "x.png")[:, :, :3]
    row = middle[len(middle) // 2].sum(axis=1)
    # The heat map is the longest run of pixels that are not white.
    white = np.flatnonzero(np.concatenate([[3], row, [3]]) == 3)
    longest = np.argmax(np.diff(white))
    heat = row[white[longest] : white[longest + 1] - 1]
    edges = np.concatenate([[0], archive["starts_0"][1:] - 1.5 + 6561 / 22050 / 2, [30.04]])
    pixels = ((edges[1:] + edges[:-1]) / 2 / 30.04 * len(heat)).astype(int)
    assert len(scores) == 10
    assert np.corrcoef(scores, heat[pixels])[0, 1] < -0.99


@pytest.mark.parametrize(("option", "name"), [("--taggram", "x.png"), ("--labels", "x.txt")])
def test_what_is_about_one_song_takes_one(tag, media, tmp_path, option, name):
    target = tmp_path / name
    target.write_text("old")
    done = tag(media / "bay.wav", media / "lava.opus", option, target, check=2)
    assert "are for one song, not for 2; --taggram x.npz takes many" in done.stderr.decode()
    assert target.read_text() == "old"


def test_a_song_that_failed_has_a_picture_that_says_so_and_no_labels(tag, broken_file, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    drawn, labels = tmp_path / "x.svg", tmp_path / "x.txt"
    tag(broken_file("text.mp3"), "--taggram", drawn, "--labels", labels, check=1)
    assert "not a sound file" in drawn.read_text(encoding="utf-8")
    assert labels.read_text() == ""


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("matplotlib", ("--taggram", "x.png"), "a picture needs matplotlib: pip install 'samptag[plot]'"),
        ("pyarrow", ("-o", "x.parquet"), "Parquet needs pyarrow: pip install 'samptag[parquet]'"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_tagged(
    tag, media, without, tmp_path, module, arguments, message
):
    cold = {"preexec_fn": lambda: None}
    done = tag(media / "bay.wav", *arguments, check=2, cwd=tmp_path, env=without(module), **cold)
    assert done.stderr.decode() == f"samptag: error: {message}\n"
    assert done.stdout == b""
    assert not (tmp_path / arguments[1]).exists()


def test_other_suffixes_are_refused(tag, media):
    assert b"must end in .npz, .csv, .png or .svg" in tag(media / "bay.wav", "--taggram", "x.pdf", check=2).stderr
    assert b"must end in .txt" in tag(media / "bay.wav", "--labels", "x.srt", check=2).stderr
