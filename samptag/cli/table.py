"""Results for people at a terminal: one compact table a file, drawn by Rich."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from samptag.cli.writers import Selection
from samptag.text import printable

if TYPE_CHECKING:
    from rich.text import Text

    from samptag.tagging import TrackResult

__all__ = ["TableWriter"]

BAR_CELLS = 24
TAG_CELLS = 16
MARGIN_CELLS = 11  # what stands around tag and bar: three times two spaces and the score
# Annotators leave most true tags out, and the scores learned from them are low: 0.5 is already much.
STRONG, FAIR = 0.5, 0.2


class TableWriter:
    """Draws results on a terminal; names of files and tags are shortened in the middle to fit its width.

    Parameters
    ----------
    out : text stream
        The terminal.
    selection : Selection
    """

    def __init__(self, out: TextIO, selection: Selection) -> None:
        from rich.console import Console

        self._console = Console(file=out, markup=False, highlight=False, emoji=False)
        self._selection = selection
        self._count = 0

    def begin(self) -> None:
        """Nothing comes before the first table."""

    def write(self, result: TrackResult) -> None:
        """Draw one table; a file that failed has none, its error goes to standard error."""
        if result.error is not None:
            return
        from rich.text import Text

        if self._count:
            self._console.print()
        self._count += 1
        self._console.print(self._title(result), no_wrap=True)
        rows = self._selection.of(result)
        if not rows:
            self._console.print(Text("  no tag scores that high", style="dim"))
        bar = max(4, min(BAR_CELLS, self._console.width - TAG_CELLS - MARGIN_CELLS))
        room = max(4, min(TAG_CELLS, self._console.width - bar - MARGIN_CELLS))
        for item in rows:
            style = "green" if item.score >= STRONG else "yellow" if item.score >= FAIR else "bright_black"
            tag = pad(shorten(printable(item.tag), room), room)
            line = Text.assemble(
                ("  " + tag, "bold" if item.score >= STRONG else ""),
                (f"  {score_bar(item.score, bar)}", style),
                f"  {item.score:.3f}",
            )
            self._console.print(line, no_wrap=True)
        self._console.file.flush()

    def finish(self) -> None:
        """Nothing comes after the last table."""

    def _title(self, result: TrackResult) -> Text:
        from rich.text import Text

        facts = f"{clock(result.duration)} · {result.segments} segment{'s' if result.segments != 1 else ''}"
        if result.padded:
            facts += " · padded"
        name = printable(result.path)
        room = self._console.width - len(facts) - 2
        if room < 8:
            return Text(shorten(name, self._console.width), style="bold cyan")
        folder, slash, base = shorten(name, room).rpartition(os.sep)
        return Text.assemble((folder + slash, "cyan"), (base, "bold cyan"), "  ", (facts, "dim"))


def shorten(text: str, cells: int) -> str:
    """The text in at most so many terminal cells, with an ellipsis in its middle if it is longer.

    Parameters
    ----------
    text : str
    cells : int
        At least 1; wide characters take two.

    Returns
    -------
    str
    """
    from rich.cells import cell_len

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
    """A bar of eighths of a cell, full for a score of 1, in so many terminal cells.

    Parameters
    ----------
    score : float
        In [0, 1].
    cells : int

    Returns
    -------
    str
    """
    eighths = round(score * cells * 8)
    return pad("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), cells)


def pad(text: str, cells: int) -> str:
    """The text with spaces up to so many terminal cells.

    Parameters
    ----------
    text : str
    cells : int

    Returns
    -------
    str
    """
    from rich.cells import cell_len

    return text + " " * (cells - cell_len(text))


def clock(seconds: float) -> str:
    """The duration as m:ss, or h:mm:ss from an hour on; tenths of a second below ten.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
