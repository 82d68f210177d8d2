"""Checkpoint files: whole or not there, read without running anything, random generators included."""

import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from samptag.errors import OutputError, WeightsError
from samptag.training.checkpoints import load_checkpoint, random_state, restore_random_state, save_checkpoint


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
