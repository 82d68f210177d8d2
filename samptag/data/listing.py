"""A data set's files: the tables that list clips, with errors that name file and line, and the audio that is there."""

import csv
import io
import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from samptag.audio.walk import walk_audio
from samptag.data.dataset import Problem
from samptag.errors import DatasetError
from samptag.files import os_errors_as, os_reason
from samptag.text import first_names

# A manifest's tags can be one long JSON object; the csv module's own limit of 131 072 characters is too low for that.
_FIELD_LIMIT = 16 * 1024 * 1024


def read_text(path: Path) -> str:
    """The whole of a UTF-8 text file, without a byte-order mark."""
    try:
        with os_errors_as(DatasetError, f"{path}: cannot be read"):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def read_rows(path: Path, *, delimiter: str, quoted: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every row that is not blank, of a CSV or TSV file."""
    csv.field_size_limit(_FIELD_LIMIT)
    # str.splitlines would also break at U+2028 and the like, which may occur in a title or a tag.
    lines = io.StringIO(read_text(path))
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
    )
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: {error}") from None


def read_table(
    path: Path, *, delimiter: str, needed: Sequence[str], empty: str
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a CSV or TSV file, and its rows with their line numbers, each as long as the header.

    Raises a DatasetError if there is no header (`empty` is the advice), or it lacks a column in `needed` or has one
    twice.
    """
    rows = read_rows(path, delimiter=delimiter)
    first = next(rows, None)
    if first is None:
        raise DatasetError(f"{path}: the file is empty; {empty}")
    header = [name.strip() for name in first[1]]
    missing = [name for name in needed if name not in header]
    if missing:
        raise DatasetError(f"{path}: column {', '.join(map(repr, missing))} is missing; found {', '.join(header[:8])}")
    check_names_differ(path, header)

    def whole() -> Iterator[tuple[int, list[str]]]:
        for line, fields in rows:
            if len(fields) != len(header):
                raise DatasetError(f"{path}, line {line}: {len(fields)} columns instead of {len(header)}")
            yield line, fields

    return header, whole()


def check_names_differ(path: Path, header: Sequence[str]) -> None:
    """Raise a DatasetError if a name in the header row of `path` appears twice."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: column {first_names([repr(name) for name in twice])} appears twice")


def note_line(
    lines: dict[str, str], key: str, *, path: Path, line: int, shown: str | None = None, place: str | None = None
) -> None:
    """Note in `lines` that `key` is in this line of `path`; a DatasetError if it was in another.

    Messages call the key `shown`, and the line `place`.
    """
    if key in lines:
        raise DatasetError(f"{path}, line {line}: {shown or key} appears in {lines[key]} already")
    lines[key] = place or f"line {line}"


class AudioListing:
    """The audio files under a folder, and which of them a data set's list names."""

    def __init__(self, root: Path, sizes: dict[str, int]) -> None:
        self.root = root
        self.sizes = sizes  # bytes, by posix path relative to `root`
        self.problems: list[Problem] = []  # of the files that `take` was asked for
        self._used: set[str] = set()

    def find(self, *keys: str) -> str | None:
        """The path of the first of `keys` that exists, which then counts as listed; None if none does."""
        for key in keys:
            found = key if key in self.sizes else None
            if found is None and not key.isascii():  # a file system may write accents the other way (NFC, NFD)
                found = self._composed.get(unicodedata.normalize("NFC", key))
            if found is not None:
                self._used.add(found)
                return found
        return None

    @cached_property
    def _composed(self) -> dict[str, str]:
        return {unicodedata.normalize("NFC", path): path for path in self.sizes}

    def take(self, *keys: str) -> Path | None:
        """The file of the first of `keys` that exists; None, and a problem, if none does or the file is empty."""
        found = self.find(*keys)
        if found is not None and self.sizes[found]:
            return self.root / found
        self.problems.append(Problem.of("missing" if found is None else "unreadable", keys[0]))
        return None

    def unlisted(self) -> list[Problem]:
        """One problem for every audio file that was neither found nor taken."""
        return [Problem.of("unlisted", key) for key in sorted(self.sizes.keys() - self._used)]


def list_audio(root: Path, *, recursive: bool = True) -> AudioListing:
    """Every file under `root` whose suffix samptag decodes, except hidden ones."""
    sizes: dict[str, int] = {}
    prefix = os.path.join(root, "")
    for found in walk_audio(os.fspath(root), folders="by every name", recursive=recursive):
        if found.is_folder and found.error is not None:
            raise DatasetError(f"{found.path}: cannot be listed: {os_reason(found.error)}") from found.error
        if found.status is not None:
            sizes[found.path.removeprefix(prefix).replace(os.sep, "/")] = found.status.st_size
    return AudioListing(root, sizes)


def first_match(root: Path, *patterns: str) -> Path | None:
    """The first file, by name, below `root` that fits the first of the glob `patterns` that any file fits."""
    for pattern in patterns:
        if found := min(filter(Path.is_file, root.glob(pattern)), default=None):
            return found
    return None


def find_audio_root(root: Path, keys: Sequence[str], *, looked_for: str) -> Path:
    """The folder, `root` or one up to two levels below it, that holds the listed `keys`; a DatasetError if none does.

    Of several folders, it is the one with the most of up to 64 keys spread over the list.
    """
    # A data set that was fetched only in part may have none of the sampled clips, so the whole list is tried last.
    for sample in (keys[:: max(1, len(keys) // 64) | 1], keys):
        level = [root]
        for _ in range(3):
            counts = [sum((folder / key).exists() for key in sample) for folder in level]
            if any(counts):
                return level[counts.index(max(counts))]
            level = [child for folder in level for child in _subfolders(folder)]
    raise DatasetError(f"{root}: none of the listed clips was found; looked for {looked_for}, such as {keys[0]}")


def _subfolders(folder: Path) -> list[Path]:
    with os_errors_as(DatasetError, f"{folder}: cannot be listed"):
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
