"""`samptag` commands forked from a process that has imported everything, in place of a cold start each.

A fork takes a few hundredths of a second, the imports of a cold start one or two. It is a real process all the same:
its arguments, environment, folder, standard streams and exit code are its own.
Run as a program, this file is the process that is forked.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import IO

# What samptag imports only when it is needed.
ALSO = ("matplotlib.pyplot", "rich.live", "rich.progress", "rich.table", "sklearn.metrics", "typer.rich_utils")
READ_AT_START = ("LANG", "LC_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")


class WarmProcess:
    """Runs one command after the other, as `subprocess.run` with captured output does; to be closed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._read_at_start = _read_at_start(environment)
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._answers = self._control.makefile()

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        self._process.wait()

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether what an interpreter and its libraries read when they start is as it was for this process.

        Never where forking a process that has imported so much is unsafe: elsewhere than on Linux.
        """
        return sys.platform == "linux" and _read_at_start(environment) == self._read_at_start

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] = ".",
        input: bytes = b"",
        stdin: IO[bytes] | None = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        (command_in, our_in), (our_out, command_out), (our_err, command_err) = (os.pipe() for _ in range(3))
        socket.send_fds(self._control, [b"."], [stdin.fileno() if stdin else command_in, command_out, command_err])
        for descriptor in (command_in, command_out, command_err):
            os.close(descriptor)
        command = {"arguments": list(arguments), "environment": dict(env), "folder": os.path.abspath(cwd)}
        self._control.sendall(json.dumps(command).encode() + b"\n")
        with ThreadPoolExecutor(2) as readers:
            streams = readers.map(_read, (our_out, our_err))
            with suppress(BrokenPipeError), open(our_in, "wb") as pipe:
                pipe.write(input)
        code = int(self._answers.readline())
        return subprocess.CompletedProcess(command["arguments"], code, *streams)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as pipe:
        return pipe.read()


def _import_all() -> None:
    import samptag

    for module in pkgutil.walk_packages(samptag.__path__, "samptag."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ALSO:
        importlib.import_module(name)
    gc.freeze()


def _serve(control: socket.socket) -> None:
    """Fork a command for each message, and answer with its exit code."""
    messages = control.makefile()
    while True:
        _, streams, _, _ = socket.recv_fds(control, 1, 3)
        if not streams:
            return
        command = json.loads(messages.readline())
        child = os.fork()
        if not child:
            messages.close()
            control.close()
            _become(command, streams)
        for descriptor in streams:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


_stream = partial(open, closefd=False)


def _become(command: dict, streams: list[int]) -> None:
    """Be the command, in this process, up to its exit code.

    The end is that of an interpreter (threads joined, exit functions called, streams flushed) without the clearing of
    every imported module, which would take longer than most commands.
    """
    from samptag.cli.app import main

    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # Anew, since streams remember whether they can be sought in.
    sys.stdin, sys.stdout, sys.stderr = (_stream(0, "r"), _stream(1, "w"), _stream(2, "w", errors="backslashreplace"))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.stderr.reconfigure(line_buffering=True)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv = ["samptag", *command["arguments"]]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _serve(control)
