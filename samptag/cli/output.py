"""Where data goes: a clean standard output, files that are complete or untouched, no record cut off by Ctrl-C."""

from __future__ import annotations

import io
import logging
import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from samptag.errors import OutputError, UsageError
from samptag.files import atomic_write, os_errors_as


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Standard output as a UTF-8 text stream that nothing else in the process, such as a C library, can write to.

    Within the with block, descriptor 1 leads where descriptor 2 does. A reader that has left raises BrokenPipeError,
    any other failure to write OutputError.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed; give --output FILE")
    kept = os.dup(1)
    try:
        sys.stdout.flush()
        os.dup2(2, 1)
        # A duplicate, so that the stream can be closed, and its last flush can fail, before the descriptor is restored.
        stream = open(os.dup(kept), "w", encoding="utf-8", newline="")  # noqa: SIM115 - closed below, with its errors
        try:
            yield stream
            with explain_write_errors("standard output"):
                stream.flush()
        finally:
            with suppress(OSError):
                stream.close()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def text_file(path: str) -> Iterator[TextIO]:
    """A UTF-8 text file that takes the place of `path` when the with block ends well; see `binary_file`."""
    with binary_file(path) as file:
        stream = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield stream
            stream.flush()
        finally:
            with suppress(OSError):
                stream.detach()


@contextmanager
def binary_file(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the with block ends well; after any failure the old one is untouched.

    A link is followed, and what is not a regular file (a device, a named pipe) is written to directly: replacing
    /dev/null would serve nobody.
    """
    # Around everything: what could not be written is tried again when the file is closed, and fails again.
    with explain_write_errors(path):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder")
        with atomic_write(target) if may_be_replaced(path) else target.open("wb") as file:
            yield file


def may_be_replaced(path: str) -> bool:
    """Whether the path is free or a regular file, or a link to one: only then can a new file take its place."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def known_suffix(option: str, path: str | Path, known: Iterable[str], *, else_say: str = "") -> str:
    """The suffix of a path without its dot, which must be a known one."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        *others, last = (f".{name}" for name in known)
        names = f"{', '.join(others)} or {last}" if others else last
        advice = f"; or give {else_say}" if else_say else ""
        raise UsageError(f"{option} {path}: the name must end in {names}{advice}")
    return suffix


def explain_write_errors(name: str) -> AbstractContextManager[None]:
    """Turn an operating system's refusal into an OutputError that names what was being written."""
    return os_errors_as(OutputError, f"cannot write {name}")


def silence_codecs() -> bool:
    """Whether what codecs print about damaged files is silenced from now on, in the whole process; not with `--debug`.

    libmpg123 (inside libsndfile) prints several lines per file to C's ``stderr`` about MP3 frames it finds odd, and has
    no switch for it. That stream alone is pointed elsewhere: redirecting descriptor 2 would take other messages away.
    It works with glibc and on macOS, where ``stderr`` is a variable; elsewhere nothing changes.
    """
    import ctypes

    if logging.getLogger("samptag").isEnabledFor(logging.DEBUG):
        return False
    glibc = False
    if sys.platform == "linux":
        with suppress(OSError, ValueError):  # musl, where it is a constant
            glibc = "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    if not glibc and sys.platform != "darwin":
        return False
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nothing = library.fopen(os.devnull.encode(), b"w")
    if nothing:
        ctypes.c_void_p.in_dll(library, "stderr" if glibc else "__stderrp").value = nothing
    return bool(nothing)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """A block that ends before Ctrl-C raises KeyboardInterrupt, so that no record is cut off."""
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt
