"""The real command on a pseudo-terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from warm import Command, WarmProcesses

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", re.DOTALL)


def on_a_terminal(
    arguments: Sequence[Any],
    environment: Mapping[str, str],
    columns: int,
    *,
    forked_from: WarmProcesses | None = None,
    interrupt_at: bytes | None = None,
    watch: Callable[[subprocess.Popen[bytes]], None] | None = None,
    **streams: Any,
) -> tuple[str, int]:
    """What the command writes to a terminal of that width, and its exit code.

    Parameters
    ----------
    arguments : sequence
        Of samptag.
    environment : mapping
    columns : int
    forked_from : WarmProcesses, optional
        In place of a cold start.
    interrupt_at : bytes, optional
        Ctrl-C is typed when this has been written.
    watch : callable, optional
        Called with the running process.
    **streams
        Standard streams that are not the terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    if interrupt_at is not None:  # may come between an open() and the with that closes the file
        environment = {**environment, "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
    words = ["-m", "samptag", *map(str, arguments)]
    process: Command | subprocess.Popen[bytes]
    if forked_from is not None and sys.platform == "linux":
        process = forked_from.start(words, env=environment, terminal=theirs)
    else:
        process = subprocess.Popen(
            [sys.executable, *words],
            **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams},
            env=environment,
            # Only of its own terminal does a process get what is typed there as an interrupt.
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    os.close(theirs)
    if watch is not None:
        watch(process)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        seen += chunk
        if interrupt_at is not None and interrupt_at in seen:
            os.write(ours, b"\x03")
            interrupt_at = None
    code = process.wait()
    os.close(ours)
    return seen.decode(), code


def plain_lines(text: str) -> list[str]:
    """The lines without their colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").splitlines()


def screen(text: str, columns: int) -> list[str]:
    """What stands on a terminal of that width after all of `text`, by its movements and erasures."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for arguments, command, character in _CONTROL.findall(text):
        if command:
            amount = int(arguments) if arguments.isdigit() else 1
            row = max(0, row - amount) if command == "A" else row + amount if command == "B" else row
            if command == "K":
                rows[row] = [] if arguments == "2" else rows[row][:column]
            elif command == "J":
                del rows[row + 1 :], rows[row][column:]
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
        else:
            if column == columns:
                row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
            rows[row] += " " * (column + 1 - len(rows[row]))
            rows[row][column] = character
            column += 1
        rows += [[] for _ in range(row + 1 - len(rows))]
    return [line for line in ("".join(line).rstrip() for line in rows) if line]
