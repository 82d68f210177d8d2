"""Checkpoint files: whole or not there, read without running anything; and one training at a time in a folder."""

import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from warm import Command

import samptag
from samptag.errors import OutputError, UsageError, WeightsError
from samptag.training.checkpoints import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
    writing_alone,
)

HOLD = """
import sys
from pathlib import Path
from samptag.training.checkpoints import writing_alone

with writing_alone(Path(sys.argv[1]), resume=False):
    print("held", flush=True)
    sys.stdin.readline()
"""


def draws() -> tuple[list[float], list[float], float, float]:
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)  # noqa: NPY002


def test_every_generator_continues_where_it_was(tmp_path: Path):
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    random.seed(3)
    random.gauss(0, 1)  # leaves a second value in store
    np.random.standard_normal()  # noqa: NPY002
    save_checkpoint(tmp_path / "last.pt", {"random": random_state()})
    expected = draws()
    assert draws() != expected
    restore_random_state(load_checkpoint(tmp_path / "last.pt")["random"])
    assert draws() == expected


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"number": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write the checkpoint .*last.pt: File too large"):
            save_checkpoint(path, {"number": 2, "large": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path)["number"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_checkpoints_that_cannot_be_used_are_told_in_one_line(tmp_path: Path):
    path = tmp_path / "last.pt"
    with pytest.raises(WeightsError, match="no checkpoint to resume from"):
        load_checkpoint(path)
    save_checkpoint(path, {"large": torch.rand(10_000)})
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match=r"last.pt is not a complete checkpoint \(.*best.pt beside it") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    torch.save({"model": 1}, path)
    with pytest.raises(WeightsError, match="is not a checkpoint of samptag"):
        load_checkpoint(path)


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_a_poisoned_checkpoint_runs_nothing(tmp_path: Path):
    path, marker = tmp_path / "last.pt", tmp_path / "executed"
    torch.save({"schema": "samptag.checkpoint/2", "payload": _Payload(marker)}, path)
    with pytest.raises(WeightsError, match="not a complete checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.fixture
def holder(tmp_path: Path, start_python: Callable[..., Command]) -> Iterator[Command]:
    """Another process that trains, as far as anyone can tell, into `tmp_path`/run."""
    process = start_python("-c", HOLD, tmp_path / "run")
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("resume", [False, True], ids=["new", "resumed"])
def test_a_second_training_is_refused_before_it_touches_anything(
    resume: bool, holder: Command, tmp_path: Path, small_set: Path
):
    being_written = tmp_path / "run" / ".last.pt.1-abc.tmp"
    being_written.write_bytes(b"half a checkpoint")
    with pytest.raises(UsageError, match=r"another training is writing to .*run: wait for it or stop it"):
        samptag.train(None if resume else small_set, out=tmp_path / "run", resume=resume)
    assert being_written.exists()


def test_a_process_that_was_killed_lets_go(holder: Command, tmp_path: Path):
    leftover = tmp_path / "run" / ".last.pt.1-abc.tmp"
    leftover.write_bytes(b"half a checkpoint")
    holder.kill()
    holder.wait()
    with writing_alone(tmp_path / "run", resume=True):
        assert not leftover.exists()


def test_the_other_processes_of_a_training_are_no_second_one(
    holder: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with writing_alone(tmp_path / "run", resume=True):
        pass


def test_a_folder_that_cannot_hold_files_is_one_line(tmp_path: Path):
    (tmp_path / ".training.lock").mkdir()
    with pytest.raises(OutputError, match="cannot write to the folder"), writing_alone(tmp_path, resume=False):
        pass
