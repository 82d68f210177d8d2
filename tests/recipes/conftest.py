"""The trainings of recipes, without what takes longer than they do here."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
from warm import WITHOUT_PICTURES, WarmProcesses


@pytest.fixture(scope="session")
def forking(warm_processes: WarmProcesses, warm_environment: dict[str, str]) -> Callable[..., None]:
    """``forking(patch, module)``: the `samptag` commands that `module` runs are forked from a warm process."""

    def run(command: Sequence[str], *, check: bool, text: bool = True, stdout: int | None = None):
        assert list(command[:3]) == [sys.executable, "-m", "samptag"]
        assert (check, text, stdout) in ((False, True, subprocess.PIPE), (False, True, None))
        process = warm_processes.start(["-c", WITHOUT_PICTURES, *command[3:]], env=warm_environment)
        out, errors = process.communicate()
        sys.stderr.write(errors.decode())
        return subprocess.CompletedProcess(command, process.returncode, out.decode())

    def patched(patch: pytest.MonkeyPatch, module: ModuleType) -> None:
        patch.setattr(module.subprocess, "run", run)

    return patched
