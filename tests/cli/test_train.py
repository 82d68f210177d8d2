"""`samptag train` on real music, end to end: killed, resumed, exported, evaluated, used to tag; and its errors."""

import csv
import dataclasses
import inspect
import json
import re
import signal
import time
from pathlib import Path
from typing import get_args

import pytest

from samptag.cli.train import train
from samptag.core.config import Block
from samptag.training import TrainConfig
from samptag.training.recipe import RECIPES


def manifest(path: Path, media: Path) -> Path:
    """8 training, 4 validation and 12 test clips of music that is calm or driving."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "tags"])
        for clip in sorted((media / "set").glob("*.opus")):
            tag, number = clip.name.split("-")[:2]
            split = "train" if int(number) <= 6 else "valid" if int(number) <= 9 else "test"
            rows.writerow([clip, split, tag])
    return path


def test_trained_killed_resumed_exported_evaluated_and_used(
    tmp_path: Path, media: Path, samptag, valid, cli_environment, warm_processes
):
    data, out = manifest(tmp_path / "music.csv", media), tmp_path / "moods"
    options = ["train", "--data", data, "--out", out, "--model", "samplecnn-3-5-27", "--epochs", "5", "--device", "cpu"]
    options += ["--batch-size", "10", "--name", "moods", "--licence", "CC0-1.0"]
    process = warm_processes.start(["-m", "samptag", *map(str, options)], env=cli_environment)
    while process.poll() is None and not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert b"calm 6/3, driving 6/3" in errors

    done = samptag("train", "--resume", "--out", out, "--json")
    result = json.loads(done.stdout)
    valid("train", result)
    assert result["schema"] == "samptag.train/1"
    assert result["epochs"] == 5
    assert result["finished"]
    assert result["best"]["valid_roc_auc"] >= 0.85
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")

    weights = out / "model.safetensors"
    report = json.loads(samptag("eval", "--data", data, "--model", weights, "--device", "cpu", "--json").stdout)
    assert report["model"] == "moods"
    assert report["clips"] == 6
    assert report["macro"]["roc_auc"] >= 0.85

    clips = sorted((media / "set").glob("*-12-*.opus"))
    tracks = json.loads(samptag("tag", *clips, "--model", weights, "--top", "1", "--json").stdout)
    assert len(tracks) == 2
    for track in tracks:
        assert track["model"] == "moods"
        assert {tag["tag"] for tag in track["tags"]} <= {"calm", "driving"}


def test_fine_tuning_the_classifier_of_other_weights(tmp_path: Path, media: Path, samptag, tiny_weights: Path):
    out = tmp_path / "tuned"
    data = manifest(tmp_path / "music.csv", media)
    options = ["--data", data, "--out", out, "--init-from", tiny_weights, "--freeze-encoder", "--epochs", "1"]
    done = samptag("train", *options, "--pos-weight", "balanced", "--device", "cpu")
    assert b"calm 6/3, driving 6/3" in done.stderr

    from samptag.core.weights import read_weights

    ours, theirs = read_weights(out / "model.safetensors").loaded(), read_weights(tiny_weights).loaded()
    assert ours.card.tags == ("calm", "driving")
    assert "starting from" in ours.card.description
    before, after = theirs.model.state_dict(), ours.model.state_dict()
    assert all((before[name] == after[name]).all() for name in before if not name.startswith("head."))


def test_of_several_processes_one_speaks(tmp_path: Path, media: Path, cli_environment, run_ranks):
    text = manifest(tmp_path / "music.csv", media).read_text()
    (tmp_path / "music.csv").write_text(text.replace("test,calm", "test,calm;rare"))
    options = ["--data", tmp_path / "music.csv", "--out", tmp_path / "out", "--model", "samplecnn-3-4-27"]
    command = ["-m", "samptag", "train", *options, "--max-steps", "1", "--device", "cpu", "--json"]
    first, second = run_ranks(command, env=cli_environment)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout)["steps"] == 1
    assert first.stderr.count("no training clip has rare") == 1
    assert first.stderr.count("out/model.safetensors: epoch 1") == 1
    assert (second.stdout, second.stderr) == ("", "")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--model", "samplecnn-9"], 2, "unknown model name 'samplecnn-9'"),
        (["--model", "samplecnn-3-9", "--m", "3"], 2, "either --model or --m"),
        (["--m", "1"], 2, "m must be at least 2"),
        (["--recipe", "papre"], 2, "no recipe is called 'papre'"),
        (["--segments-per-example", "5"], 2, "a batch of 32 segments is not made of whole examples of 5"),
        (["--pos-weight", "heavy"], 2, "--pos-weight must be a number above 0 or 'balanced', not 'heavy'"),
        (["--pos-weight", "inf"], 2, "--pos-weight must be a number above 0 or 'balanced', not 'inf'"),
        (["--device", "cuda:7"], 4, "no device 'cuda:7'"),
        (["--data", "nowhere"], 5, "nowhere"),
        (["--init-from", "nothing-of-that-name"], 3, "nothing-of-that-name"),
        (["--resume"], 3, "no checkpoint to resume from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_one_line(
    options: list[str], code: int, words: str, tmp_path: Path, media: Path, samptag
):
    data = ["--data", manifest(tmp_path / "music.csv", media)]
    done = samptag("train", "--out", tmp_path / "out", *data, *options, check=code)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("samptag: error: ")
    assert words in lines[0]
    assert done.stdout == b""


def test_the_help_names_every_recipe_and_block(samptag):
    text = samptag("train", "--help", inside=True).stdout.decode()
    assert {*RECIPES, *get_args(Block)} <= set(re.findall(r"[\w-]+", text))


def test_options_of_a_training_are_options_of_the_command():
    options = set(inspect.signature(train).parameters)
    of_the_model = {"m", "n", "first_filter", "first_stride", "block", "multi_level", "sample_rate"}
    of_the_recipe = {"batch_size", "learning_rate", "segments_per_clip", "segments_per_example"}
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert options == fields | of_the_model | of_the_recipe | {"out", "resume", "as_json", "progress"}
