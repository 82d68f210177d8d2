"""`samptag` commands forked from processes that have imported everything, in place of a cold start each.

A fork takes a few hundredths of a second, the imports of a cold start two to five. It is a real process all the same:
its arguments, environment, folder, standard streams, signals and exit code are its own.
Run as a program, this file is a process that is forked.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
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

# What samptag and torch import only when it is needed.
ALSO = (
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "rich.live", "rich.progress", "rich.table"),
    *("sklearn.metrics", "torch._dynamo", "typer.rich_utils"),
)
READ_AT_START = ("LANG", "LC_", "MKL_", "OMP_", "PYTHON")


class WarmProcesses:
    """Starts commands; a process to fork from is made for each set of the variables that are read when one starts."""

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._made: dict[frozenset[tuple[str, str]], tuple[socket.socket, subprocess.Popen[bytes]]] = {}

    def close(self) -> None:
        """End what a test that failed has left running, and the processes to fork from."""
        for command in self._commands:
            command.close()
        for control, process in self._made.values():
            control.close()
            process.wait()

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] = ".",
        stdin: IO[bytes] | None = None,
    ) -> "Command | subprocess.Popen[bytes]":
        """Start ``samptag *arguments``, its output in pipes, its input too unless it is to come from a file.

        Cold where a process that has imported so much is not safely forked: elsewhere than on Linux.
        """
        if sys.platform != "linux":
            pipe = subprocess.PIPE
            command = [sys.executable, "-m", "samptag", *arguments]
            return subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin or pipe, stdout=pipe, stderr=pipe)
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (os.pipe() for _ in range(3))
        ours, theirs = socket.socketpair()
        streams = [stdin.fileno() if stdin else theirs_in, theirs_out, theirs_err, theirs.fileno()]
        control = self._control(env)
        socket.send_fds(control, [b"."], streams)
        message = {"arguments": list(arguments), "environment": dict(env), "folder": os.path.abspath(cwd)}
        control.sendall(json.dumps(message).encode() + b"\n")
        theirs.close()
        for descriptor in (theirs_in, theirs_out, theirs_err):
            os.close(descriptor)
        self._commands.append(Command(arguments, (ours_in, ours_out, ours_err), ours))
        return self._commands[-1]

    def _control(self, environment: Mapping[str, str]) -> socket.socket:
        key = frozenset((name, value) for name, value in environment.items() if name.startswith(READ_AT_START))
        if key not in self._made:
            control, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    env={**environment, "OPENBLAS_NUM_THREADS": "1"},  # a process with threads is not to be forked
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            self._made[key] = control, process
        return self._made[key][0]


class Command:
    """A command that runs; has of `subprocess.Popen` what tests use."""

    def __init__(self, arguments: Sequence[str], streams: tuple[int, int, int], status: socket.socket) -> None:
        self.args = arguments
        self.stdin, self.stdout, self.stderr = (
            open(number, mode, buffering=0)  # noqa: SIM115 (close closes them)
            for number, mode in zip(streams, ("wb", "rb", "rb"), strict=True)
        )
        self.returncode: int | None = None
        self._status = status.makefile("rb", buffering=0)
        status.close()
        self.pid = int(self._status.readline())

    def poll(self, timeout: float | None = 0) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        code = self.poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def communicate(self, input: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        try:
            with ThreadPoolExecutor(3) as threads:
                threads.submit(self._give, input)
                streams = [threads.submit(stream.read) for stream in (self.stdout, self.stderr)]
                try:
                    self.wait(timeout)
                except subprocess.TimeoutExpired:
                    self.send_signal(signal.SIGKILL)
                    raise
            return streams[0].result(), streams[1].result()
        finally:
            self.close()

    def _give(self, input: bytes) -> None:
        with self.stdin, suppress(BrokenPipeError):
            self.stdin.write(input)

    def close(self) -> None:
        self.send_signal(signal.SIGKILL)
        for file in (self.stdin, self.stdout, self.stderr, self._status):
            file.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)


def _import_all() -> None:
    import samptag

    for module in pkgutil.walk_packages(samptag.__path__, "samptag."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ALSO:
        importlib.import_module(name)
    gc.freeze()


def _serve(control: socket.socket) -> None:
    """Fork for each message a process that forks the command, tells its number and, at its end, its exit code."""
    messages = control.makefile()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not descriptors:
            return
        command = json.loads(messages.readline())
        if not os.fork():
            break
        for descriptor in descriptors:
            os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    messages.close()
    control.close()
    *streams, status = descriptors
    child = os.fork()
    if not child:
        os.close(status)
        _become(command, streams)
    for descriptor in streams:
        os.close(descriptor)
    os.write(status, f"{child}\n".encode())
    _, end = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(end)}\n".encode())
    os._exit(0)


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
