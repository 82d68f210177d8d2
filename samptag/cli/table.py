"""Results for people at a terminal, drawn by Rich: a small table a file, or a line a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len

from samptag.cli.writers import About, Writer
from samptag.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from samptag.tagging import TrackResult

__all__ = ["LineWriter", "TableWriter", "clock", "pad", "shorten", "terminal"]

BAR_CELLS = 24
TAG_CELLS = 16
MARGIN_CELLS = 11  # what stands around tag and bar: three times two spaces and the score


class TableWriter(Writer):
    """Draws a table of bars a file; names of files and tags are shortened in the middle to fit the terminal's width."""

    def __init__(self, out: Any, about: About) -> None:
        super().__init__(out, about)
        self.console = terminal(out)
        self._count = 0

    def write(self, result: TrackResult) -> None:
        """Draw one table; a file that failed has none, its error goes to standard error."""
        if result.error is not None:
            return
        if self._count:
            self.console.print()
        self._count += 1
        self.console.print(self._title(result), no_wrap=True)
        self.draw(result)
        self.console.file.flush()

    def draw(self, result: TrackResult) -> None:
        """Draw what stands below the title: a bar for each tag."""
        from rich.text import Text

        bar = max(4, min(BAR_CELLS, self.console.width - TAG_CELLS - MARGIN_CELLS))
        for tag, score in self.rows(result, room=max(4, min(TAG_CELLS, self.console.width - bar - MARGIN_CELLS))):
            line = Text.assemble(f"  {tag}", (f"  {score_bar(score, bar)}", "green"), f"  {score:.3f}")
            self.console.print(line, no_wrap=True)

    def rows(self, result: TrackResult, *, room: int) -> Iterator[tuple[str, float]]:
        """The selected tags in so many cells each, with their scores; a line says so where there is none."""
        rows = self.about.selection.of(result)
        if not rows:
            self.console.print("  no tag scores that high", style="dim")
        for item in rows:
            yield pad(shorten(printable(item.tag), room), room), item.score

    def _title(self, result: TrackResult) -> Text:
        from rich.text import Text

        facts = clock(result.duration) + (" · shorter than a segment" if result.padded and result.segments == 1 else "")
        name = printable(result.path)
        room = self.console.width - len(facts) - 2
        if room < 8:
            return Text(shorten(name, self.console.width), style="bold cyan")
        folder, slash, base = shorten(name, room).rpartition(os.sep)
        return Text.assemble((folder + slash, "cyan"), (base, "bold cyan"), "  ", (facts, "dim"))


class LineWriter(Writer):
    """Draws a line a file, for folders: its name below the folder that all have in common, and its best tags."""

    def __init__(self, out: Any, about: About) -> None:
        super().__init__(out, about)
        self._console = terminal(out)
        try:
            self._folder = os.path.commonpath({os.path.dirname(path) for path in about.paths})
        except ValueError:  # relative and absolute names
            self._folder = ""
        longest = max((cell_len(self._name(path)) for path in about.paths), default=1)
        width = self._console.width
        self._room = max(8, min(longest, width * 2 // 5 if width >= 80 else width // 3))

    def _name(self, path: str) -> str:
        return printable(os.path.relpath(path, self._folder) if self._folder else os.path.normpath(path))

    def write(self, result: TrackResult) -> None:
        """Draw one line; a file that failed has none, its error goes to standard error."""
        from rich.text import Text

        if result.error is not None:
            return
        line = Text(pad(shorten(self._name(result.path), self._room), self._room), style="cyan")
        items = self.about.selection.of(result)
        for item in items:
            part = Text.assemble(
                ("  " + printable(item.tag), "default"), (" " + f"{item.score:.2f}".removeprefix("0"), "dim")
            )
            if line.cell_len + part.cell_len > self._console.width:
                break
            line.append_text(part)
        if not items:
            line.append("  no tag scores that high", style="dim")
        self._console.print(line, no_wrap=True, overflow="ellipsis")
        self._console.file.flush()


def terminal(out: TextIO) -> Console:
    """A console on the terminal that prints names and tags as they are."""
    from rich.console import Console

    return Console(file=out, markup=False, highlight=False, emoji=False)


def shorten(text: str, cells: int) -> str:
    """The text in at most so many terminal cells (wide characters take two), with an ellipsis in its middle."""
    if cell_len(text) <= cells:
        return text
    front = (cells - 1) // 2
    head, tail = "", ""
    for character in text:
        if cell_len(head + character) > front:
            break
        head += character
    for character in reversed(text):
        if cell_len(character + tail) > cells - 1 - cell_len(head):
            break
        tail = character + tail
    return f"{head}…{tail}"


def score_bar(score: float, cells: int) -> str:
    """A bar of eighths of a cell, full for a score of 1, in so many terminal cells."""
    eighths = round(score * cells * 8)
    return pad("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), cells)


def pad(text: str, cells: int) -> str:
    """The text with spaces up to so many terminal cells."""
    return text + " " * (cells - cell_len(text))


def clock(seconds: float) -> str:
    """The duration as m:ss, or h:mm:ss from an hour on; tenths of a second below ten."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
