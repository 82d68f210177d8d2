"""Make docs/terminal.svg from a real run on a pseudo-terminal: ``python docs/picture.py``, from the checkout."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 76, 60
FOLDER = Path(__file__).resolve().parent
MEDIA = FOLDER.parent / "tests" / "media"
COMMANDS = (
    "samptag tag eastern-dreams.mp3",
    "samptag tag void-sensor.ogg bay.wav --top 3",
    "samptag tag set/ --tags techno | sort -rk3 | head -3",
)


def terminal_output(command: str) -> str:
    """What `command` prints, colours included, on a terminal of `COLUMNS` columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    real = command.replace("samptag", f"{shlex.quote(sys.executable)} -m samptag", 1)
    child = subprocess.Popen(
        real,
        shell=True,
        cwd=MEDIA,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(FOLDER.parent)},
    )
    os.close(follower)
    found = b""
    while True:
        try:
            piece = os.read(leader, 65_536)
        except OSError:  # Linux ends a pseudo-terminal with an error once its last writer has gone
            break
        if not piece:
            break
        found += piece
    os.close(leader)
    assert child.stderr is not None
    complaint = child.stderr.read().decode()
    if child.wait():
        sys.exit(f"{command}: {complaint}")
    return found.decode().replace("\r\n", "\n")


def main() -> None:
    """Run the commands and write the picture."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        for number, command in enumerate(COMMANDS):
            if number:
                console.print()
            console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")), soft_wrap=True)
            console.print(Text.from_ansi(terminal_output(command).rstrip("\n")), soft_wrap=True)
    picture = console.export_svg(title="samptag", unique_id="samptag")
    # Rich names web fonts; a picture in a README may load nothing, and any monospaced font will do.
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (FOLDER / "terminal.svg").write_text(picture + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
