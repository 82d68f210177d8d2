"""The real command as a process, with a small net behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deciding_weights import save_deciding_weights
from inside import run_inside
from terminals import on_a_terminal as on_a_terminal_of
from tiny_weights import save_tiny_weights
from warm import WarmProcesses

import samptag as samptag_package

Result = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file to be named by its path."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def library(media: Path, tmp_path: Path) -> Path:
    """600 files, links to 24 clips: hearing them all takes much longer than an interrupt needs."""
    folder = tmp_path / "library"
    for number in range(25):
        (folder / f"{number:02}").mkdir(parents=True)
        for clip in (media / "set").iterdir():
            os.link(clip, folder / f"{number:02}" / clip.name)
    return folder


@pytest.fixture(scope="session")
def deciding_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real weights with categories, cut-offs and evidence, to be named by their path."""
    return save_deciding_weights(tmp_path_factory.mktemp("deciding") / "deciding.safetensors")


@pytest.fixture
def cli_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without settings, without a network and with an empty cache."""
    dropped = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {
        name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("SAMPTAG_")
    }
    ours = {"SAMPTAG_CACHE": str(tmp_path / "cache"), "SAMPTAG_OFFLINE": "1", "SAMPTAG_CONFIG": os.devnull}
    return {**kept, **ours, "PYTHONWARNINGS": "error"}


def _text(argument: Any) -> str:
    return os.fsdecode(argument) if isinstance(argument, bytes | os.PathLike) else str(argument)


@pytest.fixture
def samptag(cli_environment: dict[str, str], warm_processes: WarmProcesses) -> Callable[..., Result]:
    """``samptag("tag", path, ..., check=0, env={}, cwd=, input=, stdin=)``: the finished process, its code checked.

    Forked from a warm process; with ``preexec_fn`` from a cold start. What is to say that its command line is wrong
    (``check=2``) or what can be asked (``inside=True``) runs in the process of the tests.
    """

    def run(
        *arguments: Any,
        check: int | None = 0,
        env: dict[str, str] | None = None,
        input: bytes = b"",
        preexec_fn: Callable[[], Any] | None = None,
        inside: bool | None = None,
        **options: Any,
    ) -> Result:
        words, environment = ["-m", "samptag", *map(_text, arguments)], {**cli_environment, **(env or {})}
        if preexec_fn:
            command = [sys.executable, *words]
            process = subprocess.run(
                command, capture_output=True, env=environment, input=input, preexec_fn=preexec_fn, **options
            )
        elif check == 2 and not input and "stdin" not in options if inside is None else inside:
            process = run_inside(words[2:], env=environment, **options)
        else:
            started = warm_processes.start(words, env=environment, **options)
            streams = started.communicate(input)
            process = Result(words, started.returncode, *streams)
        if check is not None:
            assert process.returncode == check, process.stderr.decode(errors="replace")
        return process

    return run


@pytest.fixture
def on_a_terminal(cli_environment: dict[str, str], warm_processes: WarmProcesses) -> Callable[..., tuple[str, int]]:
    """``on_a_terminal(60, "tag", path, ..., env={})``: what a terminal of that width is written, and the exit code."""

    def run(columns: int, *arguments: Any, env: dict[str, str] | None = None) -> tuple[str, int]:
        environment = {**cli_environment, "TERM": "xterm-256color", **(env or {})}
        return on_a_terminal_of(arguments, environment, columns, forked_from=warm_processes)

    return run


@pytest.fixture
def valid() -> Callable[[str, Any], None]:
    """``valid("tag", document)``: the document is what the schema of that name says, and no more."""
    validator = pytest.importorskip(
        "jsonschema", reason="jsonschema holds documents to their schemas"
    ).Draft202012Validator

    def check(name: str, document: Any) -> None:
        schema = json.loads((Path(samptag_package.__file__).parent / "schemas" / f"{name}.json").read_text("utf-8"))
        validator.check_schema(schema)
        validator(_closed(schema)).validate(document)

    return check


def _closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    return {"additionalProperties": False, **closed} if isinstance(schema.get("properties"), dict) else closed


@pytest.fixture
def tag(samptag: Callable[..., Result], tiny_weights: Path) -> Callable[..., Result]:
    """``samptag tag --model tiny ...``."""

    def run(*arguments: Any, **options: Any) -> Result:
        return samptag("tag", "--model", tiny_weights, *arguments, **options)

    return run
