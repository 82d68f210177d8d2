"""Pure data to standard output or a file: one writer class per format, none of which knows Rich."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.tagging import TagScore, TrackResult

__all__ = ["CsvWriter", "JsonWriter", "JsonlWriter", "Selection", "TsvWriter", "Writer"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of a result's tags are shown.

    Attributes
    ----------
    top : int or None
        At most so many; None for all.
    threshold : float or None
        Only scores of at least this.
    tags : tuple of str or None
        Only these, in this order where a format has columns.
    """

    top: int | None = 5
    threshold: float | None = None
    tags: tuple[str, ...] | None = None

    def of(self, result: TrackResult) -> tuple[TagScore, ...]:
        """The selected tags of a result, best first."""
        return result.top(self.top, threshold=self.threshold, tags=self.tags)


class Writer(Protocol):
    """One output format: `begin` once, `write` per result in order, `finish` once, whatever happened in between."""

    def begin(self) -> None:
        """Write what comes before the first result."""

    def write(self, result: TrackResult) -> None:
        """Write one result."""

    def finish(self) -> None:
        """Write what makes the document whole."""


class JsonWriter:
    """One JSON document: an array with one record a line, or for a single input the record alone.

    Parameters
    ----------
    out : text stream
    selection : Selection
    single : bool
        A record instead of an array; `null` if there is none when the run ends early.
    """

    def __init__(self, out: TextIO, selection: Selection, *, single: bool) -> None:
        self._out, self._selection, self._single = out, selection, single
        self._count = 0

    def begin(self) -> None:
        """Open the array."""
        if not self._single:
            self._out.write("[")

    def write(self, result: TrackResult) -> None:
        """Write one record."""
        before = "" if self._single else ",\n" if self._count else "\n"
        self._out.write(before + record_line(result, self._selection))
        self._out.flush()
        self._count += 1

    def finish(self) -> None:
        """Close the array."""
        if self._single:
            self._out.write("\n" if self._count else "null\n")
        else:
            self._out.write("\n]\n" if self._count else "]\n")


class JsonlWriter:
    """One JSON record a line."""

    def __init__(self, out: TextIO, selection: Selection) -> None:
        self._out, self._selection = out, selection

    def begin(self) -> None:
        """Nothing comes before the first record."""

    def write(self, result: TrackResult) -> None:
        """Write one record and hand it on at once."""
        self._out.write(record_line(result, self._selection) + "\n")
        self._out.flush()

    def finish(self) -> None:
        """Nothing comes after the last record."""


class CsvWriter:
    """A header and one row an input: path, then a column for each tag; the form `samptag eval --scores` reads.

    Inputs that failed have no row: a row of zeros would be a claim about their tags.

    Parameters
    ----------
    out : text stream
    columns : sequence of str
        The tags.
    """

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._out, self._columns = out, tuple(columns)
        self._csv = csv.writer(out, lineterminator="\n")

    def begin(self) -> None:
        """Write the header."""
        self._csv.writerow(["path", *self._columns])

    def write(self, result: TrackResult) -> None:
        """Write one row, unless the input failed."""
        from samptag.tagging.result import SCORE_DECIMALS

        if result.error is not None:
            return
        scores = {item.tag: item.score for item in result.scores}
        self._csv.writerow([valid_text(result.path), *(f"{scores[tag]:.{SCORE_DECIMALS}f}" for tag in self._columns)])
        self._out.flush()

    def finish(self) -> None:
        """Nothing comes after the last row."""


class TsvWriter:
    r"""One line a tag: path, tag, score, separated by tabs, best tag first, without a header; for cut, sort and awk.

    Backslash, tab, newline and carriage return in a path or tag are written \\, \t, \n and \r. Inputs that failed have
    no lines.
    """

    def __init__(self, out: TextIO, selection: Selection) -> None:
        self._out, self._selection = out, selection

    def begin(self) -> None:
        """There is no header."""

    def write(self, result: TrackResult) -> None:
        """Write the lines of one result."""
        from samptag.tagging.result import SCORE_DECIMALS

        path = _tsv_field(result.path)
        for item in self._selection.of(result):
            self._out.write(f"{path}\t{_tsv_field(item.tag)}\t{item.score:.{SCORE_DECIMALS}f}\n")
        self._out.flush()

    def finish(self) -> None:
        """Nothing comes after the last line."""


def record_line(result: TrackResult, selection: Selection) -> str:
    """The JSON record of a result on one line, as every JSON form writes it.

    Parameters
    ----------
    result : TrackResult
    selection : Selection

    Returns
    -------
    str
        Valid JSON and valid UTF-8 whatever the input's name; never NaN.
    """
    record = result.to_record(top=selection.top, threshold=selection.threshold, tags=selection.tags)
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _tsv_field(text: str) -> str:
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return valid_text(text).translate(escapes)
