"""What goes beside the tags on request: scores per segment and embeddings, written as the results come in."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol

from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.tagging import TrackResult

__all__ = ["Archive", "CsvTaggram", "NpzEmbeddings", "NpzTaggram"]


class Archive(Protocol):
    """Takes results one by one; `finish` makes the file whole."""

    def write(self, result: TrackResult) -> None:
        """Take in one result; one with an error is passed over."""

    def finish(self) -> None:
        """Write what comes last."""


class CsvTaggram:
    """One row a segment: path, start (seconds), then a column for each tag."""

    def __init__(self, out: BinaryIO, *, tags: Sequence[str]) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow(["path", "start", *tags])

    def write(self, result: TrackResult) -> None:
        """Write the rows of one result."""
        from samptag.tagging.result import SCORE_DECIMALS

        if result.taggram is None or result.starts is None:
            return
        path = valid_text(result.path)
        for start, scores in zip(result.starts, result.taggram, strict=True):
            self._csv.writerow([path, f"{start:.3f}", *(f"{score:.{SCORE_DECIMALS}f}" for score in scores)])

    def finish(self) -> None:
        """Hand the last rows on."""
        self._text.flush()
        self._text.detach()


class NpzTaggram:
    """A NumPy archive: paths (n,), tags (n_tags,), model, and for the i-th path taggram_i (segments, n_tags), starts_i.

    starts_i has the second at which each segment starts. Nothing is pickled; arrays go to the file as they come.
    """

    def __init__(self, out: BinaryIO, *, tags: Sequence[str], model: str) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._tags, self._model = tags, model
        self._paths: list[str] = []

    def write(self, result: TrackResult) -> None:
        """Write the two arrays of one result."""
        if result.taggram is None or result.starts is None:
            return
        _add_array(self._zip, f"taggram_{len(self._paths)}", result.taggram)
        _add_array(self._zip, f"starts_{len(self._paths)}", result.starts)
        self._paths.append(_text_for_array(result.path))

    def finish(self) -> None:
        """Write the arrays that describe the others."""
        _add_names(self._zip, self._paths, tags=self._tags, model=self._model)
        self._zip.close()


class NpzEmbeddings:
    """A NumPy archive: paths (n,), embeddings (n, embedding_size) float32, model, sample_rate (Hz, the model's).

    An embedding is the mean over the segments of the vector before the classifier.
    """

    def __init__(self, out: BinaryIO, *, model: str, sample_rate: int, size: int) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._model, self._sample_rate, self._size = model, sample_rate, size
        self._paths: list[str] = []
        # How many rows there will be is known at the end only, and stands at the front of an array's file.
        self._rows: IO[bytes] = tempfile.TemporaryFile(prefix="samptag-")  # noqa: SIM115 - closed in finish

    def write(self, result: TrackResult) -> None:
        """Take in the embedding of one result."""
        if result.embedding is None:
            return
        self._rows.write(result.embedding.astype("<f4").tobytes())
        self._paths.append(_text_for_array(result.path))

    def finish(self) -> None:
        """Write the matrix and the arrays that describe it."""
        import numpy as np

        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (len(self._paths), self._size)}
        with self._zip.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            self._rows.seek(0)
            while chunk := self._rows.read(1 << 20):
                member.write(chunk)
        self._rows.close()
        _add_array(self._zip, "sample_rate", np.array(self._sample_rate))
        _add_names(self._zip, self._paths, model=self._model)
        self._zip.close()


def _add_names(
    archive: zipfile.ZipFile, paths: Sequence[str], *, model: str, tags: Sequence[str] | None = None
) -> None:
    import numpy as np

    _add_array(archive, "paths", np.array(paths, dtype=np.str_))
    _add_array(archive, "model", np.array(model))
    if tags is not None:
        _add_array(archive, "tags", np.array(tags, dtype=np.str_))


def _add_array(archive: zipfile.ZipFile, name: str, array: Any) -> None:
    import numpy as np

    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _text_for_array(path: str) -> str:
    return valid_text(path)
