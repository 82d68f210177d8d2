"""`samptag tag` with weights that sort and decide their words, in every form, and the library beside it."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import soundfile
from deciding_weights import CATEGORY_OF, CUTOFFS, save_deciding_weights
from terminals import plain_lines

from samptag.cli.table import LineWriter
from samptag.cli.writers import About, Selection
from samptag.core.card import ModelCard, read_card
from samptag.tagging.result import TagScore, TrackResult
from samptag.tagging.tagger import Tagger


@pytest.fixture(scope="module")
def song(music, tmp_path_factory):
    """The first ten seconds of the demo clip, four segments."""
    path = tmp_path_factory.mktemp("decided") / "eastern-dreams.wav"
    soundfile.write(path, music.part(10), music.rate)
    return path


@pytest.fixture(scope="module")
def result(song, deciding_weights):
    return Tagger.from_pretrained(deciding_weights, device="cpu").tag(song)


@pytest.fixture
def decide(samptag, deciding_weights):
    def run(*arguments, **options):
        return samptag("tag", "--model", deciding_weights, *arguments, **options)

    return run


@pytest.fixture
def seen(deciding_weights, on_a_terminal):
    """``seen(60, ...)``: the lines on a terminal of that width."""

    def run(columns, *arguments):
        text, code = on_a_terminal(columns, "tag", "--model", deciding_weights, *arguments, "--no-progress")
        assert code == 0, text
        lines = plain_lines(text)
        assert max(map(len, lines)) <= columns
        return lines

    return run


def test_a_result_knows_what_is_decided(result):
    decided = result.top(None, decided=True)
    assert {item.tag for item in decided} == {"guitar", "sitar"}
    for item in result.scores:
        assert item.category == CATEGORY_OF[item.tag]
        assert item.cutoff == CUTOFFS.get(item.tag)
        assert item.decided is (item.score >= CUTOFFS[item.tag] if item.tag in CUTOFFS else None)


def test_every_form_says_what_is_decided(decide, song, result, valid, tmp_path):
    record = json.loads(decide(song, "--json", "--top", "0").stdout)
    valid("tag", record)
    assert record == {**result.to_record(top=None), "path": str(song)}
    items = {item["tag"]: item for item in record["tags"]}
    sitar = items["sitar"]
    assert sitar == {"tag": "sitar", "score": sitar["score"], "category": "instrument", "decided": True}
    assert items["slow"]["decided"] is False
    assert "decided" not in items["indian"]

    only = json.loads(decide(song, "--json", "--decide").stdout)
    valid("tag", only)
    assert only["tags"] == [item for item in record["tags"] if item.get("decided")]
    assert len(json.loads(decide(song, "--json", "--decide", "--top", "1").stdout)["tags"]) == 1
    assert json.loads(decide(song, "--json", "--decide", "--tags", "slow,fast").stdout)["tags"] == []

    lines = [line.split("\t") for line in decide(song, "--top", "0").stdout.decode().splitlines()]
    word = {True: "yes", False: "no", None: ""}
    for _, tag, score, category, decided in lines:
        assert (float(score), category) == (items[tag]["score"], items[tag]["category"])
        assert decided == word[items[tag].get("decided")]

    header, row = csv.reader(io.StringIO(decide(song, "--format", "csv", "--decide").stdout.decode()))
    filled = {tag: float(cell) for tag, cell in zip(header[1:], row[1:], strict=True) if cell}
    assert filled == {item["tag"]: item["score"] for item in only["tags"]}


def test_parquet_has_the_columns(decide, song, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    decide(song, "--decide", "-o", tmp_path / "x.parquet")
    (row,) = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [(item["tag"], item["category"], item["decided"]) for item in row["tags"]] == [
        ("guitar", "instrument", True),
        ("sitar", "instrument", True),
    ]


@pytest.mark.parametrize("columns", [60, 100, 170])
def test_a_song_is_a_line_a_category(seen, song, result, columns):
    title, *lines = seen(columns, song)
    assert title.endswith("0:10")
    labels = [line.split()[0] for line in lines]
    assert list(dict.fromkeys(labels)) == ["instrument", "genre", "pace", "voice", "mood"]
    scores = {item.tag: f"{item.score:.2f}".removeprefix("0") for item in result.scores}
    words = [f"guitar {scores['guitar']}", f"sitar {scores['sitar']}", f"strings? {scores['strings']}"]
    assert lines[0].split("  ")[2:] == words
    assert lines[1].split()[1:3] == ["indian?", scores["indian"]]


def test_of_a_category_only_what_is_decided(seen, song, result):
    scores = {item.tag: f"{item.score:.2f}".removeprefix("0") for item in result.scores}
    _, *lines = seen(60, song, "--decide")
    assert [line.split(maxsplit=1) for line in lines] == [
        ["instrument", f"guitar {scores['guitar']}  sitar {scores['sitar']}"],
        *([label, "unsure"] for label in ("genre", "pace", "voice", "mood")),
    ]


def test_long_lines_of_a_category_go_on_below(seen, song):
    _, *lines = seen(30, song, "--decide")
    assert len(lines[0]) - len(lines[0].lstrip()) == 2
    assert lines[1].startswith(" " * 14 + "sitar ")


def test_five_at_the_top_are_the_five_best_of_all_with_their_bars(seen, song, result):
    _, *lines = seen(100, song, "--top", "5")
    assert sorted(line.split()[-1] for line in lines) == sorted(f"{item.score:.3f}" for item in result.top(5))
    assert [line.split()[0] for line in lines] == ["instrument", "sitar", "strings?", "genre", "pace"]
    assert all("█" in line for line in lines[:4])


def test_where_nothing_is_decided_it_is_unsure(seen, song):
    for option in ((), ("--over-time",)):
        _, line = seen(100, song, "--decide", "--tags", "slow,fast", *option)
        assert line == "  unsure; --top 5 shows the best tags all the same"


def test_a_folder_shows_decided_words_unless_told_otherwise(seen, media, deciding_weights, tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    for song in sorted((media / "set").iterdir())[4::4]:  # of the first nothing is decided
        shutil.copy(song, folder)
    lines = seen(100, folder)
    results = list(Tagger.from_pretrained(deciding_weights).tag_many(sorted(folder.iterdir())))
    order = list(dict.fromkeys(item.category for item in results[0].scores))
    for line, result in zip(lines, results, strict=False):
        decided = sorted(result.top(None, decided=True), key=lambda item: order.index(item.category))
        words = [f"{item.tag} {item.score:.2f}".replace(" 0.", " .") for item in decided]
        assert "  ".join(line.split("  ")[1:]).strip() == ("  ".join(words) or "unsure")
    assert any("unsure" in line for line in lines)
    best = seen(100, folder, "--top", "1")[0]
    assert f"{results[0].top(1)[0].tag}" in best


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (44, ["techno .90", "guitar .60", "slow .40"]),
        (60, ["techno .90", "guitar .60", "sitar .50", "slow .40"]),
        (80, ["techno .90", "electronic .80", "guitar .60", "sitar .50", "slow .40"]),
    ],
)
def test_a_short_line_has_the_best_of_every_category(columns, shown, deciding_weights, monkeypatch):
    card = read_card(deciding_weights)
    heard = {"techno": 0.9, "electronic": 0.8, "guitar": 0.6, "sitar": 0.5, "slow": 0.4}
    scores = tuple(TagScore(tag, heard.get(tag, 0.0), CATEGORY_OF[tag], CUTOFFS.get(tag)) for tag in card.tags)
    monkeypatch.setenv("COLUMNS", str(columns))
    about = About(selection=Selection(usual=True), card=card, paths=("x.wav", "y.wav"), single=False)
    LineWriter(out := io.StringIO(), about).write(TrackResult(path="x.wav", model=card.name, scores=scores))
    order = list(dict.fromkeys(card.tag_categories))
    words = re.findall(r"\w+ \.\d\d", out.getvalue())
    assert words == sorted(shown, key=lambda word: order.index(CATEGORY_OF[word.split()[0]]))


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (28, ["rhythm… blues .90"]),
        (45, ["rhythm and blues .90"]),
        (80, ["rhythm and blues .90", "jazz and blues and soul .80", "ska .70"]),
    ],
)
def test_a_short_line_without_categories_leaves_out_none_but_the_lowest(columns, shown, deciding_weights, monkeypatch):
    heard = {"rhythm and blues": 0.9, "jazz and blues and soul": 0.8, "ska": 0.7}
    config = replace(read_card(deciding_weights).config, n_tags=len(heard))
    card = ModelCard(name="plain", config=config, tags=tuple(heard), licence="MIT", training_data="none")
    scores = tuple(TagScore(*item) for item in heard.items())
    monkeypatch.setenv("COLUMNS", str(columns))
    about = About(selection=Selection(usual=True), card=card, paths=("x.wav", "y.wav"), single=False)
    LineWriter(out := io.StringIO(), about).write(TrackResult(path="x.wav", model=card.name, scores=scores))
    assert re.findall(r"\S[^.]* \.\d\d", out.getvalue().partition("x.wav")[2]) == shown


def test_strips_are_of_decided_words(seen, media, song):
    _, guitar, sitar, axis, _facts = seen(100, song, "--over-time")
    assert (guitar.split()[0], sitar.split()[0], axis.split()[0]) == ("guitar", "sitar", "0:00")
    _, *strips, _, _ = seen(100, song, "--over-time", "--top", "3")
    assert len(strips) == 3
    # Where nothing is decided over the whole, there is something to see all the same.
    _, *strips, _, _ = seen(100, media / "set" / "calm-05-harsh-lands.opus", "--over-time")
    assert len(strips) == 5
    assert all(line.split("  ")[1].endswith("?") for line in strips)


def test_labels_begin_at_the_cutoff_of_each_word(decide, song, result, deciding_weights, tmp_path):
    labels = tmp_path / "x.txt"
    decide(song, "--decide", "--labels", labels)
    lines = [line.split("\t") for line in labels.read_text().splitlines()]
    tags = read_card(deciding_weights).tags
    # The last segment begins early, to end with the song: what two hear belongs to each by half.
    edges = [0, *(result.starts[1:] + result.starts[:-1] + 59_049 / 22_050) / 2, 10]
    for word in ("guitar", "sitar"):
        heard = result.taggram[:, tags.index(word)] >= CUTOFFS[word]
        spans = [span for span, is_heard in zip(pairwise(edges), heard, strict=True) if is_heard]
        found = [(float(start), float(end)) for start, end, tag in lines if tag == word]
        assert (found[0][0], found[-1][1]) == pytest.approx((spans[0][0], spans[-1][1]))
        assert sum(end - start for start, end in found) == pytest.approx(sum(end - start for start, end in spans))


def test_weights_that_cannot_decide_name_those_that_can(tag, media, tmp_path):
    line = tag(media / "bay.wav", "--decide", check=2).stderr.decode()
    shipped = "samplecnn-3-9-library or frame-mel-729-243-library or samplecnn-3-9-mtat50"
    assert line == f"samptag: error: --decide: the weights tiny-test store no cut-offs: use --model {shipped}\n"
    (tmp_path / "cache").mkdir(exist_ok=True)
    for name in ("mine", "other"):
        save_deciding_weights(tmp_path / "cache" / f"{name}.safetensors", name=name)
    save_deciding_weights(tmp_path / "cache" / "none.safetensors", name="none", cutoffs=None, cutoff_evidence=None)
    line = tag(media / "bay.wav", "--decide", check=2).stderr.decode()
    assert line.endswith(f"tiny-test store no cut-offs: use --model {shipped} or mine or other\n")


def test_categories_alone_sort_but_decide_nothing(samptag, song, tmp_path, on_a_terminal):
    weights = save_deciding_weights(tmp_path / "w.safetensors", cutoffs=None, cutoff_evidence=None)
    item = json.loads(samptag("tag", "-m", weights, song, "--json", "--top", "1").stdout)["tags"][0]
    assert item == {"tag": "guitar", "score": item["score"], "category": "instrument"}
    text, _ = on_a_terminal(100, "tag", "-m", weights, song, "--no-progress", env={"TERM": "xterm"})
    assert plain_lines(text)[1].split()[0:2] == ["instrument", "guitar"]
    assert "?" not in text


def test_resume_does_not_mix_what_is_decided_with_what_is_not(decide, media, tmp_path):
    target = tmp_path / "x.jsonl"
    part = tmp_path / "x.jsonl.part"
    decide(media / "bay.wav", tmp_path / "missing.wav", "-o", target, "--decide", "--fail-fast", check=1)
    shutil.copy(target, part)
    header = {"schema": "samptag.resume/1", "settings": {"model": "deciding"}}
    weights = json.loads(target.read_text().splitlines()[0])["weights"]["sha256"]
    settings = {"model": "deciding", "weights": weights, "hop": 59049, "tail": "overlap", "top": None}
    settings |= {"threshold": None, "tags": None, "decide": True}
    part.write_text(json.dumps({**header, "settings": settings}) + "\n" + target.read_text())
    target.unlink()
    refused = decide(media / "bay.wav", "-o", target, "--resume", "--top", "0", check=2).stderr.decode()
    assert "was made with decide True, not None" in refused
    again = decide(media / "bay.wav", "-o", target, "--resume", "--decide")
    assert b"1 of 1 input was tagged before" in again.stderr


def test_the_library_decides_as_tag_does(samptag, decide, media, song, deciding_weights, tmp_path):
    songs = tmp_path / "songs"
    songs.mkdir()
    for each in (song, *(media / name for name in ("bay.wav", "void-sensor.ogg", "calm-before-the-storm.flac"))):
        shutil.copy(each, songs)
    db = ("--db", tmp_path / "library.db")
    samptag("index", songs, *db, "--model", deciding_weights)
    records = json.loads(decide(songs, "--json", "--decide").stdout)
    for word in ("guitar", "sitar", "slow", "techno"):
        told = {record["path"] for record in records if word in {item["tag"] for item in record["tags"]}}
        found = json.loads(samptag("find", word, *db, "--json").stdout)
        assert {song["path"] for song in found["songs"]} == told
        assert found["cutoffs"] == {word: CUTOFFS[word]}
