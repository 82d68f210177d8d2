"""What every change must pass: whatever fails is told by the exit code, and Ctrl-C leaves nothing running."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"
# In place of dev.py: each command notes that it runs, then waits, or ends with the code of its name.
COMMANDS = """
import os, sys, time
from pathlib import Path
command, *arguments = sys.argv[1:]
if not arguments:
    print("this is", command)
    try:
        Path(command).touch()
        time.sleep(float(os.environ.get("SECONDS_LONG", "0")))
    except KeyboardInterrupt:
        Path(command + "-interrupted").touch()
        raise
    sys.exit(int(os.environ.get(command, "0")))
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a script for bash")


@pytest.fixture
def script(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / "dev.py").write_text(COMMANDS)
    return shutil.copy(RUN, tmp_path / ".ci")


@pytest.mark.parametrize(("check", "test", "code"), [(0, 0, 0), (3, 0, 3), (0, 1, 1), (1, 1, 1)])
def test_what_fails_is_told(script, check, test, code):
    environment = {**os.environ, "check": str(check), "test": str(test)}
    done = subprocess.run([script], env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout.split()) == (code, b"this is test this is check".split())


def test_an_interrupt_ends_all_of_it(script, tmp_path):
    def wait_for(*names):
        deadline = time.monotonic() + 30
        while not all((tmp_path / name).exists() for name in names):
            assert time.monotonic() < deadline, names
            time.sleep(0.01)

    process = subprocess.Popen([script], env={**os.environ, "SECONDS_LONG": "60"}, start_new_session=True)
    try:
        wait_for("check", "test")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
        wait_for("check-interrupted", "test-interrupted")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
