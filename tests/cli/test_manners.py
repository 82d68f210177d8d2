"""How the command behaves towards people: help, defaults of their own, switches, folders on a terminal, strips."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer.main
from terminals import plain_lines
from tiny_weights import TINY_TAGS

from samptag.cli.app import application
from samptag.cli.table import scores_by_column, strip
from samptag.tagging.tagger import Tagger


def commands(group=None, *names):
    """Every command with its words."""
    group = group or typer.main.get_command(application())
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


def examples(command):
    return [line.strip()[2:] for line in command.callback.__doc__.splitlines() if line.strip().startswith("$ ")]


@pytest.mark.parametrize(
    ("words", "command"), list(commands()), ids=lambda part: part if isinstance(part, str) else None
)
def test_every_command_has_examples_that_it_would_take(words, command):
    lines = examples(command)
    assert lines
    for line in lines:
        typed = shlex.split(line)
        start = typed.index("samptag")
        assert tuple(typed[start + 1 : start + 1 + len(words)]) == words
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        given = {word for word in typed[start + 1 + len(words) :] if word.startswith("-") and len(word) > 1}
        assert given <= known, line


def test_help_shows_examples_first_and_no_types_of_flags(samptag):
    page = samptag("help", "tag", env={"COLUMNS": "100"}, inside=True).stdout.decode()
    assert page == samptag("tag", "--help", env={"COLUMNS": "100"}).stdout.decode()
    assert page.index("$ samptag tag song.mp3") < page.index("--threshold")
    assert "[env var: SAMPTAG_MODEL]" in page
    for words, _ in commands():
        page = samptag(*words, "--help", env={"COLUMNS": "170"}, inside=True).stdout.decode()
        assert "<bool>" not in page
        assert "<list" not in page
    assert b"did you mean" in samptag("help", "tga", check=2).stderr.lower()
    assert samptag("-V", inside=True).stdout == samptag("--version", inside=True).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "2"], "'--threshold': it must be at most 1"),
        (["--top", "-1"], "'--top': it must be at least 0"),
        (["--top", "many"], "'--top': it must be a whole number"),
        (["--hop", "much"], "'--hop': it must be a number"),
        (["--tail", "cut"], "'--tail': 'cut' is not one of 'overlap', 'pad', 'drop'"),
        (
            ["-o", "x.xlsx"],
            "--output x.xlsx: the name must end in .json, .jsonl, .csv, .tsv or .parquet; or give --format",
        ),
        (["-o", "tags"], "--output tags: the name must end in"),
        (["--over-time", "--json"], "--over-time draws on a terminal"),
        (["--over-time"], "--over-time draws on a terminal"),
    ],
)
def test_wrong_values_are_told_in_plain_words(tag, tmp_path, arguments, words):
    process = tag("x", *arguments, check=2, cwd=tmp_path)
    assert words in process.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_device_needs_no_suffix_and_another_one_needs_a_format(tag, media, tmp_path):
    tag(media / "bay.wav", "-o", os.devnull)
    tag(media / "bay.wav", "-o", tmp_path / "tags.txt", "--format", "json")
    assert json.loads((tmp_path / "tags.txt").read_text())["error"] is None


def test_quiet_says_errors_alone_and_verbose_a_line_a_file(tag, media, broken_file):
    files = (broken_file("truncated.mp3"), broken_file("text.mp3"), media / "bay.wav")
    quiet = tag(*files, "-q", check=1).stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in quiet] == ["error"]
    usual = tag(*files, check=1)
    assert len(usual.stderr.splitlines()) == 3
    verbose = tag(*files, "--verbose", check=1)
    assert f"samptag: {media / 'bay.wav'}: 1.0 s, 4 segments\n" in verbose.stderr.decode()
    assert "samptag: tiny-test (sha256 " in verbose.stderr.decode()
    assert verbose.stdout == usual.stdout


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "settings.toml"

    def write(text):
        path.write_text(text)
        return {"SAMPTAG_CONFIG": str(path)}

    return write


def test_defaults_from_a_file_give_way_to_the_environment_and_the_line(samptag, config, media, tiny_weights):
    clip, missing = media / "bay.wav", "no-such-weights"
    environment = config(
        f'[tag]\nmodel = "{tiny_weights}"\ntop = 2\ntags = ["piano", "guitar", "techno"]\nformat = "json"\n'
    )
    record = json.loads(samptag("tag", clip, env=environment).stdout)
    assert len(record["tags"]) == 2
    assert {item["tag"] for item in record["tags"]} < {"piano", "guitar", "techno"}
    assert len(json.loads(samptag("tag", clip, "--top", "3", env=environment).stdout)["tags"]) == 3
    environment |= {"SAMPTAG_MODEL": missing}
    assert missing in samptag("tag", clip, env=environment, check=3).stderr.decode()
    samptag("tag", clip, "--model", tiny_weights, env=environment)
    nothing = samptag("tag", clip, env={"SAMPTAG_MODEL": str(tiny_weights), "SAMPTAG_DEVICE": "cuda:9"}, check=4)
    assert b"cuda:9" in nothing.stderr


def test_eval_takes_the_device_from_the_file_and_the_environment(samptag, config, media, tiny_weights, tmp_path):
    data = tmp_path / "music.csv"
    data.write_text(f"path,split,tags\n{media / 'bay.wav'},test,techno\n{media / 'lava.opus'},test,quiet\n")
    environment = config('[eval]\ndevice = "cuda:8"\n')
    arguments = ("eval", "--data", data, "--model", tiny_weights)
    assert b"cuda:8" in samptag(*arguments, env=environment, check=4).stderr
    assert b"cuda:9" in samptag(*arguments, env={**environment, "SAMPTAG_DEVICE": "cuda:9"}, check=4).stderr
    samptag(*arguments, "--device", "cpu", env=environment)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tag]\ntpo = 3\n", "settings.toml: 'tpo' cannot be set in [tag]: did you mean 'top'?"),
        ("[tag]\noutput = 'x'\n", "settings.toml: 'output' cannot be set in [tag]"),
        ("[tag]\ntop = 'many'\n", "settings.toml: Invalid value for '--top': it must be a whole number"),
        ("[trane]\n", "settings.toml: only the tables [tag], [train] and [eval] are read, not 'trane'"),
        ("[eval]\nmodel = 'x'\n", "settings.toml: 'model' cannot be set in [eval]: choose device, progress"),
        ("[tag\n", "settings.toml is not a TOML file"),
    ],
)
def test_a_wrong_file_of_defaults_is_one_line_that_names_it(tag, config, text, words):
    process = tag("x", env=config(text), check=2)
    assert words in process.stderr.decode()
    assert process.stderr.count(b"\n") == 1


def test_a_named_file_of_defaults_must_be_there(tag, tmp_path):
    process = tag("x", env={"SAMPTAG_CONFIG": str(tmp_path / "absent.toml")}, check=2)
    assert b"absent.toml" in process.stderr


def test_tags_are_completed_by_the_weights_on_the_line(cli_environment, tiny_weights):
    def completed(line):
        environment = {**cli_environment, "_SAMPTAG_COMPLETE": "complete_bash", "COMP_WORDS": line}
        environment["COMP_CWORD"] = str(len(line.split()) - 1)
        command = [sys.executable, "-m", "samptag"]
        return subprocess.run(command, capture_output=True, env=environment, check=False).stdout.decode().splitlines()

    assert completed("samptag tag --tags harp") == ["harp", "harpsichord"]
    assert completed("samptag tag --tags jazz,acoustic") == ["jazz,acoustic\\ guitar", "jazz,acoustic"]
    assert completed("samptag tag --model samplecnn-3-9-mtat50 --tags wom") == ["woman"]
    assert completed(f"samptag tag --model {tiny_weights} --tags fem") == ["female\\ vocal"]
    assert completed(f"samptag tag --model {tiny_weights} --tags piano,te") == ["piano,techno"]
    assert "sota-mtat-se" in completed("samptag weights show sota-mtat")


def test_a_folder_is_a_line_a_file_and_an_overview(media, tiny_weights, on_a_terminal, tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    for clip in sorted((media / "set").iterdir())[::4]:
        shutil.copy(clip, folder)
    results = list(Tagger.from_pretrained(tiny_weights).tag_many(sorted(folder.iterdir())))
    for columns in (60, 100, 170):
        text, code = on_a_terminal(columns, "tag", "--model", tiny_weights, folder, "--no-progress")
        assert code == 0
        *lines, overview = plain_lines(text)
        assert max(map(len, lines)) <= columns
        for line, result in zip(lines, results, strict=True):
            best = result.top(1)[0]
            assert f"  {best.tag} {best.score:.2f}".replace(" 0.", " .") in line
        assert overview.startswith("samptag: 6 files tagged; 0:36 heard, ")


def test_the_overview_says_where_it_was_written_to_a_person_who_watches(media, tiny_weights, on_a_terminal, tmp_path):
    out = tmp_path / "tags.csv"
    arguments = ["tag", "--model", tiny_weights, media / "bay.wav", "-o", out]
    text, _ = on_a_terminal(300, *arguments)
    assert plain_lines(text)[-1].endswith(f"; written to {out}")
    text, _ = on_a_terminal(300, *arguments, "--quiet")
    assert text == ""


@pytest.mark.parametrize("columns", [60, 170])
def test_strips_over_time_fill_the_width(demo_clip, tiny_weights, on_a_terminal, columns):
    arguments = ["tag", "--model", tiny_weights, demo_clip, "--over-time", "--tags", "piano,guitar", "--no-progress"]
    text, code = on_a_terminal(columns, *arguments)
    assert code == 0
    title, *strips, axis, facts = plain_lines(text)
    assert title.endswith("0:30")
    assert len(strips) == 2
    assert {len(line.split()[1]) for line in strips} == {min(120, columns - 27)}
    assert max(map(len, strips)) <= columns
    assert axis.split()[0] == "0:00"
    assert axis.split()[-1] == "0:30"
    assert "each score 0.3 s" in facts


@pytest.mark.parametrize(("cells", "hop"), [(7, None), (33, None), (400, None), (50, 0.1)])
def test_a_column_is_the_mean_of_what_sounds_in_it(demo_clip, tiny_weights, cells, hop):
    tagger = Tagger.from_pretrained(tiny_weights, hop_seconds=hop, tail="pad")
    result = tagger.tag(demo_clip)
    seconds = tagger.length / tagger.sample_rate
    scores = scores_by_column(result.taggram, result.starts, seconds=seconds, duration=result.duration, cells=cells)
    assert scores.shape == (cells, len(TINY_TAGS))
    moments = np.linspace(0, result.duration, 40_000, endpoint=False)
    nearest = np.abs(moments[:, None] - result.starts - seconds / 2).argmin(axis=1)
    for cell in (0, cells // 2, cells - 1):
        inside = nearest[(moments * cells / result.duration).astype(int) == cell]
        np.testing.assert_allclose(scores[cell], result.taggram[inside].mean(axis=0), atol=0.01)


def test_where_nothing_was_heard_no_block_stands():
    starts, taggram = np.array([0.0, 1.0]), np.array([[0.5], [1.0]], np.float32)
    scores = scores_by_column(taggram, starts, seconds=1.0, duration=2.5, cells=5)
    assert strip(scores[:, 0], peak=1.0) == "▄▄██ "


def test_schemas_are_printed_by_name(samptag):
    names = samptag("schema", inside=True).stdout.decode().split()
    assert {"tag", "eval", "weights", "info", "train", "data"} <= set(names)
    for name in names:
        document = json.loads(samptag("schema", name, inside=True).stdout)
        assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert b"choose data, eval, " in samptag("schema", "tga", check=2).stderr
