"""Commands that listen compute in processes of their own on Linux, as many as can have something to do."""

import subprocess
import sys

import pytest
from media_manifest import make_manifest

from samptag.core.cores import available_cores

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the net has processes of its own on Linux only"),
    pytest.mark.skipif(available_cores() < 2, reason="needs two cores"),
]

COUNTING = """
import os, sys
from samptag.cli.app import main
forks = []
os.register_at_fork(before=lambda: forks.append(1))
try:
    main()
finally:
    sys.stdout = sys.__stdout__
    print(len(forks))
"""


@pytest.fixture
def forks(cli_environment, tiny_weights):
    """``forks(command, *arguments)``: how many processes the command forks on two cores."""

    def run(command, *arguments, **options):
        words = [command, "--model", tiny_weights, *arguments]
        environment = {**cli_environment, "OMP_NUM_THREADS": "2"}
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, *map(str, words)], capture_output=True, env=environment, **options
        )
        assert done.returncode == 0, done.stderr.decode()
        return int(done.stdout.split()[-1])

    return run


@pytest.mark.parametrize("progress", ["--progress", "--no-progress"])
def test_a_folder_takes_all_cores(forks, media, progress):
    assert forks("tag", media / "set", progress) == 2


@pytest.mark.parametrize("progress", ["--progress", "--no-progress"])
def test_an_evaluation_takes_all_cores(forks, tmp_path, progress):
    data = make_manifest(tmp_path, clips=6)
    assert forks("eval", "--data", data, "--resamples", "10", progress) == 2


def test_standard_input_may_be_long(forks, demo_clip):
    with demo_clip.open("rb") as sound:
        assert forks("tag", "-", stdin=sound) == 2


def test_a_short_file_takes_none_and_two_take_two(forks, media, tmp_path):
    """A process for every 64 KiB begun; a single one would be the command's own."""
    sound = (media / "bay.wav").read_bytes()
    assert 2**16 < 2 * len(sound) < 2**17
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in files:
        path.write_bytes(sound)
    assert forks("tag", files[0]) == 0
    assert forks("tag", *files) == 2
