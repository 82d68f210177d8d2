"""Of two trainings into one folder the second is refused, and nothing of the first is touched."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from warm import Command

import samptag
from samptag.errors import OutputError, UsageError
from samptag.training.checkpoints import writing_alone

HOLD = """
import sys
from pathlib import Path
from samptag.training.checkpoints import writing_alone

with writing_alone(Path(sys.argv[1]), resume=False):
    print("held", flush=True)
    sys.stdin.readline()
"""


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
