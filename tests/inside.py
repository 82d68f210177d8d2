"""`samptag` commands in the process of the tests: for what is said of a wrong command line, or before any work."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile

import pytest

from samptag.cli.app import main
from samptag.cli.console import speak_from, stderr_console


def run_inside(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: str | os.PathLike[str] = "."
) -> subprocess.CompletedProcess[bytes]:
    """Run ``samptag *arguments`` with nothing to read; its standard streams are files, down to their descriptors."""
    logger = logging.getLogger("samptag")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers[:]
    kept = [os.dup(number) for number in range(3)]
    with open(os.devnull, "rb") as nothing, TemporaryFile() as out, TemporaryFile() as errors:
        for number, file in enumerate((nothing, out, errors)):
            os.dup2(file.fileno(), number)
        try:
            with (
                pytest.MonkeyPatch.context() as patch,
                open(0, closefd=False) as stdin,
                open(1, "w", closefd=False) as stdout,
                open(2, "w", errors="backslashreplace", closefd=False) as stderr,
            ):
                for name in os.environ.keys() - env.keys():
                    patch.delenv(name)
                for name, value in env.items():
                    patch.setenv(name, value)
                for name, value in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                    patch.setattr(sys, name, value)
                patch.setattr(sys, "argv", ["samptag", *arguments])
                patch.chdir(cwd)
                patch.setattr(gc, "freeze", lambda: None)  # the process goes on after the command
                stderr_console.cache_clear()
                with pytest.raises(SystemExit) as end:
                    main()
        finally:
            for number, descriptor in enumerate(kept):
                os.dup2(descriptor, number)
                os.close(descriptor)
            stderr_console.cache_clear()
            speak_from(logging.INFO)
            logger.setLevel(level)
            logger.propagate, logger.handlers[:] = propagate, handlers
        for file in (out, errors):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, end.value.code, out.read(), errors.read())
