"""One library over two processes, on the CPU."""

import json

import pytest

# Forked, since it is not our start that takes so long; the processes that it starts are as cold as a user's.
TORCHRUN = """
import os, sys, warnings
warnings.simplefilter("ignore")
del os.environ["PYTHONWARNINGS"]
from torch.distributed.run import main
main(sys.argv[1:])
"""


@pytest.fixture
def torchrun(warm_processes, cli_environment, tiny_weights):
    def run(*arguments):
        command = ["--standalone", "--nproc-per-node", "2", "-m", "samptag", "tag", "--model", tiny_weights, *arguments]
        return warm_processes.start(["-c", TORCHRUN, *map(str, command)], env=cli_environment).communicate()

    return run


def test_two_processes_write_what_one_writes(
    torchrun, run_ranks, tag, cli_environment, tiny_weights, media, short_set, broken_file, tmp_path
):
    bad = broken_file("text.mp3")
    inputs = [short_set, bad, media / "bay.wav"]
    together, alone = tmp_path / "together.jsonl", tmp_path / "alone.jsonl"
    printed, said = torchrun(*inputs, "-o", together, "--taggram", tmp_path / "together.csv")
    assert printed == b""
    tag(*inputs, "-o", alone, "--taggram", tmp_path / "alone.csv", check=1)
    assert together.read_bytes() == alone.read_bytes(), said.decode()
    assert (tmp_path / "together.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()

    # A run that ended early: ten records are kept, the others are shared out again.
    command = ["-m", "samptag", "tag", "--model", tiny_weights, short_set]
    lines = alone.read_bytes().splitlines(keepends=True)
    together.write_bytes(b"".join(lines[5:15]))
    first, second = run_ranks([*command, "-o", together, "--resume"], env=cli_environment)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "10 of 24 inputs were tagged before" in first.stderr
    assert together.read_bytes() == b"".join(lines[:24])

    first, second = run_ranks([*command, "--json"], env=cli_environment)
    assert len(json.loads(first.stdout)) == 24
    assert second.stdout == ""


def test_what_one_process_cannot_read_ends_all(run_ranks, cli_environment, tiny_weights, tmp_path):
    command = ["-m", "samptag", "tag", "--model", tiny_weights]
    for process in run_ranks([*command, "-"], env=cli_environment):
        assert process.returncode == 2
        assert "standard input cannot be shared by the processes of torchrun" in process.stderr
    first, second = run_ranks([*command, "--files-from", tmp_path / "none.txt"], env=cli_environment)
    assert (first.returncode, second.returncode) == (2, 1)
    assert "cannot read the list" in first.stderr
    assert "another of the 2 processes has ended" in second.stderr
