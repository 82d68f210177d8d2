"""The words that a person gives to songs, from folders, playlists, a table, or the files' own fields."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from samptag.errors import SamptagError, UsageError
from samptag.library.fields import TagFile, need_mutagen
from samptag.library.playlists import PLAYLIST_SUFFIXES, read_m3u

OWN_FIELDS = ("genre", "mood", "grouping")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass
class Labels:
    """Words and the songs labelled with them."""

    songs: dict[str, set[str]] = field(default_factory=dict)  # by word, the paths of its songs that are in the index
    not_in_index: list[str] = field(default_factory=list)  # entries that name no song of the index, as written
    category: str | None = None  # of the words, if the source says it

    def add(self, word: str, path: str | None, entry: str, known: Mapping[str, str]) -> None:
        """Label the song at `path` with `word`; `known` maps paths to the paths by which the index knows the files."""
        word = " ".join(word.split())
        found = None if path is None else known.get(path) or known.get(os.path.realpath(path))
        if found is None:
            self.not_in_index.append(entry)
        elif word:
            self.songs.setdefault(word, set()).add(found)


def read_labels(source: str, paths: Sequence[str]) -> Labels:
    """The labels that `source` gives to songs of the index, whose `paths` are absolute.

    The source is "genre", "mood" or "grouping" for the files' own fields; an M3U playlist, whose name is the word; a
    folder of such playlists; a folder whose folders are named by the words; or a table, CSV or TSV, with the columns
    path and tag, in which a song may have several rows.
    """
    if source in OWN_FIELDS and not os.path.exists(source):
        return _of_fields(source, paths)
    place, suffix = Path(source), Path(source).suffix.lower()
    # By the paths in the index, and by those paths with links in their folders resolved.
    real = cache(os.path.realpath)
    known = {os.path.join(real(os.path.dirname(path)), os.path.basename(path)): path for path in paths}
    known |= {path: path for path in paths}
    if place.is_dir():
        playlists = sorted(path for path in place.iterdir() if path.suffix.lower() in PLAYLIST_SUFFIXES)
        return _of_playlists(playlists, known) if playlists else _of_folders(place, paths)
    if place.is_file() and suffix in PLAYLIST_SUFFIXES:
        return _of_playlists([place], known)
    if place.is_file() and suffix in _DELIMITERS:
        return _of_table(place, _DELIMITERS[suffix], known)
    raise UsageError(
        f"cannot take labels from {source!r}: name a folder, a playlist (.m3u8), a table (.csv, .tsv), "
        f"or one of the files' own fields ({', '.join(OWN_FIELDS)})"
    )


def _of_fields(name: str, paths: Iterable[str]) -> Labels:
    need_mutagen()
    labels = Labels(category=None if name == "grouping" else name)
    for path in paths:
        try:
            values = TagFile(path).get(name)
        except (SamptagError, OSError):
            continue
        for value in values:
            labels.add(value, path, path, {path: path})
    return labels


def _of_playlists(playlists: Iterable[Path], known: Mapping[str, str]) -> Labels:
    labels = Labels()
    for playlist in playlists:
        for entry in read_m3u(playlist):
            labels.add(playlist.stem, entry.path, entry.text, known)
    return labels


def _of_folders(folder: Path, paths: Iterable[str]) -> Labels:
    labels = Labels()
    top = os.path.abspath(folder)
    for path in paths:
        parts = path.removeprefix(top + os.sep).split(os.sep) if path.startswith(top + os.sep) else []
        if len(parts) > 1:
            labels.add(parts[0], path, path, {path: path})
    if not labels.songs:
        raise UsageError(f"no song of the index is in a folder inside {folder}: 'samptag index {folder}' hears them")
    return labels


def _of_table(table: Path, delimiter: str, known: Mapping[str, str]) -> Labels:
    labels = Labels()
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            if not {"path", "tag"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{table}: its first line must name the columns path and tag")
            for row in rows:
                text = row["path"] or ""
                labels.add(row["tag"] or "", os.path.abspath(table.parent / text), text, known)
    except (OSError, csv.Error) as error:
        raise UsageError(f"cannot read the labels {table}: {error}") from None
    return labels
