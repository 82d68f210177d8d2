"""CSV and TSV files read row by row, with errors that name the file and the line."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from samptag.errors import DatasetError
from samptag.files import os_errors_as

# A manifest's tags can be one long JSON object; the csv module's own limit of 131 072 characters is a guess too low.
_FIELD_LIMIT = 16 * 1024 * 1024


def read_text(path: Path) -> str:
    """The whole of a UTF-8 text file, without a byte-order mark.

    Raises
    ------
    DatasetError
        The file cannot be read or is not UTF-8.
    """
    try:
        with os_errors_as(DatasetError, f"{path}: cannot be read"):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def read_rows(path: Path, *, delimiter: str, quoted: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every row that is not blank.

    Raises
    ------
    DatasetError
        The file cannot be read, is not UTF-8, or its quoting is broken.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    # str.splitlines would also break at U+2028 and the like, which may stand inside a title or a tag.
    lines = io.StringIO(read_text(path).replace("\r\n", "\n").replace("\r", "\n"), newline="\n")
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
    )
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: {error}") from None


def require_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    """Refuse a `header` that lacks a name in `needed`, or has one twice.

    Raises
    ------
    DatasetError
        The message names the columns.
    """
    missing = [name for name in needed if name not in header]
    if missing:
        raise DatasetError(f"{path}: column {', '.join(map(repr, missing))} is missing; found {', '.join(header[:8])}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: column {', '.join(map(repr, twice))} appears twice")
