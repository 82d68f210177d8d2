"""Facts about files, measured in threads and remembered until a file changes; lengths by headers; free disk space."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import soundfile

from samptag.errors import DatasetError
from samptag.files import atomic_write, os_reason
from samptag.text import Progress, bytes_text

S = TypeVar("S")
T = TypeVar("T")

logger = logging.getLogger(__name__)

# Items handed to the threads at a time: data sets have hundreds of thousands.
_BATCH = 512
_JOBS = 4
# Clips whose headers are read to estimate the whole.
_SAMPLED = 256
# Bytes of sound per second if no header says: 128 kbit/s, a usual rate of the formats libsndfile does not read.
_GUESSED_BYTES_PER_SECOND = 16_000


def in_threads(
    function: Callable[[S], T],
    items: Sequence[S],
    *,
    jobs: int,
    what: str,
    done: int = 0,
    progress: Progress | None = None,
) -> Iterator[T]:
    """`function` of every item, in their order, computed in `jobs` threads; after a failure no other is begun.

    `progress` is told of `what`, and counts on from `done`, the items that were finished before.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        for start in range(0, len(items), _BATCH):
            values = pool.map(function, items[start : start + _BATCH])
            for number, value in enumerate(values, start=done + start + 1):
                if progress:
                    progress(what, number, done + len(items))
                yield value
    finally:
        pool.shutdown(cancel_futures=True)


def measure_files(
    paths: Sequence[Path],
    measure: Callable[[Path], T],
    *,
    name: str,
    root: Path,
    directory: Path,
    progress: Progress | None = None,
) -> list[T | None]:
    """`measure(path)`, a value that JSON can hold, for every path; None if it raises OSError.

    Values are remembered by absolute path, size and modification time, if `directory` can be written to: in one file
    for each `root` (a data set's folder) and `name` (what is measured, with a revision).
    """
    tag = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    memory = directory / f"{name}-{tag}.json"
    try:
        stored = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = None
    known: dict[str, tuple[int, int, Any]] = stored if isinstance(stored, dict) else {}
    fresh: dict[str, tuple[int, int, T]] = {}

    def get(path: Path) -> T | None:
        try:
            status = path.stat()
            size, time, value = known.get(str(path.absolute()), (-1, -1, None))
            if (size, time) != (status.st_size, status.st_mtime_ns):
                value = measure(path)
                fresh[str(path.absolute())] = status.st_size, status.st_mtime_ns, value
            return cast("T", value)
        except OSError:
            return None

    values = list(in_threads(get, paths, jobs=_JOBS, what="measuring clips", progress=progress))
    if fresh:
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(memory) as file:
                file.write(json.dumps(known | fresh).encode())
        except OSError as error:
            logger.info("%s: not remembered: %s", memory, os_reason(error))
    return values


def header_seconds(path: Path) -> float | None:
    """Seconds by the file's header, None if libsndfile cannot tell; an estimate for an MP3 without a length tag."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, OSError):
        return None
    return float(info.frames / info.samplerate) if info.samplerate else None


def total_seconds(paths: Sequence[Path], *, longest: float | None = None) -> float:
    """An estimate of how many seconds `paths` last together, each counted up to `longest`, by the headers of some."""
    sampled = paths[:: max(1, len(paths) // _SAMPLED)]
    seconds = 0.0
    for path in sampled:
        known = header_seconds(path)
        if known is None:
            known = path.stat().st_size / _GUESSED_BYTES_PER_SECOND if path.exists() else 0.0
        seconds += known if longest is None else min(known, longest)
    return seconds * len(paths) / max(1, len(sampled))


def require_space(folder: Path, needed: int, *, what: str, advice: str) -> None:
    """Raise a DatasetError, with `advice`, if the disk of `folder` has less than the `needed` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        room = f"{what} needs about {bytes_text(needed)}, but only {bytes_text(free)} is free"
        raise DatasetError(f"{folder}: {room}; {advice}")
