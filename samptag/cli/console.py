"""What people see: the one Rich console on standard error, and the progress bars drawn on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

from samptag.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

__all__ = ["download_bar", "new_progress", "note", "progress_bar", "stderr_console", "wants_progress"]


@cache
def stderr_console() -> Console:
    """The console on standard error; made on first use, because importing Rich costs a tenth of a second.

    Returns
    -------
    rich.console.Console
        Without markup, highlighting and emoji codes: file names and tags are printed as they are.
    """
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def note(message: str) -> None:
    """Write one line for people on standard error, above a progress bar where one is drawn.

    Parameters
    ----------
    message : str
        The line; line breaks become spaces, so that a file name cannot make two of it.
    """
    line = printable(" ".join(message.splitlines()))
    if sys.stderr is None:  # closed by the caller
        return
    if sys.stderr.isatty():
        stderr_console().print(f"samptag: {line}", soft_wrap=True)
    else:
        sys.stderr.write(f"samptag: {line}\n")


def wants_progress(asked: bool | None) -> bool:
    """Whether to draw a progress bar: as asked, else when standard error is a terminal.

    Parameters
    ----------
    asked : bool or None
        The user's --progress or --no-progress; None for neither.

    Returns
    -------
    bool
    """
    return sys.stderr is not None and (sys.stderr.isatty() if asked is None else asked)


@contextmanager
def progress_bar(
    description: str, *, total: float | None, unit: Literal["count", "bytes"] = "count", asked: bool | None = None
) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error for the time of a with block.

    Parameters
    ----------
    description : str
        What stands before the bar.
    total : float or None
        Number of steps or bytes; None when it is not known.
    unit : {"count", "bytes"}
        How amounts are written.
    asked : bool or None
        As for `wants_progress`.

    Yields
    ------
    callable
        Called with the number of further steps or bytes done; callable from any thread.
    """
    if not wants_progress(asked):
        yield lambda amount: None
        return
    with new_progress(*_amount_columns(unit)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda amount: bar.advance(task, amount)


@contextmanager
def download_bar(description: str, *, asked: bool | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar for a download, if there is one in the time of a with block.

    Parameters
    ----------
    description : str
        What stands before the bar.
    asked : bool or None
        As for `wants_progress`.

    Yields
    ------
    callable
        Called with (bytes there, bytes in all or None); the bar appears with the first call, when the size is known.
    """
    with ExitStack() as stack:
        advance: Callable[[float], None] | None = None
        shown = 0

        def report(there: int, total: int | None) -> None:
            nonlocal advance, shown
            if advance is None:
                advance = stack.enter_context(progress_bar(description, total=total, unit="bytes", asked=asked))
            advance(there - shown)
            shown = there

        yield report


def new_progress(*columns: ProgressColumn) -> Progress:
    """A Rich progress display on standard error that goes away when it is done.

    Parameters
    ----------
    *columns : rich.progress.ProgressColumn
        What stands between the bar and the remaining time.

    Returns
    -------
    rich.progress.Progress
        To be used in a with statement.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        *columns,
        TimeRemainingColumn(),
        console=stderr_console(),
        transient=True,
        expand=True,
        # Standard output is data and stays out of Rich's hands.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _amount_columns(unit: Literal["count", "bytes"]) -> list[ProgressColumn]:
    from rich.progress import DownloadColumn, MofNCompleteColumn, TransferSpeedColumn

    if unit == "bytes":
        return [DownloadColumn(), TransferSpeedColumn()]
    return [MofNCompleteColumn()]
