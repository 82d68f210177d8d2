"""A killed or stopped training goes on as if nothing had happened: real processes, real signals, real music."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from warm import WITHOUT_PICTURES, Command, WarmProcesses

from samptag.training.checkpoints import load_checkpoint

EPOCHS = 3
Start = Callable[..., Command]


@pytest.fixture(scope="module")
def start(warm_processes: WarmProcesses, warm_environment: dict[str, str]) -> Start:
    """``start(out, *options)``: a running `samptag train`, on two threads, which must not change the order of sums."""
    environment = {**warm_environment, "OMP_NUM_THREADS": "2"}

    def run(out: Path, *options: str) -> Command:
        return warm_processes.start(["-c", WITHOUT_PICTURES, "train", "--out", str(out), *options], env=environment)

    return run


def start_options(small_set: Path, cache_dir: Path) -> list[str]:
    # dropout, augmentation, examples, moving average and schedule all have a state to lose; a checkpoint every 60 ms
    return [
        *("--data", str(small_set), "--cache", str(cache_dir), "--model", "samplecnn-3-4-27", "--device", "cpu"),
        *("--epochs", str(EPOCHS), "--batch-size", "8", "--seed", "11", "--segments-per-example", "2"),
        *("--save-every-minutes", "0.001"),
    ]


def resume(start: Start, out: Path, cache_dir: Path) -> None:
    process = start(out, "--resume", "--cache", str(cache_dir), "--device", "cpu", "--save-every-minutes", "1000")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def steps_saved(out: Path) -> int:
    """How many steps the last checkpoint has, 0 without one."""
    path = out / "last.pt"
    return load_checkpoint(path)["position"]["total_steps"] if path.exists() else 0


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


def stopped(
    start: Start, out: Path, options: list[str], number: signal.Signals, *, after_steps: int, pause: float = 0.0
) -> tuple[int, bytes]:
    """Exit code and standard error of a training that got a signal when its checkpoint had so many steps.

    On a busy machine it may be over before this process looks at it: then it is run again.
    """
    for left in range(5, 0, -1):
        process = start(out, *options)
        while process.poll() is None and steps_saved(out) < after_steps:
            time.sleep(0.005)
        time.sleep(pause)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        if process.returncode or left == 1:
            break
        shutil.rmtree(out)
    return process.returncode, errors


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory, small_set: Path) -> Path:
    """Of its clips 8 to train with, 10 steps an epoch, and 4 to validate with."""
    head, *rows = small_set.read_text().splitlines()
    path = tmp_path_factory.mktemp("set") / "set.csv"
    path.write_text("\n".join([head, *rows[3:9], *rows[15:21]]))
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, start: Start, small_set: Path, cache_dir: Path) -> Path:
    """The folder of a training nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(out, *start_options(small_set, cache_dir))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def test_killed_at_a_random_moment_it_ends_bit_for_bit_the_same(
    undisturbed: Path, start: Start, tmp_path: Path, small_set: Path, cache_dir: Path
):
    n_steps = steps_saved(undisturbed)
    out = tmp_path / "run"
    chance = random.SystemRandom()
    options = start_options(small_set, cache_dir)
    moment = {"after_steps": chance.randrange(1, n_steps // 2), "pause": chance.uniform(0, 0.1)}
    code, errors = stopped(start, out, options, signal.SIGKILL, **moment)
    assert code == -signal.SIGKILL, errors
    position = load_checkpoint(out / "last.pt")["position"]
    resume(start, out, cache_dir)
    ours, theirs = learned(out), learned(undisturbed)
    assert ours.keys() == theirs.keys()
    differing = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert not differing, f"resumed from {position}"
    assert losses(out) == losses(undisturbed)
    assert len(losses(out)) == EPOCHS
    assert not list(out.glob(".*.tmp"))


def test_sigterm_saves_at_the_next_step_and_leaves_with_143(
    undisturbed: Path, start: Start, tmp_path: Path, small_set: Path, cache_dir: Path
):
    out = tmp_path / "run"
    stop(start, out, start_options(small_set, cache_dir), signal.SIGTERM, code=143)
    resume(start, out, cache_dir)
    ours, theirs = learned(out), learned(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_ctrl_c_saves_at_the_next_step_and_leaves_with_130(
    start: Start, tmp_path: Path, small_set: Path, cache_dir: Path
):
    stop(start, tmp_path / "run", start_options(small_set, cache_dir), signal.SIGINT, code=130)


def stop(start: Start, out: Path, options: list[str], number: signal.Signals, *, code: int) -> None:
    """Stop a training that only saves when it must by a signal."""
    ended, errors = stopped(start, out, [*options[:-1], "1000"], number, after_steps=1)
    assert ended == code, errors
    assert f"samptag train --resume --out {out}" in errors.decode().splitlines()[-1]
    assert 0 < load_checkpoint(out / "last.pt")["position"]["epoch"] < EPOCHS
