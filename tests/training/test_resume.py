"""A killed or stopped training goes on as if nothing had happened: real processes, real signals, real music."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from samptag.training.state import load_checkpoint

EPOCHS = 3
TWO_THREADS = {**os.environ, "OMP_NUM_THREADS": "2"}  # in which sums could come in any order


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "samptag", "train", "--out", str(out), *options]


def start_options(small_set: Path, cache_dir: Path) -> list[str]:
    # dropout, augmentation, moving average and schedule all have a state to lose; a checkpoint every 0.3 s
    return [
        *("--data", str(small_set), "--cache", str(cache_dir), "--model", "samplecnn-3-5-9", "--device", "cpu"),
        *("--epochs", str(EPOCHS), "--batch-size", "8", "--seed", "11", "--save-every-minutes", "0.005"),
    ]


def resume(out: Path, cache_dir: Path) -> "subprocess.CompletedProcess[bytes]":
    options = ["--resume", "--cache", str(cache_dir), "--device", "cpu", "--save-every-minutes", "1000"]
    return subprocess.run(command(out, *options), capture_output=True, timeout=300, check=False, env=TWO_THREADS)


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
    process = subprocess.Popen(
        command(out, *start_options(small_set, cache_dir)), stderr=subprocess.PIPE, env=TWO_THREADS
    )
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
    process = subprocess.Popen(command(out, *arguments), stderr=subprocess.PIPE, env=TWO_THREADS)
    wait_for(out / "last.pt", process)
    moment = random.SystemRandom().uniform(0, 0.9 * seconds)
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    position = load_checkpoint(out / "last.pt")["position"]
    done = resume(out, cache_dir)
    assert done.returncode == 0, done.stderr
    ours, theirs = learned(out), learned(reference)
    assert ours.keys() == theirs.keys()
    differing = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert not differing, f"killed after {moment:.2f} s, resumed from {position}"
    assert losses(out) == losses(reference)
    assert len(losses(out)) == EPOCHS
    assert not list(out.glob(".*.tmp"))


def test_sigterm_saves_at_the_next_step_and_leaves_with_143(
    undisturbed: tuple[Path, float], tmp_path: Path, small_set: Path, cache_dir: Path
):
    reference, _ = undisturbed
    out = tmp_path / "run"
    position = stop(out, start_options(small_set, cache_dir), signal.SIGTERM, code=143)
    assert position["epoch"] < EPOCHS
    done = resume(out, cache_dir)
    assert done.returncode == 0, done.stderr
    ours, theirs = learned(out), learned(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_ctrl_c_saves_at_the_next_step_and_leaves_with_130(tmp_path: Path, small_set: Path, cache_dir: Path):
    stop(tmp_path / "run", start_options(small_set, cache_dir), signal.SIGINT, code=130)


def stop(out: Path, options: list[str], number: signal.Signals, *, code: int) -> dict[str, Any]:
    """Start a training that only saves when it must, stop it by a signal; the position it saved."""
    options = [*options[:-1], "1000"]
    process = subprocess.Popen(command(out, *options), stderr=subprocess.PIPE, env=TWO_THREADS, text=True)
    wait_for(out / "last.pt", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert f"samptag train --resume --out {out}" in errors.splitlines()[-1]
    return load_checkpoint(out / "last.pt")["position"]
