"""Which audio files lie under a folder, and which folder holds a data set's audio."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from samptag.audio.walk import walk_audio
from samptag.data.dataset import Problem
from samptag.errors import DatasetError
from samptag.files import os_errors_as, os_reason


class AudioListing:
    """The audio files under a folder, and which of them a data set's list names.

    Attributes
    ----------
    root : Path
        The folder.
    sizes : dict of str to int
        Posix path relative to `root` -> bytes.
    problems : list of Problem
        Of the files that `take` was asked for.
    """

    def __init__(self, root: Path, sizes: dict[str, int]) -> None:
        self.root = root
        self.sizes = sizes
        self.problems: list[Problem] = []
        self._used: set[str] = set()
        self._normal: dict[str, str] = {}

    def find(self, *keys: str) -> str | None:
        """The path of the first of `keys` that is there, which counts as listed; None where none is."""
        for key in keys:
            found = key if key in self.sizes else self._find_accented(key)
            if found is not None:
                self._used.add(found)
                return found
        return None

    def _find_accented(self, key: str) -> str | None:
        """A file system may write accents the other way (NFC, NFD)."""
        if key.isascii():
            return None
        if not self._normal:
            self._normal = {unicodedata.normalize("NFC", path): path for path in self.sizes}
        return self._normal.get(unicodedata.normalize("NFC", key))

    def take(self, *keys: str) -> Path | None:
        """The file under the first of `keys` that is there; None, and a problem, where none is or it is empty."""
        found = self.find(*keys)
        if found is None:
            self.problems.append(missing_file(keys[0]))
            return None
        if self.sizes[found] == 0:
            self.problems.append(empty_file(keys[0]))
            return None
        return self.root / found

    def unlisted(self) -> list[Problem]:
        """One problem for every audio file that was neither found nor taken."""
        rest = sorted(self.sizes.keys() - self._used)
        return [unlisted_file(key) for key in rest]


def missing_file(key: str) -> Problem:
    """The problem of a file that a list names and nobody has."""
    return Problem.of("missing", key, "listed but missing")


def unlisted_file(key: str) -> Problem:
    """The problem of a file that lies where listed ones do."""
    return Problem.of("unlisted", key, "present but not listed")


def empty_file(key: str) -> Problem:
    """The problem of a file of no bytes."""
    return Problem.of("unreadable", key, "holds no audio (0 bytes)")


def list_audio(root: Path, *, recursive: bool = True) -> AudioListing:
    """Every file under `root` whose suffix `samptag` decodes, hidden ones left out.

    Raises
    ------
    DatasetError
        A folder cannot be read.
    """
    sizes: dict[str, int] = {}
    prefix = os.path.join(root, "")
    for found in walk_audio(os.fspath(root), folders="by every name", recursive=recursive):
        if found.is_folder and found.error is not None:
            raise DatasetError(f"{found.path}: cannot be listed: {os_reason(found.error)}") from found.error
        if found.status is not None:
            sizes[found.path.removeprefix(prefix).replace(os.sep, "/")] = found.status.st_size
    return AudioListing(root, sizes)


def find_audio_root(root: Path, keys: Sequence[str], *, looked_for: str) -> Path:
    """The folder at or up to two levels below `root` under which the listed `keys` lie.

    Of the candidates the one wins that holds the most of up to 64 keys spread over the list.

    Raises
    ------
    DatasetError
        No candidate holds any of them.
    """
    # A data set of which only a part was fetched may have none of the sampled clips, so the whole list is tried last.
    for sample in (keys[:: max(1, len(keys) // 64) | 1], keys):
        level = [root]
        for _ in range(3):
            counts = [sum((folder / key).exists() for key in sample) for folder in level]
            if any(counts):
                return level[counts.index(max(counts))]
            level = [child for folder in level for child in _subfolders(folder)]
    raise DatasetError(f"{root}: none of the listed clips was found: looked for {looked_for}, such as {keys[0]}")


def _subfolders(folder: Path) -> list[Path]:
    with os_errors_as(DatasetError, f"{folder}: cannot be listed"):
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
