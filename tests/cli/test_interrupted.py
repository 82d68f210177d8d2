"""Ctrl-C on a real terminal, and readers that leave: no bar stays on the screen, and what is said is whole."""

import csv
import json
import subprocess

import pytest
from terminals import on_a_terminal, screen

COLUMNS = 100


def manifest(path, clips):
    """The clips as a data set."""
    parts = ("train", "valid", "test")
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "tags"])
        for number, clip in enumerate(sorted(clips)):
            rows.writerow([clip, parts[number % 3], ("techno", "quiet")[number % 2]])
    return path


def arguments_of(command, library, weights, folder):
    # A training is long by its epochs, and first it decodes all its music: a fifth is enough.
    data = manifest(folder / "music.csv", library.glob("0[0-4]/*" if command == "train" else "*/*"))
    return {
        "tag": ["tag", library, "-m", weights, "-o", folder / "tags.jsonl"],
        "index": ["index", library, "-m", weights, "--db", folder / "library.db"],
        "report": ["report", library, "-m", weights, "-o", folder / "page.html"],
        "eval": ["eval", "--data", data, "-m", weights, "--device", "cpu", "--resamples", "10"],
        "train": [
            *("train", "--data", data, "--out", folder / "run", "--model", "samplecnn-3-5-27"),
            *("--epochs", "999", "--device", "cpu"),
        ],
    }[command]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("tag", b"real time"),
        ("index", b"hearing"),
        ("report", b"real time"),
        ("eval", b"evaluating"),
        ("train", b"segments/s"),
    ],
)
def test_ctrl_c_clears_the_bar(samptag, command, shown, library, tiny_weights, cli_environment, tmp_path):
    arguments = arguments_of(command, library, tiny_weights, tmp_path)
    environment = {**cli_environment, "TERM": "xterm-256color"}
    text, code = on_a_terminal(arguments, environment, COLUMNS, interrupt_at=shown)
    assert code == 130
    assert "━" in text
    lines = screen(text, COLUMNS)
    assert not [line for line in lines if "━" in line]
    # Messages alone, and what of them is too long for a line.
    for line, previous in zip(lines, ["", *lines[:-1]], strict=True):
        assert line.startswith(("samptag: ", "^Csamptag: ")) or len(previous) == COLUMNS
    assert "Traceback" not in text
    if command == "index":
        (kept,) = [line for line in lines if line.endswith("they are kept, and the same command goes on")]
        status = json.loads(samptag("index", "--status", "--json", "--db", tmp_path / "library.db").stdout)
        assert status["songs"] <= int(kept.removeprefix("^C").split()[1]) <= status["songs"] + 1


def test_a_reader_that_leaves_takes_the_bar_with_it(library, tiny_weights, cli_environment):
    def leave(process):
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()

    arguments = ["tag", library, "-m", tiny_weights, "--format", "jsonl"]
    environment = {**cli_environment, "TERM": "xterm-256color"}
    text, code = on_a_terminal(arguments, environment, COLUMNS, watch=leave, stdout=subprocess.PIPE)
    assert code == 0
    assert "━" in text
    assert screen(text, COLUMNS) == []


def test_the_screen_of_the_tests_is_a_terminal():
    assert screen("one\r\ntwo\x1b[1A\r\x1b[2KONE\r\n\x1b[2K\x1b[31mthree\x1b[0m", 80) == ["ONE", "three"]
    assert screen("abcdef\rX", 4) == ["abcd", "Xf"]
