"""The real command on a pseudo-terminal."""

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from typing import Any


def on_a_terminal(arguments: Sequence[Any], environment: Mapping[str, str], columns: int) -> tuple[str, int]:
    """What the command writes to a terminal of that width, and its exit code."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    command = [sys.executable, "-m", "samptag", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    return seen.decode(), process.wait()


def plain_lines(text: str) -> list[str]:
    """The lines without their colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").splitlines()
