"""How far `samptag tag` is: files done, how many times faster than real time, and how long it will take."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from samptag.cli.console import new_progress, note, wants_progress

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Meter", "tagging_progress"]

LINE_SECONDS = 10.0


class Meter(Protocol):
    """What a run reports to."""

    def seconds(self, amount: float) -> None:
        """So many further seconds of audio went through; callable from any thread."""

    def file_done(self) -> None:
        """One more input has its result."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block during which nothing is drawn, for writing to the same terminal."""
        yield


class _Silent:
    def seconds(self, amount: float) -> None:
        pass

    def file_done(self) -> None:
        pass

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield


class _Counter(_Silent):
    """What bar and lines both say."""

    def __init__(self, n_inputs: int) -> None:
        self._lock = threading.Lock()
        self._n_inputs = n_inputs
        self._n_done = 0
        self._seconds = 0.0
        self._begun = time.monotonic()

    def seconds(self, amount: float) -> None:
        with self._lock:
            self._seconds += amount

    def _rate(self) -> str:
        from samptag.cli.table import clock

        elapsed = max(time.monotonic() - self._begun, 1e-3)
        return f"{clock(self._seconds)}, {self._seconds / elapsed:.0f}× real time"


class _Bar(_Counter):
    """On a terminal."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs)
        self.display: Progress = _display(self._rate)
        # One input gives no fraction to draw: how long it is turns out at its end.
        self._task = self.display.add_task("tagging", total=n_inputs if n_inputs > 1 else None)

    def file_done(self) -> None:
        self.display.advance(self._task)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.display.stop()
        yield
        self.display.start()


class _Lines(_Counter):
    """In a log, where a bar cannot be redrawn."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs)
        self._next = self._begun + LINE_SECONDS

    def file_done(self) -> None:
        self._n_done += 1
        if self._n_done == self._n_inputs or time.monotonic() >= self._next:
            note(f"{self._n_done} of {self._n_inputs} inputs done, {self._rate()}")
            self._next = time.monotonic() + LINE_SECONDS


def _display(rate: Callable[[], str]) -> Progress:
    from rich.progress import MofNCompleteColumn, ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(), style="cyan")

    return new_progress(MofNCompleteColumn(), RateColumn(table_column=Column(no_wrap=True)))


@contextmanager
def tagging_progress(n_inputs: int, *, asked: bool | None) -> Iterator[Meter]:
    """A meter for the time of a with block, drawn on standard error where wanted.

    Parameters
    ----------
    n_inputs : int
        How many inputs there are.
    asked : bool or None
        The user's --progress or --no-progress; None to draw when standard error is a terminal. Where it is none, a
        line every ten seconds takes the place of the bar.

    Yields
    ------
    Meter
    """
    if not wants_progress(asked):
        yield _Silent()
        return
    if not sys.stderr.isatty():
        yield _Lines(n_inputs)
        return
    bar = _Bar(n_inputs)
    with bar.display:
        yield bar
