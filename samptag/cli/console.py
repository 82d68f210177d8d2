"""What commands say: lines and one bar for people on standard error, documents and rows on standard output."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TextIO

from samptag import __version__
from samptag.text import clock, counted, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task

    from samptag.tagging.files import Input
    from samptag.tagging.result import TrackResult

# How amounts are written; "share" writes none.
Unit = Literal["count", "bytes", "share"]

LINE_SECONDS = 10.0
WIDTH_WITHOUT_NAME = 76  # cells that the rest of the bar needs

# Exit code of a command when some of its inputs failed and the others are complete.
SOME_FAILED = 1

_heard = logging.INFO


def speak_from(level: int) -> None:
    """Set what is written: with `logging.ERROR` only errors, with INFO the usual, with DEBUG also `detail`."""
    global _heard
    _heard = level


def print_json(document: Any) -> None:
    """Write a JSON document to standard output, with samptag's version; or a list of records as they are."""
    if isinstance(document, dict):
        document = {**document, "version": __version__}
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")


def print_records(document: dict[str, Any], name: str, records: Iterable[dict[str, Any]]) -> None:
    """Write a JSON document and its records, one per line, as they come: all at once could take a gigabyte."""
    document = {**document, "version": __version__}
    sys.stdout.write(json.dumps(document, indent=2).removesuffix("\n}") + f',\n  "{name}": [')
    for number, record in enumerate(records):
        sys.stdout.write((",\n    " if number else "\n    ") + json.dumps(record))
    sys.stdout.write("\n  ]\n}\n")


def write_lines(rows: Iterable[Iterable[str]]) -> None:
    """Write tab-separated cells to standard output, one line per row whatever the cells hold."""
    sys.stdout.writelines("\t".join(printable(" ".join(cell.split())) for cell in row) + "\n" for row in rows)


def terminal(out: TextIO | None) -> Console:
    """A Rich console on a terminal (None: standard error) that prints file names and tags as they are."""
    from rich.console import Console

    return Console(file=out, stderr=out is None, markup=False, highlight=False, emoji=False)


def shorten(text: str, cells: int) -> str:
    """The text in at most `cells` terminal cells (wide characters take two), with an ellipsis in the middle."""
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    # The tail grows forwards from its end: reversed, an emoji of several characters would have another width.
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


@cache
def stderr_console() -> Console:
    """The console on standard error; made on first use, because importing Rich costs a tenth of a second."""
    return terminal(None)


def note(message: str) -> None:
    """Write a line for people; not with --quiet."""
    say(message, logging.INFO)


def detail(message: str) -> None:
    """Write a line as `note` does, with --verbose only."""
    say(message, logging.DEBUG)


def warn(message: str) -> None:
    """Write a line that begins with "warning:"; not with --quiet."""
    say(f"warning: {message}", logging.WARNING)


def error(message: str) -> None:
    """Write a line that begins with "error:"."""
    say(f"error: {message}", logging.ERROR)


def say(message: str, level: int) -> None:
    """Write one line for people on standard error, above a bar that is drawn, if its level is heard."""
    if level < _heard or sys.stderr is None:  # closed by the caller
        return
    line = printable(" ".join(message.splitlines()))  # a file name cannot make two lines of it
    if sys.stderr.isatty():
        stderr_console().print(f"samptag: {line}", soft_wrap=True)
    else:
        sys.stderr.write(f"samptag: {line}\n")


def wants_progress(asked: bool | None) -> bool:
    """Whether to draw a progress bar: as asked (--progress, --no-progress), else when a person watches."""
    watched = sys.stderr is not None and sys.stderr.isatty() and _heard <= logging.INFO
    return sys.stderr is not None and (watched if asked is None else asked)


class Bar:
    """A bar on standard error for the time of a with block, if `wants_progress`; it appears with the first report."""

    def __init__(self, asked: bool | None, *, unit: Unit = "count") -> None:
        self._shown = wants_progress(asked)
        if self._shown:
            stderr_console()  # before there are threads: two that asked at once would each get one
        self._unit = unit
        self._lock = threading.RLock()
        self._display: Progress | None = None  # made with the first report: Rich's bars take a while to import

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._shown = False
            if self._display is not None:
                self._display.stop()

    def __call__(self, what: str, done: float, total: float | None, detail: str = "") -> None:
        """Draw, from any thread, how much of `total` (None: unknown) is done; another `what` begins a new bar."""
        if not self._shown:
            return
        with self._lock:
            if self._display is None:
                self._display = _display(self._unit)
                self._display.start()
            for task in self._display.tasks:
                if task.description != what:
                    self._display.remove_task(task.id)
            if not self._display.tasks:
                self._display.add_task(what, total=total, detail=detail)
            self._display.update(self._display.task_ids[0], completed=done, total=total, detail=detail)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block during which nothing is drawn, for writing to the same terminal."""
        with self._lock:
            if self._display is not None:
                self._display.stop()
            yield
            if self._display is not None:
                self._display.start()


def _display(unit: Unit) -> Progress:
    """Rich's display of one bar on standard error, which goes away when it is done."""
    from rich import progress
    from rich.constrain import Constrain
    from rich.table import Column
    from rich.text import Text

    class Narrower(progress.Progress):
        """Leaves room for the ^C that a terminal echoes: wrapped, it would part the cursor from the bar."""

        def get_renderables(self) -> Iterator[Constrain]:
            yield Constrain(self.make_tasks_table(self.tasks), max(20, stderr_console().width - 3))

    class Detail(progress.ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["detail"], style="cyan")

    class Remaining(progress.TimeRemainingColumn):
        """Draws no dashes while the time is unknown."""

        def render(self, task: Task) -> Text:
            return super().render(task) if task.time_remaining is not None else Text("")

    amounts: dict[Unit, list[progress.ProgressColumn]] = {
        "count": [progress.MofNCompleteColumn()],
        "bytes": [progress.DownloadColumn(), progress.TransferSpeedColumn()],
        "share": [],
    }
    return Narrower(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=None),
        *amounts[unit],
        Detail(table_column=Column(no_wrap=True)),
        Remaining(),
        console=stderr_console(),
        transient=True,
        expand=True,
        # Standard output is data and stays out of Rich's hands.
        redirect_stdout=False,
        redirect_stderr=False,
    )


class Meter:
    """Counts the inputs that were tagged, and shows it: a bar on a terminal, else a line every ten seconds.

    The bar counts bytes: those of inputs with results, and an estimate for the next from its seconds and the pace.
    """

    def __init__(self, inputs: Sequence[Input], *, asked: bool | None) -> None:
        self.n_tagged = self.n_failed = 0
        self._lock = threading.Lock()
        self._inputs = inputs
        self._heard = self._finished = 0.0  # seconds: of decoded audio, and of inputs with results
        self._begun = time.monotonic()
        wanted = wants_progress(asked)
        self._lines = wanted and not sys.stderr.isatty()
        self._next_line = self._begun + LINE_SECONDS
        self.bar = Bar(wanted and not self._lines, unit="share")
        self._sizes = [item.size for item in inputs] if wanted and not self._lines else []
        self._total = sum(self._sizes)
        self._done_bytes = 0

    def seconds(self, amount: float) -> None:
        """Count further seconds of decoded audio; may be called from any thread."""
        with self._lock:
            self._heard += amount
        self._draw()

    def finished(self, result: TrackResult) -> None:
        """Count an input that has its result."""
        with self._lock:
            if self._sizes:
                self._done_bytes += self._sizes[self.n_done]
            self._finished += result.duration
            self._heard = max(self._heard, self._finished)
            if result.error is None:
                self.n_tagged += 1
            else:
                self.n_failed += 1
        self._draw()
        if self._lines and (self.n_done == len(self._inputs) or time.monotonic() >= self._next_line):
            note(f"{self.n_done} of {counted(len(self._inputs), 'input')} done, {self._rate()}")
            self._next_line = time.monotonic() + LINE_SECONDS

    @property
    def n_done(self) -> int:
        """Number of inputs that have a result."""
        return self.n_tagged + self.n_failed

    def overview(self, where: str | None) -> str:
        """One line on the whole run: inputs tagged and failed, hours, speed, and where it was written."""
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        written = f"; written to {where}" if where else ""
        return f"{counted(self.n_tagged, 'file')} tagged{failed}; {self._rate()}{written}"

    def _rate(self) -> str:
        elapsed = max(time.monotonic() - self._begun, 1e-3)
        return f"{clock(self._heard)} heard, {self._heard / elapsed:.0f}× real time"

    def _draw(self) -> None:
        if not self._sizes or self.n_done >= len(self._inputs):
            return
        with self._lock:
            size = self._sizes[self.n_done]
            pace = self._done_bytes / self._finished if self._finished else 0.0
            done = self._done_bytes + min(size, pace * (self._heard - self._finished))
        text = self._rate()
        if len(self._inputs) > 1:
            text = f"{self.n_done}/{len(self._inputs)} · {text}"
        room = stderr_console().width - WIDTH_WITHOUT_NAME
        if room >= 8:
            name = printable(os.path.basename(self._inputs[self.n_done].path))
            text = f"{shorten(name, min(room, 40))} · {text}"
        # A single input gives no fraction to draw: its length is known only at its end.
        self.bar("tagging", done, self._total if len(self._inputs) > 1 else None, text)
