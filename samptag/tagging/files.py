"""Makes one ordered list of inputs from arguments, folders and lists of names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from samptag.audio.decode import SUFFIXES
from samptag.audio.walk import Found, walk_audio
from samptag.errors import AudioError, UsageError
from samptag.files import os_reason

STDIN = "-"
# An MP3 of 128 kbit/s, and a FLAC of a CD.
_BYTES_A_SECOND = {False: 16_000, True: 100_000}
_LOSSLESS = (".flac", ".wav", ".aif", ".aiff", ".caf", ".w64", ".rf64", ".au")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing to tag."""

    path: str  # its name in the result; "-" for standard input
    source: str | BinaryIO  # what is opened
    error: AudioError | None = None  # why there is nothing to open, e.g. a folder that cannot be listed

    @property
    def size(self) -> int:
        """Bytes of the file, by which several processes share their work; 1 if it cannot be known."""
        try:
            return os.stat(self.source).st_size if isinstance(self.source, str) else 1
        except OSError:
            return 1


def guessed_seconds(path: str, size: int) -> float:
    """Roughly how long a file of so many bytes plays, by its suffix; enough to tell a song from a library."""
    return size / _BYTES_A_SECOND[path.lower().endswith(_LOSSLESS)]


def expand_inputs(arguments: Iterable[str | os.PathLike[str]]) -> list[Input]:
    """The inputs behind the arguments (files, folders, or "-"), in order.

    A file is taken whatever its suffix, as often as it is named; "-" is standard input, which can be named only once. A
    folder gives every file below it whose suffix is one of `samptag.audio.decode.SUFFIXES`, in byte order of the names
    level by level, without hidden files and folders (a leading dot). Links are followed, but a file that is found by
    its own name and by a link, or by two links, is taken once. A folder that cannot be listed or holds no audio, and a
    broken link in a folder, are inputs with an error.
    """
    inputs: list[Input] = []
    for argument in arguments:
        name = os.fspath(argument)
        if name == STDIN:
            if any(known.path == STDIN for known in inputs):
                raise UsageError("standard input (-) can be read only once")
            inputs.append(Input(path=STDIN, source=sys.stdin.buffer))
        elif os.path.isdir(name):
            inputs.extend(_folder_inputs(name))
        else:
            inputs.append(Input(path=name, source=name))
    return inputs


def read_list(data: bytes, *, null: bool = False) -> list[str]:
    """The names in a list, one per line or, with `null`, each ended by a NUL (`find -print0`), without empty ones.

    Names may hold any bytes; those that cannot be decoded become surrogate escapes.
    """
    if null:
        names = data.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


def _folder_inputs(root: str) -> Iterator[Input]:
    found = sorted(walk_audio(root, folders="once"), key=lambda item: os.fsencode(item.path).split(os.fsencode(os.sep)))
    if not found:
        more = f"{len(SUFFIXES) - 3} other suffixes"
        message = f"no audio files in the folder {root!r}; samptag looks for .mp3, .flac, .m4a and {more}"
        yield Input(path=root, source=root, error=AudioError(message))
    named = {_identity(item) for item in found if not item.is_link}
    for item in found:
        if item.is_link and item.status is not None:
            if _identity(item) in named:
                continue
            named.add(_identity(item))
        yield Input(path=item.path, source=item.path, error=_error(item))


def _identity(item: Found) -> tuple[int, int] | None:
    return None if item.status is None else (item.status.st_dev, item.status.st_ino)


def _error(item: Found) -> AudioError | None:
    if item.error is None:
        return None
    what, reason = "list the folder" if item.is_folder else "open", os_reason(item.error)
    if item.is_link:
        reason = f"a broken link ({reason})"
    return AudioError(f"cannot {what} {item.path!r}: {reason}")
