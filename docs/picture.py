"""Make terminal.svg and library.svg from real runs on a pseudo-terminal: ``python docs/picture.py``."""

import fcntl
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 76, 60
FOLDER = Path(__file__).resolve().parent
MEDIA = FOLDER.parent / "tests" / "media"
PICTURES = {
    "terminal.svg": (
        "samptag tag void-sensor.ogg",
        "samptag tag eastern-dreams.mp3 --top 5",
        "samptag tag Music/*-0[1-5]-*",
        "samptag tag Music/ --tags techno | cut -f 1,3 | sort -rk2 | head -3",
    ),
    "library.svg": (
        "samptag index Music",
        "samptag find 'techno and not vocals' --sort techno -n 2",
        "samptag similar Music/calm-01-honor-bound.opus -n 2",
        "samptag find 'slow or strings' -o evening.m3u8 && head -3 evening.m3u8",
        "samptag write Music/driving-06-lava.opus",
    ),
}
HOME = "/home/ann"


def terminal_output(command: str, folder: Path) -> str:
    """What `command` prints in `folder`, colours included, on a terminal of `COLUMNS` columns; then its messages."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    real = command.replace("samptag", f"{shlex.quote(sys.executable)} -m samptag", 1)
    child = subprocess.Popen(
        real,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(FOLDER.parent),
            "SAMPTAG_DB": str(folder / "library.db"),
        },
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
    return (found.decode().replace("\r\n", "\n") + complaint).replace(str(folder), HOME)


def draw(name: str, commands: tuple[str, ...], folder: Path) -> None:
    """Run the commands in `folder` and write the picture `name`."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        for number, command in enumerate(commands):
            if number:
                console.print()
            console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")), soft_wrap=True)
            console.print(Text.from_ansi(terminal_output(command, folder).rstrip("\n")), soft_wrap=True)
    picture = console.export_svg(title="samptag", unique_id="samptag")
    # Rich names web fonts; a picture in a README may load nothing, and any monospaced font will do.
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (FOLDER / name).write_text(picture + "\n", encoding="utf-8")


def main() -> None:
    """Make both pictures in a folder that has the clips of the tests."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(MEDIA / "set", folder / "Music")
        for clip in ("eastern-dreams.mp3", "void-sensor.ogg"):
            shutil.copyfile(MEDIA / clip, folder / clip)
        for name, commands in PICTURES.items():
            draw(name, commands, folder)


if __name__ == "__main__":
    main()
