"""The formats that results are written in, and the files beside them: a class and an entry in a dict for each; no Rich.

Beside the tags, on request: the scores of every segment, as numbers or drawn, labels for Audacity, and embeddings.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

import samptag
from samptag.cli.info import schema_text
from samptag.cli.output import binary_file, explain_write_errors, standard_output, text_file
from samptag.errors import UsageError
from samptag.lazy import require_extra
from samptag.tagging.result import SCORE_DECIMALS
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.core.card import ModelCard
    from samptag.tagging.result import TagScore, TrackResult

ROWS_AT_ONCE = 1024
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of a result's tags are shown, as `TrackResult.top` takes it; columns are in the order of `tags`."""

    top: int | None = 5
    threshold: float | None = None
    tags: tuple[str, ...] | None = None
    decide: bool = False
    usual: bool = False  # none of this was asked for: formats for people may choose what suits them

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
    """What a writer is told about the run before the first result."""

    selection: Selection
    card: ModelCard
    paths: tuple[str, ...]  # every input, in order
    single: bool  # one file was named; a folder makes an array even if it holds only one


@dataclass(eq=False)
class Writer:
    """One output format, created where its file begins; subclasses say what is done for each result, and at the end."""

    out: Any  # a text stream, or a binary file object where `binary` is set
    about: About
    help: ClassVar[str] = ""
    binary: ClassVar[bool] = False

    def write(self, result: TrackResult) -> None:
        """Write one result and hand it on at once."""
        self._write(result)
        self.out.flush()

    def finish(self) -> None:
        """Write what makes the document whole."""

    def __post_init__(self) -> None:
        pass  # a format begins here

    def _write(self, result: TrackResult) -> None:
        raise NotImplementedError


@contextmanager
def opened(writer: type[Writer], path: str | None, about: About) -> Iterator[Callable[[TrackResult], None]]:
    """A function that writes a result to a new file (None: standard output), complete when the with block ends."""
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
    """One JSON document: an array with one record per line, or for a single file the record alone.

    If the run ends before the single file has its result, the document is `null`.
    """

    help = "one object, or an array for several inputs"

    def __post_init__(self) -> None:
        self._count = 0
        if not self.about.single:
            self.out.write("[")

    def _write(self, result: TrackResult) -> None:
        before = "" if self.about.single else ",\n" if self._count else "\n"
        self.out.write(before + self.about.selection.record_line(result))
        self._count += 1

    def finish(self) -> None:
        """Close the array."""
        if self.about.single:
            self.out.write("\n" if self._count else "null\n")
        else:
            self.out.write("\n]\n" if self._count else "]\n")


class JsonlWriter(Writer):
    """One JSON record per line."""

    help = "one record per line"

    def _write(self, result: TrackResult) -> None:
        self.out.write(self.about.selection.record_line(result) + "\n")


class CsvWriter(Writer):
    """A header and one row per input: path, then a column for each tag; `samptag eval --scores` reads it.

    Inputs that failed have no row: a row of zeros would be a claim about their tags. With --decide, the cells of tags
    that are not past their cut-offs are empty.
    """

    help = "path and one column per tag"

    def __post_init__(self) -> None:
        self._tags = self.about.selection.tags or self.about.card.tags
        self._csv = csv.writer(self.out, lineterminator="\n")
        self._csv.writerow(["path", *self._tags])

    def _write(self, result: TrackResult) -> None:
        if result.error is not None:
            return
        decide = self.about.selection.decide
        cells = {item.tag: f"{item.score:.{SCORE_DECIMALS}f}" for item in result.scores if item.decided or not decide}
        self._csv.writerow([valid_text(result.path), *(cells.get(tag, "") for tag in self._tags)])


class TsvWriter(Writer):
    r"""One line per tag: path, tag, score, separated by tabs, best tag first, without a header; for cut, sort and awk.

    Weights that sort or decide their tags add the category, and yes, no or nothing where the tag has no cut-off.
    Backslash, tab, newline and carriage return in a path or tag are written \\, \t, \n and \r. Inputs that failed have
    no lines.
    """

    help = "path, tag and score, with category and decided if the weights have them"

    def _write(self, result: TrackResult) -> None:
        card, path = self.about.card, _tsv_field(result.path)
        for item in self.about.selection.of(result):
            fields = [path, _tsv_field(item.tag), f"{item.score:.{SCORE_DECIMALS}f}"]
            if card.tag_categories or card.cutoffs:
                fields += [_tsv_field(item.category or ""), {True: "yes", False: "no", None: ""}[item.decided]]
            self.out.write("\t".join(fields) + "\n")


def _tsv_field(text: str) -> str:
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return valid_text(text).translate(escapes)


class ParquetWriter(Writer):
    """The JSON records as a typed table: tags is a list of structs, error a struct or null; rows go out in groups."""

    help = "the records as a table"
    binary = True

    def __post_init__(self) -> None:
        require_extra("parquet", modules=("pyarrow",), purpose="Parquet")
        self.out = getattr(self.out, "buffer", self.out)  # of standard output, the bytes
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter as Table

        # From the schema of the record, so that a new field becomes a new column.
        record = json.loads(schema_text("tag"))["$defs"]["record"]
        self._schema = pa.schema(list(_arrow_type(record)), metadata={"samptag": samptag.__version__})
        self._table = Table(self.out, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def _write(self, result: TrackResult) -> None:
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


# The formats by their names, which are also the suffixes of their files.
FORMATS: dict[str, type[Writer]] = {
    "json": JsonWriter,
    "jsonl": JsonlWriter,
    "csv": CsvWriter,
    "tsv": TsvWriter,
    "parquet": ParquetWriter,
}


class CsvTaggram(Writer):
    """One row per segment: path, start (seconds), then a column for each tag."""

    def __post_init__(self) -> None:
        self._csv = csv.writer(self.out, lineterminator="\n")
        self._csv.writerow(["path", "start", *self.about.card.tags])

    def _write(self, result: TrackResult) -> None:
        if result.taggram is None or result.starts is None:
            return
        path = valid_text(result.path)
        for start, scores in zip(result.starts, result.taggram, strict=True):
            self._csv.writerow([path, f"{start:.3f}", *(f"{score:.{SCORE_DECIMALS}f}" for score in scores)])


class _Npz(Writer):
    """A NumPy archive that grows array by array; nothing in it is pickled. At its end: paths (n,), and model."""

    binary = True

    def __post_init__(self) -> None:
        import zipfile

        self._zip = zipfile.ZipFile(self.out, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._paths: list[str] = []

    def _add(self, name: str, values: Any) -> None:
        import numpy as np

        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)

    def finish(self) -> None:
        """Write the arrays that describe the others."""
        import numpy as np

        self._add("paths", np.array(self._paths, dtype=np.str_))
        self._add("model", self.about.card.name)
        self._zip.close()


class NpzTaggram(_Npz):
    """Beside paths and model: tags (n_tags,), and for the i-th path taggram_i (segments, n_tags) and starts_i (s)."""

    def _write(self, result: TrackResult) -> None:
        if result.taggram is None or result.starts is None:
            return
        self._add(f"taggram_{len(self._paths)}", result.taggram)
        self._add(f"starts_{len(self._paths)}", result.starts)
        self._paths.append(valid_text(result.path))

    def finish(self) -> None:
        """Write the arrays that describe the others."""
        self._add("tags", list(self.about.card.tags))
        super().finish()


class NpzEmbeddings(_Npz):
    """Beside paths and model: embeddings (n, embedding_size) float32, and sample_rate (Hz, the model's).

    An embedding is the mean over the segments of the vector before the classifier.
    """

    def __post_init__(self) -> None:
        import tempfile

        super().__post_init__()
        # The number of rows is known only at the end, but is written at the front of an array's file.
        self._rows: IO[bytes] = tempfile.TemporaryFile(prefix="samptag-")  # noqa: SIM115 - closed in finish

    def _write(self, result: TrackResult) -> None:
        if result.embedding is not None:
            self._rows.write(result.embedding.astype("<f4").tobytes())
            self._paths.append(valid_text(result.path))

    def finish(self) -> None:
        """Write the matrix and the arrays that describe it."""
        import numpy as np

        shape = (len(self._paths), self.about.card.config.embedding_size)
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": shape}
        with self._zip.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            self._rows.seek(0)
            while chunk := self._rows.read(1 << 20):
                member.write(chunk)
        self._rows.close()
        self._add("sample_rate", self.about.card.config.sample_rate)
        super().finish()


class AudacityLabels(Writer):
    """A line for each stretch in which a selected tag scores at least the threshold: start, end (s), tag; tabs between.

    Without a threshold the tag's cut-off counts, or one half for tags that have none. Neighbouring segments make one
    stretch; the earliest come first, and those that begin together are sorted by their tags' scores.
    """

    def __post_init__(self) -> None:
        _require_one(self.about, "labels")

    def _write(self, result: TrackResult) -> None:
        from samptag.report.timeline import segment_edges, stretches

        if result.taggram is None or result.starts is None:
            return
        selection, card = self.about.selection, self.about.card
        edges = segment_edges(result.starts, duration=result.duration, segment_seconds=card.segment_seconds)
        found: list[tuple[float, float, str]] = []
        for item in result.top(selection.top, tags=selection.tags, decided=selection.decide):
            limits = (selection.threshold, item.cutoff, DEFAULT_THRESHOLD)
            limit = next(value for value in limits if value is not None)
            heard = result.taggram[:, card.tags.index(item.tag)] >= limit
            found += [(start, end, item.tag) for start, end in stretches(heard, edges)]
        found.sort(key=lambda label: label[0])
        self.out.writelines(f"{start:.6f}\t{end:.6f}\t{' '.join(tag.split())}\n" for start, end, tag in found)


class PngTaggram(Writer):
    """A heat map of the selected tags over time, as a PNG file."""

    binary = True
    kind: ClassVar[str] = "png"

    def __post_init__(self) -> None:
        _require_one(self.about, "pictures")
        require_extra("plot", modules=("matplotlib",), purpose="a picture")
        self._drawn = False

    def _write(self, result: TrackResult) -> None:
        from samptag.report.pictures import draw_message, draw_taggram

        self._drawn = True
        if result.error is not None:
            draw_message(self.out, result.error.message, kind=self.kind)
            return
        words, seconds = [item.tag for item in self.about.selection.of(result)], self.about.card.segment_seconds
        draw_taggram(self.out, result, words=words, segment_seconds=seconds, kind=self.kind)

    def finish(self) -> None:
        """Draw a message if the run ended before its result: the file is a picture in any case."""
        from samptag.report.pictures import draw_message

        if not self._drawn:
            draw_message(self.out, "not tagged", kind=self.kind)


class SvgTaggram(PngTaggram):
    """The same as an SVG file, whose text stays text."""

    kind = "svg"


def _require_one(about: About, what: str) -> None:
    """Refuse more than one input for what is about one song."""
    if len(about.paths) != 1:
        raise UsageError(f"{what} are for one song, not for {len(about.paths)}; --taggram x.npz takes many")


# The files beside the tags, by the option that asks for them and by suffix.
BESIDE: dict[str, dict[str, type[Writer]]] = {
    "--taggram": {"npz": NpzTaggram, "csv": CsvTaggram, "png": PngTaggram, "svg": SvgTaggram},
    "--labels": {"txt": AudacityLabels},
    "--embeddings": {"npz": NpzEmbeddings},
}
