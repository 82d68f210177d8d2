"""Which audio files lie under a folder, and which folder holds a data set's audio."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samptag.audio.decode import SUFFIXES
from samptag.data.dataset import Problem
from samptag.errors import DatasetError
from samptag.files import os_errors_as, os_reason

__all__ = ["AudioListing", "find_audio_root", "list_audio"]


@dataclass(frozen=True)
class AudioListing:
    """The audio files under `root`: posix path relative to it -> size in bytes."""

    root: Path
    sizes: dict[str, int]
    _normal: dict[str, str] = field(default_factory=dict, repr=False)

    def find(self, key: str) -> str | None:
        """The listed path equal to `key`, also when the file system writes accents the other way (NFC, NFD)."""
        if key in self.sizes:
            return key
        if key.isascii():
            return None
        if not self._normal:
            self._normal.update({unicodedata.normalize("NFC", path): path for path in self.sizes})
        return self._normal.get(unicodedata.normalize("NFC", key))

    def unlisted(self, used: Iterable[str]) -> list[Problem]:
        """One problem for every audio file that is not in `used`."""
        rest = sorted(self.sizes.keys() - set(used))
        return [Problem(kind="unlisted", path=key, message=f"{key}: present but not listed") for key in rest]


def list_audio(root: Path, *, recursive: bool = True) -> AudioListing:
    """Every file under `root` whose suffix `samptag` decodes, hidden ones left out.

    Raises
    ------
    DatasetError
        A folder cannot be read.
    """
    sizes: dict[str, int] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if recursive and not _is_ancestor(entry, root / folder):
                            pending.append(f"{name}/")
                    elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                        sizes[name] = entry.stat().st_size
        except OSError as error:
            raise DatasetError(f"{root / folder}: cannot be listed: {os_reason(error)}") from None
    return AudioListing(root=root, sizes=sizes)


def _is_ancestor(entry: os.DirEntry[str], folder: Path) -> bool:
    """Whether a link leads back to a folder above itself, which would never end."""
    return entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())


def find_audio_root(root: Path, keys: Sequence[str], *, depth: int = 2, looked_for: str) -> Path:
    """The folder at or up to `depth` levels below `root` under which the listed `keys` lie.

    Of the candidates the one wins that holds the most of up to 64 keys spread over the list.

    Raises
    ------
    DatasetError
        No candidate holds any of them.
    """
    # A data set of which only a part was fetched may have none of the sampled clips, so the whole list is tried last.
    for sample in (keys[:: max(1, len(keys) // 64) | 1], keys):
        level = [root]
        for _ in range(depth + 1):
            counts = [sum((folder / key).exists() for key in sample) for folder in level]
            if any(counts):
                return level[counts.index(max(counts))]
            level = [child for folder in level for child in _subfolders(folder)]
    raise DatasetError(f"{root}: none of the listed clips is there: looked for {looked_for}, such as {keys[0]}")


def _subfolders(folder: Path) -> list[Path]:
    with os_errors_as(DatasetError, f"{folder}: cannot be listed"):
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
