"""The audio of a data set, decoded once: int16 samples at the model's rate in one memory-mapped file.

A cache is known by what it holds, not by where the clips lie: the fingerprints of the clips' files, the sample rate,
the cap on a clip's length and the revision of the decoder. Data sets and splits with the same clips share one, and a
cache that holds more clips than are asked for serves as well.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samptag.core.cores import available_cores
from samptag.data.cache_build import BUILDING, INDEX, SAMPLES, SCALE, Entry, build
from samptag.data.cache_report import Remarks, write_report
from samptag.data.dataset import Dataset, split_hash
from samptag.data.memo import FileMemo
from samptag.errors import DatasetError
from samptag.files import cache_folder, locked, os_errors_as

__all__ = ["SCALE", "AudioCache", "build_cache"]

_log = logging.getLogger("samptag")

SCHEMA = "samptag.cache/1"
#: Raised when decoding or resampling give other samples, so that caches of before are made anew.
DECODER_REVISION = 1

_PROBE_BYTES = 16 * 1024
_VERIFIED_CLIPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioCache:
    """The decoded audio of a data set's clips.

    Attributes
    ----------
    samples : memmap, shape (total,), int16
        Full scale is `SCALE`.
    starts, lengths : ndarray, shape (n_clips,), int64
        Where the clip of `Dataset.clips` at the same place begins in `samples` and how many it has; length 0: left
        out, the report says why.
    sample_rate : int
        Hz.
    split_hash : str
        Hash of the clips that are not left out, with their splits; equal to the data set's when none is.
    left_out : int
        Number of clips of length 0.
    folder : Path
        The cache itself.
    report_path : Path
        JSON: every clip left out, every clip shorter than a segment, and every clip that decoded with a warning.
    """

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sample_rate: int
    split_hash: str
    left_out: int
    folder: Path
    report_path: Path

    def clip(self, index: int) -> NDArray[np.int16]:
        """The samples of the clip at `index`, a view, shape (length,)."""
        start = self.starts[index]
        return self.samples[start : start + self.lengths[index]]


def build_cache(
    dataset: Dataset,
    *,
    sample_rate: int,
    directory: Path | None = None,
    jobs: int | None = None,
    seconds_per_clip: float | None = None,
    shortest_seconds: float = 0.0,
    segment_length: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AudioCache:
    """The decoded audio of all clips of `dataset`: an existing cache that fits, or a new one.

    Several processes may ask for the same cache: one decodes, the others wait. A run that was killed goes on where it
    was.

    Parameters
    ----------
    dataset : Dataset
    sample_rate : int
        Hz.
    directory : Path, optional
        Where caches lie; by default ``files.cache_folder("audio")``.
    jobs : int, optional
        Decoding threads; by default one a processor.
    seconds_per_clip : float, optional
        Longest stretch kept from a clip's start; the paper cut MagnaTagATune's to 640 512 samples at 22 050 Hz.
    shortest_seconds : float
        Clips shorter than this are left out.
    segment_length : int
        Samples of the segments that the caller takes: the report lists the clips that zeros have to fill up to one. 0:
        not known yet.
    progress : callable, optional
        Called with (clips done, clips in all).

    Raises
    ------
    DatasetError
        No clip can be decoded, there is too little space, or the place cannot be written.
    """
    directory = cache_folder("audio") if directory is None else directory
    cap = None if seconds_per_clip is None else round(seconds_per_clip * sample_rate)
    memo = FileMemo(directory / "memo", name="fingerprint-1", root=dataset.root, measure=_fingerprint)
    fingerprints = memo.get_all([clip.path for clip in dataset.clips])
    stem = f"{sample_rate}Hz-{'whole' if cap is None else cap}-r{DECODER_REVISION}-"
    wanted = sorted({mark for mark in fingerprints if mark is not None})
    target = directory / (stem + hashlib.sha256("".join(wanted).encode()).hexdigest()[:16])
    stored = _find(target, stem, wanted, tell=_log.debug)
    if stored is None:
        sources = {mark: clip.path for mark, clip in zip(fingerprints, dataset.clips, strict=True) if mark is not None}
        with _lock(target):
            stored = _find(target, stem, wanted, tell=_log.warning)
            if stored is None:
                build(
                    [(mark, sources[mark]) for mark in wanted],
                    target=target,
                    header={"schema": SCHEMA, "sample_rate": sample_rate, "samples_per_clip": cap},
                    sample_rate=sample_rate,
                    samples_per_clip=cap,
                    jobs=jobs or available_cores(),
                    progress=progress,
                )
                stored = _Stored.open(target)
    return _view(
        dataset,
        fingerprints,
        stored,
        sample_rate=sample_rate,
        shortest_seconds=shortest_seconds,
        segment_length=segment_length,
    )


def _fingerprint(path: Path) -> str:
    """A hash of the file's size and of 16 KiB at its start, middle and end: what changes when a recording does."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in sorted({0, max(0, size // 2 - _PROBE_BYTES // 2), max(0, size - _PROBE_BYTES)}):
            file.seek(place)
            digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class _Stored:
    """A complete cache on disk."""

    folder: Path
    samples: NDArray[np.int16]
    entries: dict[str, tuple[int, Entry]]

    @classmethod
    def open(cls, folder: Path) -> "_Stored":
        """The cache in `folder`, its size and the checksums of some of its clips compared.

        Raises
        ------
        ValueError, OSError
            It is not whole.
        """
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {index.get('schema')!r}")
        if not folder.name.startswith(f"{index['sample_rate']}Hz-"):
            raise ValueError(f"its samples are at {index['sample_rate']} Hz")
        start = 0
        entries: dict[str, tuple[int, Entry]] = {}
        for fields in index["entries"]:
            entry = Entry(**fields)
            entries[entry.fingerprint] = (start, entry)
            start += entry.length
        size = (folder / SAMPLES).stat().st_size
        if size != 2 * start:
            raise ValueError(f"{SAMPLES} has {size} bytes instead of {2 * start}")
        samples = np.memmap(folder / SAMPLES, dtype="<i2", mode="r") if start else np.zeros(0, dtype=np.int16)
        held = [place for place in entries.values() if place[1].length]
        for begin, entry in held[:: max(1, len(held) // _VERIFIED_CLIPS)]:
            if zlib.crc32(samples[begin : begin + entry.length].tobytes()) != entry.crc32:
                raise ValueError(f"the samples of clip {entry.fingerprint} are not those that were written")
        return cls(folder, samples, entries)


def _find(target: Path, stem: str, wanted: Sequence[str], *, tell: Callable[..., None]) -> _Stored | None:
    """A complete cache of this rate and cap that holds every wanted clip; damaged ones are told and passed over."""
    indexes = target.parent.glob(f"{stem}*/{INDEX}")
    for index in sorted(indexes, key=lambda path: (path.parent != target, path)):
        if index.parent.suffix == BUILDING:
            continue
        try:
            stored = _Stored.open(index.parent)
        except (OSError, ValueError, TypeError, KeyError) as error:
            tell("%s: not a whole cache of that rate, decoding it again: %s", index.parent, error)
            continue
        if stored.entries.keys() >= set(wanted):
            return stored
    return None


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Of the processes that want `target`, one at a time; one that ends in any way lets go."""
    with ExitStack() as stack:
        with os_errors_as(
            DatasetError, f"{target.parent}: cannot hold the audio cache", advice="give it another place"
        ):
            lock = target.with_name(f".{target.name}.lock")
            stack.enter_context(locked(lock, waiting_for="another process that is decoding the same clips"))
        yield


def _view(
    dataset: Dataset,
    fingerprints: Sequence[str | None],
    stored: _Stored,
    *,
    sample_rate: int,
    shortest_seconds: float,
    segment_length: int,
) -> AudioCache:
    entries = [
        stored.entries[mark] if mark else (0, Entry(fingerprint="", length=0, problem="cannot be read"))
        for mark in fingerprints
    ]
    remarks = Remarks(sample_rate=sample_rate, shortest_seconds=shortest_seconds, segment_length=segment_length)
    used = np.array([remarks.take(clip, entry) for clip, (_, entry) in zip(dataset.clips, entries, strict=True)])
    lengths = used * np.array([entry.length for _, entry in entries], dtype=np.int64)
    kept = [clip for clip, is_used in zip(dataset.clips, used, strict=True) if is_used]
    # Trainings that share a cache may take segments of other lengths.
    name = f"report-{dataset.split_name}-{dataset.split_hash}" + (f"-{segment_length}" if segment_length else "")
    cache = AudioCache(
        samples=stored.samples,
        starts=used * np.array([start for start, _ in entries], dtype=np.int64),
        lengths=lengths,
        sample_rate=sample_rate,
        split_hash=split_hash((clip.key, clip.split) for clip in kept),
        left_out=len(remarks.left_out),
        folder=stored.folder,
        report_path=stored.folder / f"{name}.json",
    )
    summary = {
        "split": {"name": dataset.split_name, "hash": cache.split_hash},
        "sample_rate": sample_rate,
        "clips": len(kept),
        "hours": round(float(lengths.sum()) / sample_rate / 3600, 4),
    }
    write_report(cache.report_path, dataset, summary=summary, remarks=remarks)
    if not kept:
        first = f": {remarks.left_out[0]['path']}: {remarks.left_out[0]['message']}" if remarks.left_out else ""
        raise DatasetError(f"{dataset.root}: none of the {len(dataset.clips)} clips can be decoded{first}")
    return cache
