"""The report: one HTML page that contains everything it shows and needs no network."""

import base64
import datetime
import hashlib
import mimetypes
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from samptag.core.card import ModelCard
from samptag.errors import AudioError
from samptag.files import os_errors_as
from samptag.report.timeline import Outline, column_means, segment_edges
from samptag.tagging.alike import nearest
from samptag.tagging.result import TrackResult
from samptag.text import valid_text

# All heat maps and waveforms together: a browser opens a page of this size from disk in about a second.
PICTURE_BYTES = 24_000_000
MIN_COLUMNS, MAX_COLUMNS, MAX_POINTS = 16, 2_000, 1_600
POINTS_A_COLUMN = 4
# With more columns per segment, neighbouring ones would be alike.
COLUMNS_A_SEGMENT = 4
# The most songs for which the page shows all words over time; of more songs it shows the best words of each.
FEW_SONGS = 100

BEST_WORDS = 12
# How many songs a song's page names as sounding like it.
N_NEIGHBOURS = 8

# Among fewer songs, the nearest need not sound alike.
LEAST_FOR_NEIGHBOURS = 2 * N_NEIGHBOURS


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A song, on the page or elsewhere, that sounds like one on the page."""

    name: str  # as shown
    words: str  # that describe it, as shown
    path: str  # its file


class Report:
    """Collects results and writes them as a page.

    It keeps a few kilobytes per song, however long the song is. `card` has the weights' name, and their words with what
    is known about each. `n_songs` is the number of songs to come: the more, the coarser the pictures of each, so that
    the page stays small enough for a browser to open at once.

    Examples
    --------
    >>> tagger = Tagger.from_pretrained()
    >>> report = Report(tagger.card, n_songs=1)
    >>> for result in tagger.tag_many(["song.mp3"], transform=report.listen):
    ...     report.add(result)
    >>> with open("report.html", "wb") as out:
    ...     report.write(out, folder=Path(), title="song.mp3")
    """

    def __init__(self, card: ModelCard, *, n_songs: int) -> None:
        self._card = card
        self._tags = card.tags
        self._n_words = len(self._tags) if n_songs <= FEW_SONGS else min(BEST_WORDS, len(self._tags))
        room = PICTURE_BYTES // (max(n_songs, 1) * (self._n_words + 2 * POINTS_A_COLUMN))
        self._columns = max(MIN_COLUMNS, min(MAX_COLUMNS, room))
        self._points = min(MAX_POINTS, POINTS_A_COLUMN * self._columns)
        self._outlines: dict[str, NDArray[np.uint8]] = {}
        self._songs: list[dict[str, Any]] = []
        self._paths: list[str] = []
        self._scores: list[NDArray[np.float32]] = []
        self._pictures: list[bytes] = []
        self._embeddings: list[NDArray[np.float32] | None] = []
        self._alike: list[Sequence[Neighbour]] = []

    def listen(self, path: str, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass an input's blocks on unchanged and keep the outline of its waveform: the `transform` of `tag_many`.

        Inputs are identified by their paths, so each may be in a report only once.
        """
        outline = Outline(self._points)
        for block in blocks:
            outline.push(block)
            yield block
        self._outlines[path] = outline.finish()

    def add(self, result: TrackResult, *, alike: Sequence[Neighbour] = ()) -> None:
        """Add one result, with a taggram or an error, and the songs that sound `alike`, nearest first.

        If there are none, the nearest songs on the page are shown.
        """
        self._paths.append(result.path)
        self._alike.append(alike)
        self._songs.append(
            {
                "name": valid_text(os.path.basename(result.path)),
                "seconds": round(result.duration, 3),
                "rate": result.sample_rate,
                "segments": result.segments,
                "padded": result.padded,
                "warnings": [valid_text(warning) for warning in result.warnings],
                "error": result.error and valid_text(result.error.message),
            }
        )
        self._scores.append(np.array([item.score for item in result.scores] or [0.0] * len(self._tags), np.float32))
        self._embeddings.append(result.embedding)
        outline = self._outlines.pop(result.path, None)
        self._pictures.append(b"" if outline is None else self._picture(result, outline, self._scores[-1]))

    def write(self, out: BinaryIO, *, folder: Path, title: str, embed_below: int = 0) -> None:
        """Write the page to a binary file; its heading is `title`.

        Links to audio files are relative to `folder`, where the page will be. Audio files smaller than `embed_below`
        bytes become part of the page; if one of these can no longer be read, it is an AudioError.
        """
        embedded = [
            song["error"] is None and _size(path) < embed_below
            for song, path in zip(self._songs, self._paths, strict=True)
        ]
        library = {
            "title": title,
            "model": self._card.name,
            "made": datetime.date.today().isoformat(),
            "tags": self._tags,
            "categories": self._card.tag_categories,
            "cutoffs": self._card.cutoffs and [self._card.cutoffs.get(tag) for tag in self._tags],
            "evidence": self._evidence(),
            "songs": {
                **{name: [song[name] for song in self._songs] for name in self._songs[0]},
                "folder": _folders(self._paths),
                "audio": [
                    mimetypes.guess_type(path)[0] or "application/octet-stream" if inside else _address(path, folder)
                    for path, inside in zip(self._paths, embedded, strict=True)
                ],
                "embedded": embedded,
                "neighbours": self._neighbours(),
                "alike": self._elsewhere(folder, linked=not embed_below),
            },
        }
        own = files("samptag.report")
        style, script = ((own / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        page = Environment(loader=PackageLoader("samptag.report", "."), autoescape=True).get_template("page.html")
        scores = np.round(np.stack(self._scores) * 65_535).astype("<u2")
        pieces = page.generate(
            title=title,
            style=style,
            script=script,
            style_hash=_content_hash(style),
            script_hash=_content_hash(script),
            library=library,
            scores=_base64(scores.tobytes()),
            pictures=map(_base64, self._pictures),
            sounds=(
                (number, _base64(_content(path)))
                for number, (path, inside) in enumerate(zip(self._paths, embedded, strict=True))
                if inside
            ),
        )
        for piece in pieces:
            out.write(piece.encode("utf-8"))

    def _picture(self, result: TrackResult, outline: NDArray[np.uint8], scores: NDArray[np.float32]) -> bytes:
        """Heat map and outline of one song, as `pictureOf` in page.js reads them."""
        if result.taggram is None or result.starts is None:
            return b""
        edges = segment_edges(result.starts, duration=result.duration, segment_seconds=self._card.segment_seconds)
        columns = min(self._columns, max(MIN_COLUMNS, COLUMNS_A_SEGMENT * result.segments))
        words = np.argsort(-scores, kind="stable")[: self._n_words]
        means = column_means(result.taggram[:, words], edges, columns=columns)
        head = np.array([len(words), columns, outline.shape[1], *words], dtype="<u2")
        return head.tobytes() + np.round(means * 255).astype(np.uint8).tobytes() + outline.tobytes()

    def _evidence(self) -> list[str] | None:
        """What is known about each word, as text; None if the weights store nothing about them."""
        card = self._card
        if not (card.evidence or card.cutoffs):
            return None
        texts = []
        for tag in self._tags:
            known, cutoff = (card.evidence or {}).get(tag), (card.cutoffs or {}).get(tag)
            text = "unverified" if known is None else known.text + (f" ({known.source})" if known.source else "")
            if cutoff is not None:
                right = (card.cutoff_evidence or {}).get(tag)
                text += f"; decided from {cutoff:.2f}" + (f", {right.text}" if right else "")
            texts.append(text)
        return texts

    def _elsewhere(self, folder: Path, *, linked: bool) -> list[list[dict[str, Any]]]:
        """The neighbours given to `add`, with their number if they are on the page, else with a URL if `linked`."""
        places = {os.path.realpath(path): number for number, path in enumerate(self._paths)}
        return [
            [
                {
                    "name": valid_text(other.name),
                    "words": other.words,
                    "song": places.get(os.path.realpath(other.path)),
                    "address": _address(other.path, folder) if linked else None,
                }
                for other in alike
            ]
            for alike in self._alike
        ]

    def _neighbours(self) -> list[list[int]]:
        known = [number for number, embedding in enumerate(self._embeddings) if embedding is not None]
        found: list[list[int]] = [[] for _ in self._embeddings]
        if len(known) >= LEAST_FOR_NEIGHBOURS:
            rows = nearest(np.stack([e for e in self._embeddings if e is not None]), count=N_NEIGHBOURS)
            for number, row in zip(known, rows, strict=True):
                found[number] = [known[other] for other in row]
        return found


def _folders(paths: list[str]) -> list[str]:
    """The folder of each path, relative to the one that holds them all, which is private on a page sent elsewhere."""
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # several drives
        return [valid_text(folder) for folder in folders]
    return [valid_text("" if folder == root else os.path.relpath(folder, root)) for folder in folders]


def _address(path: str, folder: Path) -> str:
    """The URL of a file, relative to the page's folder unless they are on different drives."""
    try:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # another drive
        return Path(os.path.abspath(path)).as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _size(path: str) -> float:
    """The size in bytes; infinite for a file that has disappeared since it was tagged."""
    try:
        return os.path.getsize(path)
    except OSError:
        return float("inf")


def _content(path: str) -> bytes:
    with os_errors_as(AudioError, f"cannot embed {path}"):
        return Path(path).read_bytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _content_hash(text: str) -> str:
    """The name of an inline script or style sheet in the Content-Security-Policy, which allows no other."""
    return f"sha256-{_base64(hashlib.sha256(text.encode('utf-8')).digest())}"
