"""Python processes forked from one that has imported everything, in place of a cold start each.

A fork takes a few hundredths of a second, the imports of a cold start two to five. It is a real process all the same:
its arguments, environment, folder, standard streams, signals and exit code are its own.
Run as a program, this file is the process that is forked, or stands for one of its forks where a Python is asked for.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
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
from hashlib import sha256
from tempfile import TemporaryDirectory
from typing import IO, Any

# What samptag, torch and typer import only when it is needed, where they are as new as that.
ALSO = (
    *("av", "filelock", "lark", "matplotlib.backends.backend_agg", "matplotlib.figure", "mutagen.easyid3"),
    *("mutagen.asf", "mutagen.mp4", "mutagen.oggopus", "mutagen.oggvorbis", "mutagen.wave", "platformdirs.unix"),
    *("pydantic.type_adapter", "rich.live", "rich.progress", "rich.table", "sklearn.metrics", "tomllib"),
    *("torch._dynamo", "typer._adapters", "typer.rich_utils"),
)
# For -c, in place of -m samptag, where a picture of a training's curves would take longer than the training.
WITHOUT_PICTURES = "import sys; sys.modules['matplotlib'] = None; from samptag.cli.app import run; run()"
READ_AT_START = ("LANG", "LC_", "MKL_", "PYTHON")
SHARED = "WARM_PROCESSES"  # the folder of the socket of a process that all workers of a run fork from


class WarmProcess:
    """A process to fork from, for as long as it is not closed; it imports nothing before somebody asks for a fork."""

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            path = _socket_path(folder, environment)
            self.python = shlex.join([sys.executable, __file__, "fork", path])  # to be called as Python is
            listener.bind(path)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, __file__, "serve", str(listener.fileno())],
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},  # a process with threads is not to be forked
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
            )
            self._life = _connected(path)

    def close(self) -> None:
        self._life.close()
        self._process.wait()


class WarmProcesses:
    """Starts processes, forked from the shared one or, for other variables that are read when Python starts, an own."""

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._folder = TemporaryDirectory()
        self._made: list[WarmProcess] = []
        self._controls: dict[str, socket.socket] = {}

    def close(self) -> None:
        """End what a test that failed has left running, and the processes to fork from."""
        for command in self._commands:
            command.close()
        for control in self._controls.values():
            control.close()
        for process in self._made:
            process.close()
        self._folder.cleanup()

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] = ".",
        stdin: IO[bytes] | None = None,
        terminal: int | None = None,
    ) -> "Command | subprocess.Popen[bytes]":
        """Start ``python *arguments``, its output in pipes, its input too unless it is to come from a file.

        With `terminal`, a descriptor of one, that is all three of its streams, and the process leads a session there.
        The arguments are ``-m samptag ...``, ``-c code ...`` or a script and its own. Cold where a process that has
        imported so much is not safely forked: elsewhere than on Linux.
        """
        if sys.platform != "linux":
            pipe = subprocess.PIPE
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin or pipe, stdout=pipe, stderr=pipe)
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (os.pipe() for _ in range(3))
        ours, theirs = socket.socketpair()
        streams = [stdin.fileno() if stdin else theirs_in, theirs_out, theirs_err]
        if terminal is not None:
            streams = [terminal] * 3
        place = {"environment": dict(env), "folder": os.path.abspath(cwd), "leads": terminal is not None}
        _ask(self._control(env), [*streams, theirs.fileno()], arguments=list(arguments), **place)
        theirs.close()
        for descriptor in (theirs_in, theirs_out, theirs_err):
            os.close(descriptor)
        self._commands.append(Command(arguments, (ours_in, ours_out, ours_err), ours))
        return self._commands[-1]

    def _control(self, environment: Mapping[str, str]) -> socket.socket:
        own = _socket_path(self._folder.name, environment)
        shared = _socket_path(os.environ.get(SHARED, self._folder.name), environment)
        path = shared if os.path.exists(shared) else own
        if path not in self._controls:
            if not os.path.exists(path):
                self._made.append(WarmProcess(self._folder.name, environment))
            self._controls[path] = _connected(path)
        return self._controls[path]


def _socket_path(folder: str, environment: Mapping[str, str]) -> str:
    read = sorted((name, value) for name, value in environment.items() if name.startswith(READ_AT_START))
    return os.path.join(folder, sha256(repr(read).encode()).hexdigest()[:8])


def _connected(path: str) -> socket.socket:
    control = socket.socket(socket.AF_UNIX)
    control.connect(path)
    return control


def _ask(control: socket.socket, descriptors: list[int], **command: Any) -> None:
    socket.send_fds(control, [b"."], descriptors)
    control.sendall(json.dumps(command).encode() + b"\n")


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
                    self.kill()
                    raise
            return streams[0].result(), streams[1].result()
        finally:
            self.close()

    def _give(self, input: bytes) -> None:
        with self.stdin, suppress(BrokenPipeError):
            self.stdin.write(input)

    def close(self) -> None:
        self.kill()
        for file in (self.stdin, self.stdout, self.stderr, self._status):
            file.close()

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

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
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy what it looks through


def _serve(listener: socket.socket) -> None:
    """Fork for each message; tell the number of the process and, at its end, its exit code.

    The first that connects is who made this process, whose end is that of this one.
    """
    maker = listener.accept()[0]
    if maker in select.select([listener, maker], [], [])[0]:
        os._exit(0)
    _import_all()
    controls = {maker: maker.makefile()}
    running: dict[int, tuple[int, int]] = {}
    while True:
        ready = set(select.select([listener, *controls, *running], [], [])[0])
        for end in ready & set(running):
            child, status = running.pop(end)
            os.close(end)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with suppress(BrokenPipeError):
                os.write(status, f"{code}\n".encode())
            os.close(status)
        if listener in ready:
            control = listener.accept()[0]
            controls[control] = control.makefile()
        for control in ready & set(controls):
            _, descriptors, _, _ = socket.recv_fds(control, 1, 4)
            if not descriptors:
                if control is maker:
                    os._exit(0)  # to clear every imported module would take half a second
                controls.pop(control).close()
                control.close()
                continue
            command = json.loads(controls[control].readline())
            *streams, status = descriptors
            child = os.fork()
            if not child:
                for descriptor in (status, *running, *(theirs for _, theirs in running.values())):
                    os.close(descriptor)
                for other, messages in controls.items():
                    messages.close()
                    other.close()
                listener.close()
                _become(command, streams)
            for descriptor in streams:
                os.close(descriptor)
            os.write(status, f"{child}\n".encode())
            running[os.pidfd_open(child)] = child, status


_stream = partial(open, closefd=False)


def _become(command: dict, streams: list[int]) -> None:
    """Be the command, in this process, up to its exit code.

    The end is that of an interpreter (threads joined, exit functions called, streams flushed) without the clearing of
    every imported module, which would take longer than most commands.
    """
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if command["leads"]:
        os.setsid()
        importlib.import_module("fcntl").ioctl(0, importlib.import_module("termios").TIOCSCTTY, 0)
    # Anew, since streams remember whether they can be sought in.
    sys.stdin, sys.stdout, sys.stderr = (_stream(0, "r"), _stream(1, "w"), _stream(2, "w", errors="backslashreplace"))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.stderr.reconfigure(line_buffering=True)
    faulthandler.enable()  # where it was when it aborted
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("torch").set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    code: Any = 1
    try:
        _run(*command["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        code = print(code, file=sys.stderr) or 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _run(first: str, *others: str) -> None:
    """What Python does with its arguments."""
    if first == "-c":
        sys.argv = [first, *others[1:]]
        exec(others[0], {"__name__": "__main__"})
    elif first == "-m":
        from samptag.cli.app import run

        sys.argv = list(others)
        run()
    else:
        sys.argv = [first, *others]
        runpy.run_path(first, run_name="__main__")


def _stand_for(path: str, *arguments: str) -> int:
    """Stand, with its streams, for a Python of these arguments that is forked from the process at `path`."""
    ours, theirs = socket.socketpair()
    place = {"environment": dict(os.environ), "folder": os.getcwd(), "leads": False}
    _ask(_connected(path), [0, 1, 2, theirs.fileno()], arguments=arguments, **place)
    theirs.close()
    said = ours.makefile().readlines()  # its number and, unless the process at `path` has ended before, its exit code
    return int(said[1]) if len(said) == 2 else 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # typed for those whom this serves, and at whose end it ends
    if sys.argv[1] == "serve":
        _serve(socket.socket(fileno=int(sys.argv[2])))
    else:  # fork; before the arguments comes -u, which xdist gives to every Python and a fork needs no more
        sys.exit(_stand_for(sys.argv[2], *sys.argv[4:]))
