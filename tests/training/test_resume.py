"""A killed or stopped training goes on as if nothing had happened: real processes, real signals, real music."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from samptag.training.state import load_checkpoint

EPOCHS = 4


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "samptag", "train", "--out", str(out), *options]


def start_options(small_set: Path, cache_dir: Path) -> list[str]:
    # dropout, augmentation, moving average and schedule all have a state to lose; a checkpoint every 60 ms
    return [
        *("--data", str(small_set), "--cache", str(cache_dir), "--model", "samplecnn-3-5-9", "--device", "cpu"),
        *("--epochs", str(EPOCHS), "--batch-size", "8", "--seed", "11", "--save-every-minutes", "0.001"),
    ]


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def learned(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor a training ends with: weights, moving average, optimiser."""
    stepper = load_checkpoint(out / "last.pt")["stepper"]
    tensors = {f"model.{k}": v for k, v in stepper["model"].items()}
    tensors |= {f"average.{k}": v for k, v in stepper["average"].items()}
    for number, state in stepper["optimiser"]["state"].items():
        tensors |= {f"optimiser.{number}.{k}": v for k, v in state.items()}
    return tensors


def losses(out: Path) -> list[tuple[float, ...]]:
    names = ("epoch", "train_loss", "valid_loss", "valid_roc_auc", "learning_rate")
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [tuple(json.loads(line)[name] for name in names) for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_set: Path, cache_dir: Path) -> tuple[Path, float]:
    """A training nobody disturbed, and how many seconds it trained."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = subprocess.Popen(command(out, *start_options(small_set, cache_dir)), stderr=subprocess.PIPE)
    wait_for(out / "last.pt", process)
    started = time.monotonic()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out, time.monotonic() - started


def test_killed_at_a_random_moment_it_ends_bit_for_bit_the_same(
    undisturbed: tuple[Path, float], tmp_path: Path, small_set: Path, cache_dir: Path
):
    reference, seconds = undisturbed
    out = tmp_path / "run"
    arguments = start_options(small_set, cache_dir)
    moments = []
    for _ in range(2):
        process = subprocess.Popen(command(out, *arguments), stderr=subprocess.PIPE)
        wait_for(out / "last.pt", process)
        moments.append(random.SystemRandom().uniform(0, 0.5 * seconds))
        time.sleep(moments[-1])
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        position = load_checkpoint(out / "last.pt")["position"]
        moments.append((position["epoch"], position["step"]))
        arguments = ["--resume", "--cache", str(cache_dir), "--device", "cpu", "--save-every-minutes", "0.001"]
    done = subprocess.run(command(out, *arguments), capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = learned(out), learned(reference)
    assert ours.keys() == theirs.keys()
    differing = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert not differing, f"killed at {moments}"
    assert losses(out) == losses(reference)
    assert len(losses(out)) == EPOCHS
    assert not list(out.glob("*.tmp"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_saves_at_the_next_step_and_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    undisturbed: tuple[Path, float],
    tmp_path: Path,
    small_set: Path,
    cache_dir: Path,
):
    reference, seconds = undisturbed
    out = tmp_path / "run"
    options = start_options(small_set, cache_dir)
    options[-1] = "1000"  # no checkpoint but the first one and the signal's
    process = subprocess.Popen(command(out, *options), stderr=subprocess.PIPE, text=True)
    wait_for(out / "last.pt", process)
    time.sleep(0.1 * seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"samptag train --resume --out {out}" in errors.splitlines()[-1]
    position = load_checkpoint(out / "last.pt")["position"]
    assert not position["finished"]
    done = subprocess.run(
        command(out, "--resume", "--cache", str(cache_dir), "--device", "cpu"),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = learned(out), learned(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
