"""The real command as a process, with a small net behind it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_weights import save_tiny_weights
from warm import WarmProcess

Result = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file to be named by its path."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def _users_environment() -> dict[str, str]:
    dropped = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "SAMPTAG_OFFLINE": "1", "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cli_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without settings, without a network and with an empty cache."""
    return {**_users_environment(), "SAMPTAG_CACHE": str(tmp_path / "cache")}


@pytest.fixture(scope="session")
def warm_process() -> Iterator[WarmProcess]:
    """What `samptag` forks its commands from."""
    process = WarmProcess(_users_environment())
    yield process
    process.close()


def _text(argument: Any) -> str:
    return os.fsdecode(argument) if isinstance(argument, bytes | os.PathLike) else str(argument)


@pytest.fixture
def cold_samptag(cli_environment: dict[str, str]) -> Callable[..., Result]:
    """The same as `samptag`, in an interpreter of its own from the start; takes all options of `subprocess.run`."""

    def run(*arguments: Any, check: int | None = 0, env: dict[str, str] | None = None, **options: Any) -> Result:
        command = [sys.executable, "-m", "samptag", *map(_text, arguments)]
        return _checked(
            subprocess.run(command, capture_output=True, env={**cli_environment, **(env or {})}, **options), check
        )

    return run


@pytest.fixture
def samptag(
    cli_environment: dict[str, str], cold_samptag: Callable[..., Result], warm_process: WarmProcess
) -> Callable[..., Result]:
    """``samptag("tag", path, ..., check=0, env={}, cwd=, input=, stdin=)``: the finished process, its code checked.

    Forked from a warm process; with ``preexec_fn``, and with variables that an interpreter reads when it starts, cold.
    """

    def run(*arguments: Any, check: int | None = 0, env: dict[str, str] | None = None, **options: Any) -> Result:
        environment = {**cli_environment, **(env or {})}
        if "preexec_fn" in options or not warm_process.suits(environment):
            return cold_samptag(*arguments, check=check, env=env, **options)
        return _checked(warm_process.run([*map(_text, arguments)], env=environment, **options), check)

    return run


def _checked(process: Result, code: int | None) -> Result:
    if code is not None:
        assert process.returncode == code, process.stderr.decode(errors="replace")
    return process


@pytest.fixture
def tag(samptag: Callable[..., Result], tiny_weights: Path) -> Callable[..., Result]:
    """``samptag tag --model tiny ...``."""

    def run(*arguments: Any, **options: Any) -> Result:
        return samptag("tag", "--model", tiny_weights, *arguments, **options)

    return run
