"""What goes beside the tags on request: scores per segment, drawn or not, Audacity's labels, and embeddings."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Any, ClassVar

from samptag.cli.writers import About, Selection, Writer
from samptag.errors import UsageError
from samptag.lazy import require_extra
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.tagging import TagScore, TrackResult

DEFAULT_THRESHOLD = 0.5


class CsvTaggram(Writer):
    """One row a segment: path, start (seconds), then a column for each tag."""

    def __init__(self, out: Any, about: About) -> None:
        super().__init__(out, about)
        self._csv = csv.writer(out, lineterminator="\n")
        self._csv.writerow(["path", "start", *about.card.tags])

    def write(self, result: TrackResult) -> None:
        """Write the rows of one result."""
        from samptag.tagging.result import SCORE_DECIMALS

        if result.taggram is None or result.starts is None:
            return
        path = valid_text(result.path)
        for start, scores in zip(result.starts, result.taggram, strict=True):
            self._csv.writerow([path, f"{start:.3f}", *(f"{score:.{SCORE_DECIMALS}f}" for score in scores)])


class _Npz(Writer):
    """A NumPy archive that grows array by array; nothing in it is pickled. At its end: paths (n,), and model."""

    binary = True

    def __init__(self, out: Any, about: About) -> None:
        import zipfile

        super().__init__(out, about)
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._paths: list[str] = []

    def _keep(self, path: str) -> None:
        self._paths.append(valid_text(path))

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

    def write(self, result: TrackResult) -> None:
        """Write the two arrays of one result."""
        if result.taggram is None or result.starts is None:
            return
        self._add(f"taggram_{len(self._paths)}", result.taggram)
        self._add(f"starts_{len(self._paths)}", result.starts)
        self._keep(result.path)

    def finish(self) -> None:
        """Write the arrays that describe the others."""
        self._add("tags", list(self.about.card.tags))
        super().finish()


class NpzEmbeddings(_Npz):
    """Beside paths and model: embeddings (n, embedding_size) float32, and sample_rate (Hz, the model's).

    An embedding is the mean over the segments of the vector before the classifier.
    """

    def __init__(self, out: Any, about: About) -> None:
        import tempfile

        super().__init__(out, about)
        # How many rows there will be is known at the end only, and stands at the front of an array's file.
        self._rows: IO[bytes] = tempfile.TemporaryFile(prefix="samptag-")  # noqa: SIM115 - closed in finish

    def write(self, result: TrackResult) -> None:
        """Take in the embedding of one result."""
        if result.embedding is None:
            return
        self._rows.write(result.embedding.astype("<f4").tobytes())
        self._keep(result.path)

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

    Without a threshold it is the tag's cut-off, and one half for tags that have none. Stretches are put together from
    segments, earliest first, and those that begin together by their tag's score.
    """

    def __init__(self, out: Any, about: About) -> None:
        _require_one(about, "labels")
        super().__init__(out, about)

    def write(self, result: TrackResult) -> None:
        """Write the labels of the one result there is; none where it failed."""
        from samptag.report.timeline import segment_edges, stretches

        if result.taggram is None or result.starts is None:
            return
        selection, card = self.about.selection, self.about.card
        edges = segment_edges(result.starts, duration=result.duration, segment_seconds=card.segment_seconds)
        found = [
            (start, end, item.tag)
            for item in result.top(selection.top, tags=selection.tags, decided=selection.decide)
            for start, end in stretches(
                result.taggram[:, card.tags.index(item.tag)] >= _threshold(item, selection), edges
            )
        ]
        found.sort(key=lambda label: label[0])
        self.out.writelines(f"{start:.6f}\t{end:.6f}\t{' '.join(tag.split())}\n" for start, end, tag in found)


def _threshold(item: TagScore, selection: Selection) -> float:
    asked = (selection.threshold, item.cutoff, DEFAULT_THRESHOLD)
    return next(value for value in asked if value is not None)


class PngTaggram(Writer):
    """A heat map of the selected tags against time, as a PNG file."""

    binary = True
    kind: ClassVar[str] = "png"

    def __init__(self, out: Any, about: About) -> None:
        _require_one(about, "pictures")
        require_extra("plot", modules=("matplotlib",), purpose="a picture")
        super().__init__(out, about)
        self._drawn = False

    def write(self, result: TrackResult) -> None:
        """Draw the one result there is; for one that failed, its message."""
        from samptag.report.pictures import draw_message, draw_taggram

        self._drawn = True
        if result.error is not None:
            draw_message(self.out, result.error.message, kind=self.kind)
            return
        draw_taggram(
            self.out,
            result,
            words=[item.tag for item in self.about.selection.of(result)],
            segment_seconds=self.about.card.segment_seconds,
            kind=self.kind,
        )

    def finish(self) -> None:
        """Draw that there was nothing, when the run ended before its result: no file is left that is no picture."""
        from samptag.report.pictures import draw_message

        if not self._drawn:
            draw_message(self.out, "not tagged", kind=self.kind)


class SvgTaggram(PngTaggram):
    """The same as an SVG file, its texts as texts."""

    kind = "svg"


def _require_one(about: About, what: str) -> None:
    """Refuse more than one input for what is about one song."""
    if len(about.paths) != 1:
        raise UsageError(f"{what} are of one song, not of {len(about.paths)}; --taggram x.npz takes in many")


TAGGRAMS: dict[str, type[Writer]] = {
    "npz": NpzTaggram,
    "csv": CsvTaggram,
    "png": PngTaggram,
    "svg": SvgTaggram,
}
LABELS: dict[str, type[Writer]] = {"txt": AudacityLabels}
EMBEDDINGS: dict[str, type[Writer]] = {"npz": NpzEmbeddings}
"""The forms by their suffixes."""
