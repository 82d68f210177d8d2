"""The forms that results are written in: a class and an entry in `FORMATS` for each. None of them knows Rich."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import samptag
from samptag.cli.info import schema_text
from samptag.cli.output import binary_file, explain_write_errors, standard_output, text_file
from samptag.lazy import require_extra
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.core.card import ModelCard
    from samptag.tagging import TagScore, TrackResult


ROWS_AT_ONCE = 1024


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
    decide : bool
        Only those past their cut-offs.
    usual : bool
        Nobody asked for anything of this: forms for people may choose what suits them.
    """

    top: int | None = 5
    threshold: float | None = None
    tags: tuple[str, ...] | None = None
    decide: bool = False
    usual: bool = False

    def of(self, result: TrackResult) -> tuple[TagScore, ...]:
        """The selected tags of a result, best first."""
        return result.top(self.top, threshold=self.threshold, tags=self.tags, decided=self.decide)

    def record_line(self, result: TrackResult) -> str:
        """The JSON record of a result on one line: valid JSON and UTF-8 whatever the input's name, never NaN."""
        return json.dumps(self.record(result), ensure_ascii=False, allow_nan=False)

    def record(self, result: TrackResult) -> dict[str, Any]:
        """The JSON record of a result."""
        return result.to_record(top=self.top, threshold=self.threshold, tags=self.tags, decided=self.decide)


@dataclass(frozen=True, kw_only=True)
class About:
    """What a writer is told of the run before the first result.

    Attributes
    ----------
    selection : Selection
        Which tags are shown.
    card : ModelCard
        The weights' own word on themselves.
    paths : tuple of str
        Every input, in order.
    single : bool
        Whether one file was named: a folder makes an array even if one file is in it.
    """

    selection: Selection
    card: ModelCard
    paths: tuple[str, ...]
    single: bool


class Writer:
    """One form of output, made where its file begins: `write` for each result in order, `finish` in any case.

    Parameters
    ----------
    out : text stream, or binary file object where `binary` is set
        Where it goes.
    about : About
        The run.
    """

    help: ClassVar[str] = ""
    binary: ClassVar[bool] = False

    def __init__(self, out: Any, about: About) -> None:
        self.out = out
        self.about = about

    def write(self, result: TrackResult) -> None:
        """Write one result."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what makes the document whole."""


@contextmanager
def opened(writer: type[Writer], path: str | None, about: About) -> Iterator[Callable[[TrackResult], None]]:
    """What writes a result to a new file, or to standard output, which is whole when the with block ends.

    Parameters
    ----------
    writer : type of Writer
        The form.
    path : str or None
        The file; None for standard output.
    about : About
        The run.

    Raises
    ------
    OutputError
        When it cannot be written; the message names it.
    """
    name = path or "standard output"
    stream: Any = standard_output() if path is None else binary_file(path) if writer.binary else text_file(path)
    with stream as out:
        with explain_write_errors(name):
            document = writer(out, about)

        def write(result: TrackResult) -> None:
            with explain_write_errors(name):
                document.write(result)

        try:
            yield write
        finally:
            with explain_write_errors(name):
                document.finish()


class JsonWriter(Writer):
    """One JSON document: an array with one record a line, or for a single file the record alone.

    Where that one has no result, because the run ended early, the document is `null`.
    """

    help = "one object, or an array for several inputs"

    def __init__(self, out: Any, about: About) -> None:
        super().__init__(out, about)
        self._count = 0
        if not about.single:
            out.write("[")

    def write(self, result: TrackResult) -> None:
        """Write one record."""
        before = "" if self.about.single else ",\n" if self._count else "\n"
        self.out.write(before + self.about.selection.record_line(result))
        self.out.flush()
        self._count += 1

    def finish(self) -> None:
        """Close the array."""
        if self.about.single:
            self.out.write("\n" if self._count else "null\n")
        else:
            self.out.write("\n]\n" if self._count else "]\n")


class JsonlWriter(Writer):
    """One JSON record a line."""

    help = "one record a line"

    def write(self, result: TrackResult) -> None:
        """Write one record and hand it on at once."""
        self.out.write(self.about.selection.record_line(result) + "\n")
        self.out.flush()


class CsvWriter(Writer):
    """A header and one row an input: path, then a column for each tag; the form `samptag eval --scores` reads.

    Inputs that failed have no row: a row of zeros would be a claim about their tags. With --decide, the cells of tags
    that are not past their cut-offs are empty.
    """

    help = "path and one column a tag"

    def __init__(self, out: Any, about: About) -> None:
        super().__init__(out, about)
        self._tags = about.selection.tags or about.card.tags
        self._csv = csv.writer(out, lineterminator="\n")
        self._csv.writerow(["path", *self._tags])

    def write(self, result: TrackResult) -> None:
        """Write one row, unless the input failed."""
        from samptag.tagging.result import SCORE_DECIMALS

        if result.error is not None:
            return
        decide = self.about.selection.decide
        cells = {item.tag: f"{item.score:.{SCORE_DECIMALS}f}" for item in result.scores if item.decided or not decide}
        self._csv.writerow([valid_text(result.path), *(cells.get(tag, "") for tag in self._tags)])
        self.out.flush()


class TsvWriter(Writer):
    r"""One line a tag: path, tag, score, separated by tabs, best tag first, without a header; for cut, sort and awk.

    Weights that sort or decide their tags add the category, and yes, no or nothing where the tag has no cut-off.
    Backslash, tab, newline and carriage return in a path or tag are written \\, \t, \n and \r. Inputs that failed have
    no lines.
    """

    help = "path, tag, score, and category and decided where the weights say so"

    def write(self, result: TrackResult) -> None:
        """Write the lines of one result."""
        from samptag.tagging.result import SCORE_DECIMALS

        card = self.about.card
        path = _tsv_field(result.path)
        for item in self.about.selection.of(result):
            fields = [path, _tsv_field(item.tag), f"{item.score:.{SCORE_DECIMALS}f}"]
            if card.tag_categories or card.cutoffs:
                fields += [_tsv_field(item.category or ""), {True: "yes", False: "no", None: ""}[item.decided]]
            self.out.write("\t".join(fields) + "\n")
        self.out.flush()


def _tsv_field(text: str) -> str:
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return valid_text(text).translate(escapes)


class ParquetWriter(Writer):
    """The JSON records as a typed table: tags is a list of structs, error a struct or null; rows go out in groups."""

    help = "the records as a table"
    binary = True

    def __init__(self, out: Any, about: About) -> None:
        require_extra("parquet", modules=("pyarrow",), purpose="Parquet")
        super().__init__(getattr(out, "buffer", out), about)  # of standard output, the bytes
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter as Table

        # From the schema of the record, so that a new field of it is a new column.
        record = json.loads(schema_text("tag"))["$defs"]["record"]
        self._schema = pa.schema(list(_arrow_type(record)), metadata={"samptag": samptag.__version__})
        self._table = Table(self.out, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, result: TrackResult) -> None:
        """Take in one row."""
        self._rows.append(self.about.selection.record(result))
        if len(self._rows) == ROWS_AT_ONCE:
            self._hand_on()

    def finish(self) -> None:
        """Write the last rows, and the index that makes the file whole."""
        self._hand_on()
        self._table.close()

    def _hand_on(self) -> None:
        import pyarrow as pa

        self._table.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()


def _arrow_type(node: Mapping[str, Any]) -> Any:
    """The Arrow type of what a part of a JSON Schema describes; any of them may be null."""
    import pyarrow as pa

    if "const" in node:
        return pa.string()
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    (kind,) = (kind for kind in kinds if kind != "null")
    if kind == "object":
        return pa.struct([(name, _arrow_type(inner)) for name, inner in node["properties"].items()])
    if kind == "array":
        return pa.list_(_arrow_type(node["items"]))
    return {"string": pa.string(), "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}[kind]


FORMATS: dict[str, type[Writer]] = {
    "json": JsonWriter,
    "jsonl": JsonlWriter,
    "csv": CsvWriter,
    "tsv": TsvWriter,
    "parquet": ParquetWriter,
}
"""The forms by their names, which are also the suffixes of their files."""
