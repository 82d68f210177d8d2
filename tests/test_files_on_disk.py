"""Files that are the old ones or the new ones, and that one process holds at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from samptag.errors import OutputError
from samptag.files import atomic_write, locked, os_errors_as


def test_the_new_file_takes_the_old_ones_place(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_the_old_file_stands_alone(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="needs a umask")
def test_the_file_has_the_rights_the_umask_leaves(tmp_path: Path):
    path = tmp_path / "a.bin"
    before = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_missing_folder_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "no" / "a.bin"):
        pass


HOLD = """
import sys
from pathlib import Path
from samptag.files import locked

with locked(Path(sys.argv[1]), waiting_for=None):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_one_process_s_until_it_is_killed(tmp_path: Path):
    lock = tmp_path / "new" / "folder.lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="held by another process"), locked(lock, waiting_for=None):
            pass
        process.kill()
    with locked(lock, waiting_for=None):
        pass


def test_an_error_of_the_system_is_one_line_with_its_reason_and_advice(tmp_path: Path):
    words = r"^cannot write a\.bin: Is a directory; name a file$"
    with pytest.raises(OutputError, match=words), os_errors_as(OutputError, "cannot write a.bin", advice="name a file"):
        tmp_path.open("w")


def test_a_broken_pipe_is_no_error_of_ours():
    with pytest.raises(BrokenPipeError), os_errors_as(OutputError, "cannot write"):
        raise BrokenPipeError
