"""The words that a person gives to songs, from folders, playlists, a table, or the files' own fields."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from samptag.errors import SamptagError, UsageError
from samptag.files import os_reason
from samptag.library.fields import TagFile, need_mutagen
from samptag.library.playlists import PLAYLIST_SUFFIXES, Entry, read_m3u

OWN_FIELDS = ("genre", "mood", "grouping")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Labels:
    """Words and the songs labelled with them."""

    songs: Mapping[str, set[str]]  # by word, the paths of its songs that are in the index
    not_in_index: tuple[str, ...]  # entries that name no song of the index, as written
    category: str | None  # of the words, if the source says it


def read_labels(source: str, paths: Sequence[str]) -> Labels:
    """The labels that `source` gives to songs of the index, whose `paths` are absolute.

    The source is "genre", "mood" or "grouping" for the files' own fields; an M3U playlist, whose name is the word; a
    folder of such playlists; a folder whose folders are named by the words; or a table, CSV or TSV, with the columns
    path and tag, in which a song may have several rows.
    """
    place, suffix = Path(source), Path(source).suffix.lower()
    category = None
    if source in OWN_FIELDS and not os.path.exists(source):
        labels, category = _of_fields(source, paths), None if source == "grouping" else source
    elif place.is_dir():
        playlists = sorted(path for path in place.iterdir() if path.suffix.lower() in PLAYLIST_SUFFIXES)
        labels = _of_playlists(playlists) if playlists else _of_folders(place, paths)
    elif place.is_file() and suffix in PLAYLIST_SUFFIXES:
        labels = _of_playlists([place])
    elif place.is_file() and suffix in _DELIMITERS:
        labels = _of_table(place, _DELIMITERS[suffix])
    else:
        raise UsageError(
            f"cannot take labels from {source!r}: name a folder, a playlist (.m3u8), a table (.csv, .tsv), "
            f"or one of the files' own fields ({', '.join(OWN_FIELDS)})"
        )
    # By the paths in the index, and by those paths with links in their folders resolved.
    real = cache(os.path.realpath)
    known = {os.path.join(real(os.path.dirname(path)), os.path.basename(path)): path for path in paths}
    known |= {path: path for path in paths}
    songs: dict[str, set[str]] = {}
    not_in_index = []
    for word, entry in labels:
        found = entry.path and (known.get(entry.path) or known.get(os.path.realpath(entry.path)))
        if not found:
            not_in_index.append(entry.text)
        elif word := " ".join(word.split()):
            songs.setdefault(word, set()).add(found)
    return Labels(songs, tuple(not_in_index), category)


def _of_fields(name: str, paths: Iterable[str]) -> Iterator[tuple[str, Entry]]:
    need_mutagen()
    for path in paths:
        with suppress(SamptagError, OSError):
            yield from [(value, Entry(path, path)) for value in TagFile(path).get(name)]


def _of_playlists(playlists: Iterable[Path]) -> Iterator[tuple[str, Entry]]:
    for playlist in playlists:
        for entry in read_m3u(playlist):
            yield playlist.stem, entry


def _of_folders(folder: Path, paths: Iterable[str]) -> Iterator[tuple[str, Entry]]:
    top = os.path.abspath(folder) + os.sep
    inside = [path for path in paths if path.startswith(top) and os.sep in path.removeprefix(top)]
    if not inside:
        raise UsageError(f"no song of the index is in a folder inside {folder}: 'samptag index {folder}' hears them")
    for path in inside:
        yield path.removeprefix(top).split(os.sep)[0], Entry(path, path)


def _of_table(table: Path, delimiter: str) -> Iterator[tuple[str, Entry]]:
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            if not {"path", "tag"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{table}: its first line must name the columns path and tag")
            for row in rows:
                text = row["path"] or ""
                yield row["tag"] or "", Entry(text, os.path.abspath(table.parent / text))
    except (OSError, csv.Error) as error:
        raise UsageError(f"cannot read the labels {table}: {os_reason(error)}") from None
