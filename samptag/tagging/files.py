"""Arguments, folders and lists of names made into one ordered list of inputs."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from samptag.audio.decode import SUFFIXES
from samptag.errors import AudioError, UsageError

__all__ = ["STDIN", "Input", "expand_inputs", "read_list"]

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing to tag.

    Attributes
    ----------
    path : str
        What the result calls it; "-" for standard input.
    source : str or binary file object
        What is opened.
    error : AudioError or None
        Why there is nothing to open, e.g. a folder that may not be listed; the result then carries this error.
    """

    path: str
    source: str | BinaryIO
    error: AudioError | None = None

    @property
    def size(self) -> int:
        """Bytes of the file, by which several processes share their work; 1 where there is none to be seen."""
        try:
            return os.stat(self.source).st_size if isinstance(self.source, str) else 1
        except OSError:
            return 1


def expand_inputs(arguments: Iterable[str | os.PathLike[str]]) -> list[Input]:
    """The inputs behind the arguments, in order.

    A file is taken as it is named, whatever its suffix, as often as it is named; so is "-", standard input, which can
    be read only once. A folder is walked: every file below it whose suffix is one of `samptag.audio.decode.SUFFIXES`,
    in byte order of the names level by level, hidden files and folders (a leading dot) left out. Links are followed,
    but what is found both by its own name and by a link, or by two links, is taken once. A folder that cannot be
    listed or holds no audio, and a link in a folder that leads nowhere, are inputs with an error: nothing is passed
    over in silence.

    Parameters
    ----------
    arguments : iterable of str or path
        Files, folders, or "-".

    Returns
    -------
    list of Input

    Raises
    ------
    UsageError
        When standard input is named twice.
    """
    inputs: list[Input] = []
    for argument in arguments:
        name = os.fspath(argument)
        if name == STDIN:
            if any(known.path == STDIN for known in inputs):
                raise UsageError("standard input (-) can be read only once")
            inputs.append(Input(path=STDIN, source=sys.stdin.buffer))
        elif os.path.isdir(name):
            inputs.extend(_Walk(name).inputs())
        else:
            inputs.append(Input(path=name, source=name))
    return inputs


def read_list(data: bytes, *, null: bool = False) -> list[str]:
    """The names in a list, one a line or, with `null`, one before each NUL; blank lines are passed over.

    Parameters
    ----------
    data : bytes
        The list as read; names may hold any bytes.
    null : bool
        Names are ended by NUL (`find -print0`), so they may hold newlines.

    Returns
    -------
    list of str
        Names with undecodable bytes as surrogate escapes.
    """
    if null:
        names = data.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


@dataclass(frozen=True)
class _Found:
    path: str
    is_link: bool
    identity: tuple[int, int] | None  # device and inode; None where there is no file behind the name
    error: AudioError | None = None


@dataclass
class _Walk:
    """One folder walked; real folders before links to folders, so that a file keeps its own name where it has one."""

    root: str
    found: list[_Found] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)
    folder_links: list[str] = field(default_factory=list)

    def inputs(self) -> Iterator[Input]:
        self._walk(self.root)
        while self.folder_links:
            # Byte order, and the links below a linked folder after it: the same names win in every run.
            self.folder_links.sort(key=os.fsencode)
            self._walk(self.folder_links.pop(0))
        kept = self._without_doubles()
        if not kept:
            message = f"no audio files in the folder {self.root!r}; samptag looks for {_suffix_text()}"
            kept = [_Found(self.root, False, None, AudioError(message))]
        for entry in kept:
            yield Input(path=entry.path, source=entry.path, error=entry.error)

    def _walk(self, start: str) -> None:
        pending = [start]
        while pending:
            folder = pending.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in self.visited:
                    continue
                self.visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    for entry in entries:
                        self._take(entry, pending)
            except OSError as error:
                self._fail(folder, f"cannot list the folder {folder!r}: {error.strerror}")

    def _take(self, entry: os.DirEntry[str], pending: list[str]) -> None:
        if entry.name.startswith("."):
            return
        is_audio = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        is_link = entry.is_symlink()
        try:
            status = os.stat(entry.path)
        except OSError as error:
            if is_audio:
                self._fail(entry.path, f"cannot open {entry.path!r}: {_why_no_file(error, is_link)}")
            return
        if stat.S_ISDIR(status.st_mode):
            (self.folder_links if is_link else pending).append(entry.path)
        elif is_audio and stat.S_ISREG(status.st_mode):
            self.found.append(_Found(entry.path, is_link, (status.st_dev, status.st_ino)))

    def _fail(self, path: str, message: str) -> None:
        self.found.append(_Found(path, False, None, AudioError(message)))

    def _without_doubles(self) -> list[_Found]:
        own = {entry.identity for entry in self.found if not entry.is_link}
        linked: set[tuple[int, int] | None] = set()
        kept = []
        for entry in sorted(self.found, key=lambda entry: os.fsencode(entry.path).split(os.fsencode(os.sep))):
            if entry.is_link:
                if entry.identity in own or entry.identity in linked:
                    continue
                linked.add(entry.identity)
            kept.append(entry)
        return kept


def _why_no_file(error: OSError, is_link: bool) -> str:
    return f"a link that leads nowhere ({error.strerror})" if is_link else str(error.strerror)


def _suffix_text() -> str:
    return " ".join(sorted(SUFFIXES))
