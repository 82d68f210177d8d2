"""Decoding clips into one file of int16 samples, in an order of their own, so that a killed run goes on where it was.

While it is built, the cache is a folder ``NAME.building`` with the samples so far and a journal, one JSON line a clip.
A journal line is written after the clip's samples are on the disk, so whatever the journal lists is there. The folder
gets its name, by which it counts as complete, in one rename after the last clip.
"""

import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from samptag.audio.decode import open_audio
from samptag.data.durations import estimate_total_seconds
from samptag.errors import AudioError, DatasetError
from samptag.files import atomic_write, os_reason, require_space

__all__ = ["BUILDING", "INDEX", "SAMPLES", "SCALE", "Entry", "build", "to_int16"]

SAMPLES = "samples.i16"
INDEX = "index.json"
JOURNAL = "journal.jsonl"
BUILDING = ".building"

#: int16 value of full scale: a 16-bit file at the model's rate comes through unchanged.
SCALE = 32_768

# A decoded clip is held in memory up to this size (6 minutes at 22 050 Hz), a longer one in a temporary file.
_SPOOL_BYTES = 16 * 1024 * 1024
# Samples are forced to the disk, and then journalled, every so many bytes: what a power cut may cost.
_SYNC_BYTES = 64 * 1024 * 1024
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One clip of a cache: its fingerprint, its samples' number and checksum, and what was wrong with it.

    `length` is 0 and `problem` says why when it could not be decoded.
    """

    fingerprint: str
    length: int
    crc32: int = 0
    problem: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Decoded:
    entry: Entry
    samples: IO[bytes]


def to_int16(block: NDArray[np.float32]) -> NDArray[np.int16]:
    """The nearest int16 of every sample times `SCALE`; what lies outside saturates."""
    rounded: NDArray[np.float32] = np.rint(block * np.float32(SCALE))
    return np.clip(rounded, -SCALE, SCALE - 1).astype(np.dtype("<i2"))


def build(
    sources: Sequence[tuple[str, Path]],
    *,
    target: Path,
    header: dict[str, Any],
    sample_rate: int,
    samples_per_clip: int | None,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Nothing; `target` holds the decoded clips of `sources`, (fingerprint, path), in their order, and an index.

    The caller holds a lock. What an earlier, interrupted call decoded is kept.

    Raises
    ------
    DatasetError
        There is too little space, or the disk fails; what was decoded is kept for the next call.
    """
    folder = target.with_name(target.name + BUILDING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _Journal(folder, [fingerprint for fingerprint, _ in sources]) as journal:
            rest = sources[len(journal.entries) :]
            seconds = estimate_total_seconds(
                [path for _, path in rest], cap=samples_per_clip / sample_rate if samples_per_clip else None
            )
            require_space(
                folder,
                int(seconds * sample_rate * 2),
                what=f"decoding {len(rest)} clips to {sample_rate} Hz",
                advice="give the cache another place",
            )
            for decoded in _decode_in_order(
                rest, folder=folder, sample_rate=sample_rate, samples_per_clip=samples_per_clip, jobs=jobs
            ):
                with decoded.samples:
                    journal.append(decoded)
                if progress:
                    progress(len(journal.entries), len(sources))
        _publish(folder, target=target, header=header, entries=journal.entries)
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot write the audio cache: {os_reason(error)}; what is decoded is kept, so run it "
            "again when there is room, or give the cache another place"
        ) from None


def _publish(folder: Path, *, target: Path, header: dict[str, Any], entries: list[Entry]) -> None:
    index = {**header, "entries": [asdict(entry) for entry in entries]}
    with atomic_write(folder / INDEX) as file:
        file.write(json.dumps(index).encode())
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)
    # Last: until the folder has its name, a run that is killed here goes on from the journal.
    (target / JOURNAL).unlink()


class _Journal:
    """The samples so far, and which clips they are."""

    def __init__(self, folder: Path, plan: list[str]) -> None:
        self.entries = _trusted_entries(folder, plan)
        self._unsaved: list[Entry] = []
        self._unsaved_bytes = 0
        size = 2 * sum(entry.length for entry in self.entries)
        samples = folder / SAMPLES
        samples.touch()
        os.truncate(samples, size)
        self._samples = samples.open("ab", buffering=0)
        with atomic_write(folder / JOURNAL) as file:
            file.write("".join(_line(entry) for entry in self.entries).encode())
        self._lines = (folder / JOURNAL).open("a", encoding="utf-8")

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            # After a failed write too: the clips before it are whole. What follows them the next run cuts off.
            self.sync()
        except OSError:
            if error[0] is None:
                raise
        finally:
            self._samples.close()
            self._lines.close()

    def append(self, decoded: _Decoded) -> None:
        """Add one clip; it counts once it is synced."""
        decoded.samples.seek(0)
        while block := decoded.samples.read(_COPY_BYTES):
            _write_all(self._samples, block)
        self.entries.append(decoded.entry)
        self._unsaved.append(decoded.entry)
        self._unsaved_bytes += 2 * decoded.entry.length
        if self._unsaved_bytes >= _SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """Put everything appended on the disk, samples first."""
        os.fsync(self._samples.fileno())
        self._lines.write("".join(map(_line, self._unsaved)))
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._unsaved.clear()
        self._unsaved_bytes = 0


def _write_all(file: Any, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _trusted_entries(folder: Path, plan: list[str]) -> list[Entry]:
    """The clips an earlier run finished: the journal's lines as far as they follow `plan` and have their samples."""
    try:
        lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
        available = (folder / SAMPLES).stat().st_size
    except (OSError, UnicodeDecodeError):
        return []
    entries: list[Entry] = []
    for expected, line in zip(plan, lines, strict=False):
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            break
        available -= 2 * entry.length
        if entry.fingerprint != expected or available < 0:
            break
        entries.append(entry)
    return entries


def _decode_in_order(
    sources: Sequence[tuple[str, Path]], *, folder: Path, sample_rate: int, samples_per_clip: int | None, jobs: int
) -> Iterator[_Decoded]:
    def decode(source: tuple[str, Path]) -> _Decoded:
        return _decode(source, folder=folder, sample_rate=sample_rate, samples_per_clip=samples_per_clip)

    waiting: deque[Future[_Decoded]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="samptag-cache")
    try:
        for source in sources:
            waiting.append(pool.submit(decode, source))
            # Enough that no thread waits for a slow clip in front, few enough that memory stays small.
            if len(waiting) >= 2 * jobs + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(source: tuple[str, Path], *, folder: Path, sample_rate: int, samples_per_clip: int | None) -> _Decoded:
    fingerprint, path = source
    spool: IO[bytes] = SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(folder))  # noqa: SIM115 - the writer closes it
    length = crc = 0
    try:
        with open_audio(path, sample_rate=sample_rate) as stream:
            for block in stream:
                if samples_per_clip is not None:
                    block = block[: samples_per_clip - length]
                data = to_int16(block).tobytes()
                spool.write(data)
                crc = zlib.crc32(data, crc)
                length += len(block)
                if length == samples_per_clip:
                    break
            warnings = tuple(stream.warnings)
    except AudioError as error:
        spool.close()
        return _Decoded(
            Entry(fingerprint=fingerprint, length=0, problem=str(error).removeprefix(f"{path}: ")),
            SpooledTemporaryFile(),
        )
    return _Decoded(Entry(fingerprint=fingerprint, length=length, crc32=crc, warnings=warnings), spool)
