"""CSV tables of clips by tags, as docs/evaluation.md describes them; errors name file, row and column."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samptag.data.listing import check_names_differ, note_line, read_rows
from samptag.errors import DatasetError
from samptag.evaluation.metrics import FloatArray
from samptag.text import counted, first_names

_GROUP, _PROTOCOL = "group", "protocol"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """Predictions: one score for each clip and tag."""

    name: str  # of the weights or the file that the scores come from
    keys: tuple[str, ...]  # the clips' paths, each unique
    tags: tuple[str, ...]  # each unique
    values: npt.NDArray[np.floating]  # (clips, tags), finite; any range, since only the order within a tag counts
    protocol: str = ""  # which segments of each clip the scores are the mean of; "" where that is not known
    weights_sha256: str | None = None  # of the weights that made the predictions; None where a file holds them


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The labels and groups of clips."""

    keys: tuple[str, ...]
    tags: tuple[str, ...]
    labels: npt.NDArray[np.floating]  # (clips, tags), in [0, 1]
    groups: tuple[str, ...]  # the track or artist of each clip
    split_name: str  # the data set's named split, or the file's name
    split_hash: str  # the split's hash, or a hash of the paths in the file
    part: str = ""  # "train", "valid" or "test"; "" for a file, all of which counts

    def restricted(self, keys: Sequence[str], tags: Sequence[str]) -> Truth:
        """The truth of the given clips and tags only."""
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = [row_of[key] for key in keys]
        labels = self.labels[np.ix_(rows, [self.tags.index(tag) for tag in tags])]
        groups = tuple(self.groups[row] for row in rows)
        return replace(self, keys=tuple(keys), tags=tuple(tags), labels=labels, groups=groups)


def read_scores(path: str | Path) -> ScoreTable:
    """The predictions in a CSV file; a column ``group`` is ignored."""
    return _read(Path(path), lambda number: None if np.isfinite(number) else "is not a finite number")[0]


def read_truth(path: str | Path) -> Truth:
    """The labels in a CSV file, and its ``group`` column; without one, each row is a group."""
    table, groups = _read(Path(path), lambda number: None if 0 <= number <= 1 else "is not in [0, 1]")
    digest = hashlib.sha256("\0".join(sorted(table.keys)).encode("utf-8")).hexdigest()
    return Truth(
        keys=table.keys,
        tags=table.tags,
        labels=table.values,
        groups=groups or table.keys,
        split_name=table.name,
        split_hash=digest[:16],
    )


def read_groups(path: str | Path) -> dict[str, str]:
    """Path -> group of a CSV file with the columns path and group; a path that appears twice is a DatasetError."""
    file = Path(path)
    rows = _rows(file)
    if len(rows[0][1]) != 2 or rows[0][1][1].strip() != _GROUP:
        raise DatasetError(f"{file}: a groups file has a header row and two columns, path and group")
    return dict(zip(_keys(file, rows[1:]), _groups(file, rows[1:], 1), strict=True))


def scores_to_csv(scores: ScoreTable) -> str:
    """The predictions as CSV that `read_scores` reads: float32 in the shortest decimals that give it back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *scores.tags, _PROTOCOL])
    for key, row in zip(scores.keys, scores.values.astype(np.float32), strict=True):
        writer.writerow([key, *map(str, row), scores.protocol])
    return text.getvalue()


def align(scores: ScoreTable, *, keys: Sequence[str], tags: Sequence[str]) -> FloatArray:
    """The scores of the given clips and tags, in the given order: float64 (clips, tags)."""
    row_of = {key: row for row, key in enumerate(scores.keys)}
    column_of = {tag: column for column, tag in enumerate(scores.tags)}
    for what, wanted, known in (("row", keys, row_of), ("tag", tags, column_of)):
        missing = [name for name in wanted if name not in known]
        if missing:
            names = first_names([repr(name) for name in missing])
            raise DatasetError(f"{scores.name} lacks {counted(len(missing), what)} of the truth: {names}")
    chosen = np.ix_([row_of[key] for key in keys], [column_of[tag] for tag in tags])
    return scores.values[chosen].astype(np.float64)


def _read(path: Path, fault: Callable[[float], str | None]) -> tuple[ScoreTable, tuple[str, ...] | None]:
    """The table in `path`, and its groups if it has any; `fault` says what is wrong with a number, if anything."""
    rows = _rows(path)
    header = [name.strip() for name in rows[0][1]]
    columns = [column for column, name in enumerate(header) if column and name not in (_GROUP, _PROTOCOL)]
    _check_header(path, header, columns)
    body = rows[1:]
    values = np.empty((len(body), len(columns)))
    for row, (line, fields) in enumerate(body):
        if len(fields) != len(header):
            raise DatasetError(f"{path}, line {line}: {len(fields)} fields, the header has {len(header)}")
        for place, column in enumerate(columns):
            number = _number(fields[column])
            wrong = "is not a number" if number is None else fault(number)
            if number is None or wrong:
                cell = f"line {line} ({fields[0]}), column {header[column]!r}"
                raise DatasetError(f"{path}, {cell}: {fields[column]!r} {wrong}")
            values[row, place] = number
    table = ScoreTable(
        name=path.name,
        keys=_keys(path, body),
        tags=tuple(header[column] for column in columns),
        values=values,
        protocol=_protocol(path, body, header.index(_PROTOCOL)) if _PROTOCOL in header[1:] else "",
    )
    return table, _groups(path, body, header.index(_GROUP)) if _GROUP in header[1:] else None


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The header and at least one row of `path`, each with its line number."""
    rows = list(read_rows(path, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    if len(rows) < 2:
        raise DatasetError(f"{path}: no rows; expected a header (path, then one column per tag) and one row per clip")
    return rows


def _check_header(path: Path, header: Sequence[str], columns: Sequence[int]) -> None:
    if not columns:
        raise DatasetError(f"{path}: no tag columns; expected commas between path and one column per tag")
    if not all(header[column] for column in columns):
        raise DatasetError(f"{path}: a column of the header row has no name")
    if all(_number(header[column]) is not None for column in columns):
        raise DatasetError(f"{path}: the first row holds numbers; it must name the columns: path, then the tags")
    check_names_differ(path, header[1:])


def _keys(path: Path, rows: Sequence[tuple[int, list[str]]]) -> tuple[str, ...]:
    lines: dict[str, str] = {}
    for line, fields in rows:
        if not fields[0]:
            raise DatasetError(f"{path}, line {line}: the path is empty")
        note_line(lines, fields[0], path=path, line=line)
    return tuple(lines)


def _groups(path: Path, rows: Sequence[tuple[int, list[str]]], column: int) -> tuple[str, ...]:
    for line, fields in rows:
        if len(fields) <= column or not fields[column].strip():
            raise DatasetError(f"{path}, line {line} ({fields[0]}): the group is empty")
    return tuple(fields[column].strip() for _, fields in rows)


def _protocol(path: Path, rows: Sequence[tuple[int, list[str]]], column: int) -> str:
    named = {fields[column].strip() for _, fields in rows}
    if len(named) > 1:
        raise DatasetError(f"{path}: the rows name several protocols: {first_names(sorted(named))}")
    return named.pop()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
