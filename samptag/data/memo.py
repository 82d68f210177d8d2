"""Facts about files that are slow to find out, remembered until the file's size or time changes."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from samptag.files import atomic_write

__all__ = ["FileMemo"]

T = TypeVar("T")

_log = logging.getLogger("samptag")
_BATCH = 512


class FileMemo(Generic[T]):
    """Remembers `measure(path)` for files, keyed by absolute path, size and modification time.

    Parameters
    ----------
    directory : Path
        Where the memo is kept; when it cannot be written the values are found out anew the next time.
    name : str
        What is measured, with a revision: part of the memo file's name.
    root : Path
        The data set's folder: one memo file for each.
    measure : callable
        Path -> value; may raise OSError.
    """

    def __init__(self, directory: Path, *, name: str, root: Path, measure: Callable[[Path], T]) -> None:
        tag = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._file = directory / f"{name}-{tag}.json"
        self._measure: Callable[[Path], T] = measure
        self._known: dict[str, tuple[int, int, T]] = {}
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            self._known = {path: (int(size), int(time), value) for path, (size, time, value) in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Absent, or cut off by a full disk: it is a memo, so it is found out anew.
            self._known = {}

    def get_all(
        self, paths: Sequence[Path], *, jobs: int = 4, progress: Callable[[int, int], None] | None = None
    ) -> list[T | None]:
        """The value for every path, None where the file cannot be read; new values are stored in the memo file."""
        fresh = 0
        values: list[T | None] = []
        with ThreadPoolExecutor(jobs) as pool:
            for start in range(0, len(paths), _BATCH):
                for is_new, value in pool.map(self._get, paths[start : start + _BATCH]):
                    fresh += is_new
                    values.append(value)
                if progress:
                    progress(len(values), len(paths))
        if fresh:
            self._store()
        return values

    def _get(self, path: Path) -> tuple[bool, T | None]:
        name = str(path.absolute())
        try:
            stat = path.stat()
            known = self._known.get(name)
            if known and known[:2] == (stat.st_size, stat.st_mtime_ns):
                return False, known[2]
            value = self._measure(path)
        except OSError:
            return False, None
        self._known[name] = (stat.st_size, stat.st_mtime_ns, value)
        return True, value

    def _store(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._file) as file:
                file.write(json.dumps(self._known).encode())
        except OSError as error:
            _log.info("%s: not remembered: %s", self._file, error)
