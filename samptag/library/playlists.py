"""Playlists: written as players read them, and read as people have them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samptag.errors import OutputError, UsageError
from samptag.files import os_errors_as
from samptag.library.songs import Song

PLAYLIST_SUFFIXES = (".m3u8", ".m3u")
_MOST_RULES = 500  # in a group: SQLite, which Navidrome asks, takes no more than a thousand alternatives in a row
_OTHER_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def m3u8_bytes(songs: Iterable[Song], *, folder: str) -> bytes:
    """An extended M3U of the songs, in UTF-8, with paths relative to the absolute folder that it will be in.

    A song on another drive keeps its whole path, and names that are not UTF-8 keep their bytes. A name with a line
    break, which the format cannot hold, is an OutputError.
    """
    lines = ["#EXTM3U"]
    for song in songs:
        path = _relative(song.path, folder)
        if "\n" in path or "\r" in path:
            raise OutputError(f"{song.path!r} contains a line break, which a playlist cannot hold: rename it")
        label = " ".join(song.label.split())
        lines += [f"#EXTINF:{round(song.duration)},{label}", f"./{path}" if path.startswith(("#", " ")) else path]
    return os.fsencode("\n".join(lines) + "\n")


def nsp_bytes(songs: Iterable[Song], *, folders: Sequence[str], name: str, comment: str) -> bytes:
    """A smart playlist for Navidrome of these songs, by their paths below the indexed `folders` (absolute).

    Navidrome cannot compare scores, so the playlist lists the songs. Its rule ``filepath`` is relative to its music
    folder, which the indexed folder is taken to be. Navidrome sorts by title, whatever the order here. A name that is
    not Unicode, which JSON cannot hold, is an OutputError.
    """
    rules: list[dict[str, Any]] = []
    for song in songs:
        folder = max((f for f in folders if song.path.startswith(f.rstrip(os.sep) + os.sep)), key=len, default=None)
        path = _relative(song.path, folder) if folder else song.path
        try:
            path.encode()
        except UnicodeEncodeError:
            raise OutputError(f"{song.path!r} is not Unicode, so a Navidrome playlist cannot hold it") from None
        rules.append({"is": {"filepath": path.replace(os.sep, "/")}})
    if len(rules) > _MOST_RULES:
        rules = [{"any": rules[start : start + _MOST_RULES]} for start in range(0, len(rules), _MOST_RULES)]
    nothing = {"is": {"filepath": ""}}  # a playlist without any rule is refused
    content = {"name": name, "comment": comment, "any": rules or [nothing]}
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path


@dataclass(frozen=True)
class Entry:
    """A song as a playlist or a table names it."""

    text: str  # as written there
    path: str | None  # the file it means, absolute; None for a URL, or a path of another system


def read_m3u(path: Path) -> list[Entry]:
    r"""The entries of an M3U playlist, relative ones resolved from its folder; a UsageError if it cannot be read.

    It is in UTF-8 or, as old ``.m3u`` files are, in the encoding of the file system or Windows-1252. A path with
    backslashes is also tried with slashes; ``C:\`` and ``\\server`` mean nothing on systems other than Windows.
    """
    with os_errors_as(UsageError, f"cannot read the playlist {path}"):
        data = path.read_bytes()
    lines = map(str.strip, re.split("[\r\n]+", os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))))
    return [Entry(line, _file_of(line, path)) for line in lines if line and not line.startswith("#")]


def _file_of(line: str, playlist: Path) -> str | None:
    if line.startswith("file://"):
        return _file_of_address(line)
    if _ADDRESS.match(line) or (os.name != "nt" and _OTHER_DRIVE.match(line)):
        return None
    spellings = [line, line.replace("\\", "/")]
    if not line.isprintable():  # bytes that are not UTF-8
        spellings += [os.fsencode(spelling).decode("cp1252", "replace") for spelling in spellings]
    found = [os.path.abspath(playlist.parent / spelling) for spelling in spellings]
    return next(filter(os.path.lexists, found), found[0])


def _file_of_address(address: str) -> str | None:
    from urllib.parse import unquote_to_bytes, urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(address)
    if os.name == "nt":
        return url2pathname((f"//{parts.netloc}" if parts.netloc else "") + parts.path)
    if parts.netloc not in ("", "localhost"):
        return None
    return os.path.abspath(os.fsdecode(unquote_to_bytes(os.fsencode(parts.path))))
