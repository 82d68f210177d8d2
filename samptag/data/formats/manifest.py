"""A manifest: one CSV, TSV or JSON Lines file that lists paths, splits and tags."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from samptag.data.dataset import PARTS, Clip, Dataset, Problem, make_dataset, named_part, split_by_group
from samptag.data.listing import first_match, list_audio, note_line, read_table, read_text
from samptag.errors import DatasetError

EXPECTS = "manifest.csv or .jsonl"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_STANDARD_NAMES = tuple(f"manifest{suffix}" for suffix in SUFFIXES)
_RESERVED = ("path", "split", "tags", "group")
# Words in the split column that set a row aside on purpose.
_SET_ASIDE = ("unlabelled", "unlabeled", "unused", "none")


class _Row(NamedTuple):
    line: int
    path: str
    split: str  # as the column has it, which may be "" or a word of `_SET_ASIDE`
    group: str
    tags: Mapping[str, float]


def find(root: Path) -> Path | None:
    """The manifest `root` is or holds: manifest.csv (.tsv, .jsonl, .ndjson), or the only table with a path column."""
    if root.is_file():
        return root if root.suffix.lower() in SUFFIXES else None
    if named := first_match(root, *_STANDARD_NAMES):
        return named
    tables = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    fitting = [path for path in tables if _has_path_column(path)]
    return fitting[0] if len(fitting) == 1 else None


def _has_path_column(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(1 << 20)
        if path.suffix.lower() in (".csv", ".tsv"):
            return "path" in first.strip().replace('"', "").split("\t" if path.suffix.lower() == ".tsv" else ",")
        record = json.loads(first)
        return isinstance(record, dict) and "path" in record
    except (OSError, ValueError):
        return False


def read(root: Path) -> Dataset:
    """The data set that a manifest lists (docs/data.md); tags are in the order of columns, otherwise alphabetical."""
    path = find(root)
    if path is None:
        raise DatasetError(f"{root}: no manifest.csv or manifest.jsonl, and not exactly one table with a path column")
    rows, tags, problems = _read(path)
    lines: dict[str, str] = {}
    for row in rows:
        note_line(lines, _key(os.path.join(path.parent, row.path)), path=path, line=row.line, shown=row.path)
    aside = Counter(row.split.lower() for row in rows if row.split.lower() in _SET_ASIDE)
    for word, count in sorted(aside.items()):
        problems.append(Problem("left-out", str(path), f"{count} rows with split {word!r} are set aside"))
    kept = [row for row in rows if row.split.lower() not in _SET_ASIDE]
    parts = _parts(path, kept)
    clips: list[Clip] = []
    for row, part in zip(kept, parts, strict=True):
        file = path.parent / row.path
        if problem := _problem(file, row.path):
            problems.append(problem)
            continue
        labels = np.array([row.tags.get(tag, 0) for tag in tags], dtype=np.float32)
        clips.append(Clip(path=file, key=_key(row.path), part=part, labels=labels, group=row.group))
    problems += _unlisted(path.parent, rows)
    return make_dataset(format="manifest", root=root, split_name="manifest", tags=tags, clips=clips, problems=problems)


def _read(path: Path) -> tuple[list[_Row], tuple[str, ...], list[Problem]]:
    is_table = path.suffix.lower() in (".csv", ".tsv")
    records, columns, problems = _table_records(path) if is_table else (_json_records(path), (), [])
    rows = [_parse(path, line, record, columns) for line, record in records]
    if not rows:
        raise DatasetError(f"{path}: lists no clips")
    tags = columns or tuple(sorted({tag for row in rows for tag in row.tags}))
    return rows, tags, problems


def _table_records(path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], tuple[str, ...], list[Problem]]:
    """Records of a CSV or TSV; without a column `tags` also its tag columns, and problems of those that nearly are."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    empty = "the first row should name the columns"
    header, rows = read_table(path, delimiter=delimiter, needed=("path",), empty=empty)
    table = list(rows)
    columns: list[str] = []
    problems: list[Problem] = []
    free = [] if "tags" in header else [place for place, name in enumerate(header) if name not in _RESERVED]
    for place in free:
        words = [(line, fields[place]) for line, fields in table if not _is_number(fields[place])]
        if not words:
            columns.append(header[place])
        elif any(fields[place].strip() and _is_number(fields[place]) for _, fields in table):
            # Titles may be numbers too, so this is no error; but a single typing mistake must not lose a tag unnoticed.
            line, word = words[0]
            message = f"{path}, line {line}: column {header[place]!r} is not used as a tag: {word!r} is not a number"
            problems.append(Problem("left-out", header[place], message))
    return ((line, dict(zip(header, fields, strict=True))) for line, fields in table), tuple(columns), problems


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            raise DatasetError(f"{path}, line {line}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise DatasetError(f"{path}, line {line}: expected a JSON object with 'path' and 'tags'")
        yield line, record


def _parse(path: Path, line: int, record: dict[str, Any], columns: tuple[str, ...]) -> _Row:
    where = f"{path}, line {line}"
    file = record.get("path")
    if not isinstance(file, str) or not file.strip():
        raise DatasetError(f"{where}: 'path' is missing or empty")
    if "\0" in file:
        raise DatasetError(f"{where}: 'path' holds a NUL character")
    tags = {column: record[column] or "0" for column in columns} if columns else _parse_tags(record.get("tags"), where)
    values = {tag: _label(value, tag, where) for tag, value in tags.items()}
    split, group = record.get("split"), record.get("group")
    split = "" if split is None else str(split).strip()
    group = _key(file) if group in (None, "") else str(group).strip()
    return _Row(line, file, split, group, values)


def _parse_tags(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("{", "["):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise DatasetError(f"{where}: 'tags' is not JSON: {error}") from None
        else:
            value = [part.strip() for part in text.replace("|", ";").split(";") if part.strip()]
    if value is None:
        return {}
    if isinstance(value, list):
        value = dict.fromkeys(value, 1) if all(isinstance(tag, str) for tag in value) else None
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: 'tags' is neither a list of names nor an object of tag: value")
    if any(not tag.strip() for tag in value):
        raise DatasetError(f"{where}: a tag's name is empty")
    return value


def _label(value: Any, tag: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"{where}: tag {tag!r} has the value {value!r}, not a number between 0 and 1") from None
    if not 0 <= number <= 1:  # true of NaN as well
        raise DatasetError(f"{where}: tag {tag!r} has the value {value}, not a number between 0 and 1")
    return number


def _key(path: str) -> str:
    return os.path.normpath(path).replace(os.sep, "/")


def _parts(path: Path, rows: list[_Row]) -> list[str]:
    given = [row for row in rows if row.split]
    if not given:
        return split_by_group([row.group for row in rows])
    if len(given) < len(rows):
        line = next(row.line for row in rows if not row.split)
        raise DatasetError(f"{path}, line {line}: no split, though other rows have one; fill in all or none")
    parts = []
    for row in rows:
        part = named_part(row.split)
        if part is None:
            known = f"{', '.join(PARTS)} (or unlabelled, to set the row aside)"
            raise DatasetError(f"{path}, line {row.line}: split {row.split!r} is none of {known}")
        parts.append(part)
    return parts


def _problem(file: Path, name: str) -> Problem | None:
    try:
        size = file.stat().st_size
    except (OSError, ValueError):
        return Problem.of("missing", name)
    if file.is_dir():
        return Problem.of("unreadable", name, "a folder, not a file")
    return None if size else Problem.of("unreadable", name)


def _unlisted(base: Path, rows: list[_Row]) -> list[Problem]:
    """Audio files beside listed ones that no row lists."""
    listed = {_key(row.path) for row in rows}
    problems: list[Problem] = []
    for folder in sorted({os.path.dirname(key) for key in listed}):
        if (base / folder).is_dir():
            beside = list_audio(base / folder, recursive=False).sizes
            names = sorted({f"{folder}/{name}" if folder else name for name in beside} - listed)
            problems += [Problem.of("unlisted", name) for name in names]
    return problems
