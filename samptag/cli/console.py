"""What people see: lines and the one Rich console on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from samptag import __version__
from samptag.text import printable

if TYPE_CHECKING:
    from rich.console import Console

SOME_FAILED = 1
"""Exit code of a command of whose inputs some failed, and the others are complete."""

_heard = logging.INFO


def speak_from(level: int) -> None:
    """Set what is said from now on: `logging.ERROR` errors alone, INFO the usual, DEBUG also `detail`."""
    global _heard
    _heard = level


def print_json(document: Any) -> None:
    """A JSON document on standard output, with this samptag's version; or a list of records as they are."""
    if isinstance(document, dict):
        document = {**document, "version": __version__}
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")


def print_records(document: dict[str, Any], name: str, records: Iterable[dict[str, Any]]) -> None:
    """`print_json` of a document with records in it, one a line, as they come: all at once would take a gigabyte."""
    document = {**document, "version": __version__}
    sys.stdout.write(json.dumps(document, indent=2).removesuffix("\n}") + f',\n  "{name}": [')
    for number, record in enumerate(records):
        sys.stdout.write((",\n    " if number else "\n    ") + json.dumps(record))
    sys.stdout.write("\n  ]\n}\n")


def write_lines(rows: Iterable[Iterable[str]]) -> None:
    """Tab-separated cells on standard output, a row a line whatever the cells hold."""
    sys.stdout.writelines("\t".join(printable(" ".join(cell.split())) for cell in row) + "\n" for row in rows)


def terminal(out: TextIO | None) -> Console:
    """A Rich console on a terminal (None: standard error) that prints file names and tags as they are."""
    from rich.console import Console

    return Console(file=out, stderr=out is None, markup=False, highlight=False, emoji=False)


@cache
def stderr_console() -> Console:
    """The console on standard error; made on first use, because importing Rich costs a tenth of a second."""
    return terminal(None)


def note(message: str) -> None:
    """Write one line for people on standard error, above a progress bar where one is drawn; not with --quiet.

    Line breaks become spaces, so that a file name cannot make two lines of it.
    """
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
    """Write one line for people on standard error if its level, of those of `logging`, is heard."""
    if level < _heard or sys.stderr is None:  # closed by the caller
        return
    line = printable(" ".join(message.splitlines()))
    if sys.stderr.isatty():
        stderr_console().print(f"samptag: {line}", soft_wrap=True)
    else:
        sys.stderr.write(f"samptag: {line}\n")


def wants_progress(asked: bool | None) -> bool:
    """Whether to draw a progress bar: as asked (--progress, --no-progress), else when a person watches."""
    watched = sys.stderr is not None and sys.stderr.isatty() and _heard <= logging.INFO
    return sys.stderr is not None and (watched if asked is None else asked)
