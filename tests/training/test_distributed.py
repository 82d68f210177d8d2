"""Two processes train as one does; one that dies ends the job in a way that can go on."""

import csv
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import samptag
from samptag.training.checkpoints import load_checkpoint

# A training without chance in its layers: dropout would be drawn in each process for itself.
SCRIPT = """
import os, signal, sys
import torch
sys.modules["matplotlib"] = None  # no picture of the curves, which takes longer than the training
from samptag.core.model import ModelConfig
from samptag.errors import SamptagError
from samptag.training import run, train

data, cache, out, block, doomed = sys.argv[1:]
class Doomed(run.Trainer):
    def _step(self, *arguments):
        super()._step(*arguments)
        if self.position.epoch == 1 and self.processes.rank == int(doomed):
            os.kill(os.getpid(), signal.SIGKILL)
class Kept(run.Trainer):
    def _seconds(self):
        return (0.5 + 0.1 * self.processes.rank) * self.position.total_steps
    def run(self):
        super().run()
        torch.save(self.stepper.state_dict(), f"{out}.{self.processes.rank}")

if doomed == "minutes":
    run.Trainer = Kept
    budget = {"recipe": "modern", "max_minutes": 0.1, "batch_size": 8}
else:
    each = 4 if block == "won-rese" else 1
    budget = {"recipe": "kim", "epochs": 2, "batch_size": 40, "learning_rate": 0.001, "segments_per_example": each}
    if doomed != "-":
        run.Trainer = Doomed
try:
    train(
        data, out=out, cache=cache, device="cpu", **budget,
        model=ModelConfig(m=3, n=4, first_filter=27, first_stride=27, block=block, dropout=0.0,
                          front_padding=1 if block == "won-rese" else None),
    )
except SamptagError as error:
    sys.exit(f"samptag: error: {error}")
"""


Job = Callable[..., list[subprocess.CompletedProcess[str]]]


@pytest.fixture
def job(run_ranks: Job, warm_environment: dict[str, str], tiny_set: Path, cache_dir: Path) -> Job:
    """``job(out, block, doomed, processes=1)``: how each process of the training above ended."""

    def run(*arguments: object, processes: int = 1) -> list[subprocess.CompletedProcess[str]]:
        command = ["-c", SCRIPT, *map(str, (tiny_set, cache_dir, *arguments))]
        return run_ranks(command, env=warm_environment, world_size=processes)

    return run


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """2 training and 2 validation clips, 3 steps an epoch."""
    path = tmp_path_factory.mktemp("tiny") / "set.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "tags"])
        for number, split in enumerate(("train", "valid"), start=1):
            for clip in sorted((media / "set").glob(f"*-{number:02}-*.opus")):
                rows.writerow([clip, split, clip.name.split("-")[0]])
    return path


def records(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# plain: the fused layers share their statistics; won-rese: the batch norms that stand in for PyTorch's, and four
# segments of a clip learn its labels together. Rounding grows with each step: it moved a loss by at most 6e-5 of it
# with PyTorch 2.13, 1.4e-3 with 2.4. Unshared gradients or statistics move one by more than 0.1.
@pytest.mark.parametrize("block", ["plain", "won-rese"])
def test_two_processes_give_the_loss_curve_of_one(block: str, tmp_path: Path, job: Job):
    outs = []
    for processes in (1, 2):
        outs.append(tmp_path / str(processes))
        for done in job(outs[-1], block, "-", processes=processes):
            assert done.returncode == 0, done.stderr
    one, two = records(outs[0]), records(outs[1])
    assert len(one) == len(two) == 2
    for ours, theirs in zip(two, one, strict=True):
        assert ours["steps"] == theirs["steps"]
        assert ours["learning_rate"] == theirs["learning_rate"]
        for name in ("train_loss", "valid_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2), name
    assert one[0]["train_loss"] != pytest.approx(one[1]["train_loss"], rel=2e-2)
    assert len(load_checkpoint(outs[1] / "last.pt")["processes"]) == 2
    assert (outs[1] / "model.safetensors").exists()


def test_processes_whose_clocks_end_the_training_have_the_same_weights(tmp_path: Path, job: Job):
    """The learning rate follows the time spent, and each process has a clock of its own: that of rank 1 is faster."""
    out = tmp_path / "run"
    for done in job(out, "plain", "minutes", processes=2):
        assert done.returncode == 0, done.stderr
    first, second = (torch.load(f"{out}.{rank}", weights_only=True) for rank in (0, 1))
    assert records(out)[-1]["steps"] == 10  # of 0.6 s each, in 0.1 minutes
    assert 0 < first["rate"] == second["rate"]
    for part in ("model", "average"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


def test_a_process_that_dies_ends_the_job_with_one_line_and_a_checkpoint(tmp_path: Path, job: Job, cache_dir: Path):
    out = tmp_path / "run"
    left, dead = job(out, "plain", "1", processes=2)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert left.returncode == 1
    line = "samptag: error: another of the 2 processes has ended; start the training again with --resume"
    assert left.stderr.splitlines()[-1] == line
    assert "Traceback" not in left.stderr
    before = load_checkpoint(out / "last.pt")["position"]
    assert before["epoch"] == 1
    options = {"out": out, "resume": True, "cache": cache_dir, "device": "cpu"}
    assert samptag.train(**options, max_steps=before["total_steps"] + 3).steps == before["total_steps"] + 3
    assert load_checkpoint(out / "last.pt")["position"]["total_steps"] == before["total_steps"] + 3
