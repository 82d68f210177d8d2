"""The audio files below a folder."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from samptag.audio.decode import SUFFIXES

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Found:
    """One thing that a walk found."""

    path: str  # the folder that was walked, and the way below it
    is_link: bool = False  # the last name of the path is a link
    status: os.stat_result | None = None  # of the file; None where there is an error
    error: OSError | None = None  # why the file cannot be examined or the folder listed
    is_folder: bool = False  # it is a folder that cannot be listed


def walk_audio(root: str, *, folders: Literal["once", "by every name"], recursive: bool = True) -> Iterator[Found]:
    """Every file below `root` whose suffix is one of `SUFFIXES`, in no particular order; hidden names are skipped.

    Links are followed, but never in a circle. A folder that links lead to is walked by every name that it has, or once:
    by its own name if it lies below `root`, otherwise by the first link in byte order.
    """
    walked: set[_Identity] = set()
    pending: list[tuple[str, frozenset[_Identity]]] = [(root, frozenset())]
    links: list[tuple[str, frozenset[_Identity]]] = []
    while pending or links:
        if not pending:
            # Real folders first, and a linked folder before the links in it: the same names win in every run.
            links.sort(key=lambda link: os.fsencode(link[0]))
            pending.append(links.pop(0))
        folder, above = pending.pop()
        try:
            status = os.stat(folder)
            identity = status.st_dev, status.st_ino
            if identity in (walked if folders == "once" else above):
                continue
            walked.add(identity)
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError as error:
            yield Found(folder, error=error, is_folder=True)
            continue
        for entry in entries:
            is_audio = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            is_link = entry.is_symlink()
            try:
                status = os.stat(entry.path)
            except OSError as error:
                if is_audio:
                    yield Found(entry.path, is_link, error=error)
                continue
            if stat.S_ISDIR(status.st_mode):
                if recursive:
                    (links if is_link else pending).append((entry.path, above | {identity}))
            elif is_audio and stat.S_ISREG(status.st_mode):
                yield Found(entry.path, is_link, status)
