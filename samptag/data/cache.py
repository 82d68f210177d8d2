"""The audio of a data set, decoded once: a file of int16 samples at the model's rate for each clip.

A file's name says what it holds: a fingerprint of the clip's file, and the number of samples. Its folder is named for
the sample rate, the cap on a clip's length and the revision of the decoder. docs/data.md says what that is good for.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samptag.audio.decode import open_audio, to_int16
from samptag.core.device import available_cores
from samptag.data.dataset import Clip, Dataset, split_hash
from samptag.data.measure import in_threads, measure_files, require_space, total_seconds
from samptag.errors import AudioError, DatasetError
from samptag.files import atomic_write, cache_folder, locked, os_errors_as, os_reason
from samptag.text import Progress

logger = logging.getLogger(__name__)

# Increased when decoding or resampling gives other samples, so that older caches are made again.
DECODER_REVISION = 1

_REPORT_SCHEMA = "samptag.cache-report/1"
_SAMPLES, _NOTE = ".i16", ".json"
_PROBE_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioCache:
    """The decoded audio of the clips of a data set, in the order of `Dataset.clips`."""

    # Of little-endian int16, full scale `samptag.audio.decode.SCALE`; None: the clip is left out, the report says why.
    files: tuple[Path | None, ...]
    starts: NDArray[np.int64]  # (n_clips,), where each begins when all are laid end to end
    lengths: NDArray[np.int64]  # (n_clips,), the number of samples of each; 0 if it is left out
    sample_rate: int  # Hz
    split_hash: str  # of the clips that are not left out, with their parts; equal to the data set's when none is
    left_out: int  # number of clips of length 0
    folder: Path  # where the files are
    # JSON: every clip left out, every clip shorter than a segment, and every clip that decoded with a warning.
    report_path: Path

    def clip(self, index: int) -> NDArray[np.int16]:
        """The samples of the clip at `index`, shape (length,); raises what `read` raises."""
        samples = np.empty(self.lengths[index], dtype=np.int16)
        self.read(int(self.starts[index]), samples)
        return samples

    def read(self, start: int, out: NDArray[np.int16]) -> None:
        """Fill `out` with samples of one clip, from `start` on, which is counted as in `starts`.

        Raises a DatasetError if the clip's file is gone or shorter than it was.
        """
        if not len(out):
            return
        index = int(np.searchsorted(self.starts, start, side="right")) - 1
        file = self.files[index]
        assert file is not None, "a clip that is left out has no samples"
        advice = "the cache was changed while in use; start again to decode what is missing"
        failed = os_errors_as(DatasetError, f"{file}: cannot be read", advice=advice)
        with failed, file.open("rb", buffering=0) as opened:
            opened.seek(2 * (start - int(self.starts[index])))
            if opened.readinto(out.data.cast("B")) != out.nbytes:
                raise DatasetError(f"{file}: is shorter than it was; {advice}")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What the cache holds for a clip: its samples, or why there are none."""

    path: Path | None = None
    length: int = 0
    problem: str | None = None
    warnings: tuple[str, ...] = ()


def build_cache(
    dataset: Dataset,
    *,
    sample_rate: int,
    directory: Path | None = None,
    jobs: int | None = None,
    seconds_per_clip: float | None = None,
    segment_length: int = 0,
    progress: Progress | None = None,
) -> AudioCache:
    """The decoded audio of all clips of `dataset`, at `sample_rate` Hz; clips that the cache lacks are decoded first.

    If several processes ask for the same clips, one decodes them, in `jobs` threads (None: one per core), and the
    others wait. Only the first `seconds_per_clip` of each clip are kept. The report lists clips shorter than a segment
    of `segment_length` samples (0: not known yet). `progress` counts clips.
    """
    directory = cache_folder("audio") if directory is None else directory
    cap = None if seconds_per_clip is None else round(seconds_per_clip * sample_rate)
    folder = directory / f"{sample_rate}Hz-{'whole' if cap is None else cap}-r{DECODER_REVISION}"
    paths = [clip.path for clip in dataset.clips]
    measured = directory / "measured"
    marks = measure_files(paths, _fingerprint, name="fingerprint-2", root=dataset.root, directory=measured)
    sources = {mark: path for mark, path in zip(marks, paths, strict=True) if mark is not None}
    stored = _look_up(folder, sources, level=logging.DEBUG)
    if stored.keys() < sources.keys():
        advice = "decoded clips are kept: run it again when there is room, or choose another place for the cache"
        with (
            os_errors_as(DatasetError, f"{folder}: cannot write the audio cache", advice=advice),
            locked(folder / ".lock", waiting_for=f"another process that is decoding into {folder}"),
        ):
            for leftover in folder.glob(".*.tmp"):  # from a process that was killed: nobody else writes here
                leftover.unlink()
            stored = _look_up(folder, sources, level=logging.WARNING)
            missing = {mark: path for mark, path in sources.items() if mark not in stored}
            needed = int(2 * sample_rate * total_seconds(list(missing.values()), longest=seconds_per_clip))
            what = f"decoding {len(missing)} clips to {sample_rate} Hz"
            require_space(folder, needed, what=what, advice="choose another place for the cache")
            decoded = in_threads(
                lambda mark: _decode(folder, mark, missing[mark], sample_rate=sample_rate, cap=cap),
                list(missing),
                jobs=jobs or available_cores(),
                what="decoding audio",
                done=len(stored),
                progress=progress,
            )
            stored |= dict(zip(missing, decoded, strict=True))
    entries = [_Stored(problem="cannot be read") if mark is None else stored[mark] for mark in marks]
    return _view(dataset, entries, folder=folder, sample_rate=sample_rate, segment_length=segment_length)


def _fingerprint(path: Path) -> str:
    """A hash of the file's size and of 16 KiB at its start, middle and end: it changes when the recording does."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in sorted({0, max(0, size // 2 - _PROBE_BYTES // 2), max(0, size - _PROBE_BYTES)}):
            file.seek(place)
            digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()[:32]


def _look_up(folder: Path, wanted: Iterable[str], *, level: int) -> dict[str, _Stored]:
    """What `folder` holds for the clips with the fingerprints `wanted`; damaged files are logged at `level`."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return {}
    lengths = dict(name.removesuffix(_SAMPLES).rpartition("-")[::2] for name in names if name.endswith(_SAMPLES))
    notes = {name.removesuffix(_NOTE) for name in names if name.endswith(_NOTE)}
    found: dict[str, _Stored] = {}
    for mark in wanted:
        try:
            note = json.loads((folder / (mark + _NOTE)).read_bytes()) if mark in notes else {}
            if mark in lengths:
                path, length = folder / f"{mark}-{lengths[mark]}{_SAMPLES}", int(lengths[mark])
                if (size := path.stat().st_size) != 2 * length:
                    raise ValueError(f"{size} bytes instead of {2 * length}")
                found[mark] = _Stored(path=path, length=length, warnings=tuple(note.get("warnings", ())))
            elif "problem" in note and (note["av"] or find_spec("av") is None):
                found[mark] = _Stored(problem=note["problem"])
        except (OSError, ValueError, KeyError, AttributeError) as error:
            logger.log(level, "%s: clip %s is damaged and decoded again: %s", folder, mark, error)
    return found


def _decode(folder: Path, mark: str, source: Path, *, sample_rate: int, cap: int | None) -> _Stored:
    """Decode one clip into the cache, which first gets a note of what was wrong with it, then its samples."""
    building = folder / f".{mark}{_SAMPLES}"
    length = 0
    try:
        with open_audio(source, sample_rate=sample_rate) as stream, atomic_write(building) as file:
            for block in stream:
                samples = to_int16(block if cap is None else block[: cap - length])
                file.write(samples.data)
                length += len(samples)
                if length == cap:
                    break
        warnings = tuple(stream.warnings)
    except AudioError as error:
        problem = str(error).removeprefix(f"{source}: ")
        _write_json(folder / (mark + _NOTE), {"problem": problem, "av": find_spec("av") is not None})
        return _Stored(problem=problem)
    if warnings:
        _write_json(folder / (mark + _NOTE), {"warnings": warnings})
    return _Stored(path=building.replace(folder / f"{mark}-{length}{_SAMPLES}"), length=length, warnings=warnings)


def _write_json(path: Path, value: object) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogateescape"))


def _view(
    dataset: Dataset, entries: Sequence[_Stored], *, folder: Path, sample_rate: int, segment_length: int
) -> AudioCache:
    """The cache of `dataset`, whose report is written as well."""
    left_out, padded, warnings = [], [], []
    for clip, entry in zip(dataset.clips, entries, strict=True):
        seconds = entry.length / sample_rate
        if not entry.length:
            left_out.append(_remark(clip, seconds, "unreadable", entry.problem or "holds no sound"))
            continue
        if entry.length < segment_length:
            message = f"{seconds:.3f} s, padded with zeros to a segment of {segment_length / sample_rate:.3f} s"
            padded.append(_remark(clip, seconds, "short", message))
        warnings += [{"path": clip.key, "message": warning} for warning in entry.warnings]
    kept = [clip for clip, entry in zip(dataset.clips, entries, strict=True) if entry.length]
    if not kept:
        first = f"{left_out[0]['path']}: {left_out[0]['message']}"
        raise DatasetError(f"{dataset.root}: none of the {len(dataset.clips)} clips can be decoded: {first}")
    lengths = np.array([entry.length for entry in entries], np.int64)
    # Training runs that share a cache may use segments of different lengths.
    name = f"report-{dataset.split_name}-{dataset.split_hash}" + (f"-{segment_length}" if segment_length else "")
    cache = AudioCache(
        files=tuple(entry.path if entry.length else None for entry in entries),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        sample_rate=sample_rate,
        split_hash=split_hash((clip.key, clip.part) for clip in kept),
        left_out=len(left_out),
        folder=folder,
        report_path=folder / f"{name}.json",
    )
    report = {
        "schema": _REPORT_SCHEMA,
        "data": str(dataset.root),
        "split": {"name": dataset.split_name, "hash": cache.split_hash},
        "sample_rate": sample_rate,
        "clips": len(kept),
        "hours": round(float(lengths.sum()) / sample_rate / 3600, 4),
        "left_out": left_out,
        "padded": padded,
        "warnings": warnings,
        "problems": [vars(problem) for problem in dataset.problems],
    }
    try:
        _write_json(cache.report_path, report)
    except OSError as error:
        # A finished cache may be where this user cannot write.
        logger.warning("%s: the report cannot be written: %s", cache.report_path, os_reason(error))
        for done, remarks in (("left out", left_out), ("padded", padded)):
            for remark in remarks:
                logger.warning("%s: %s: %s", remark["path"], done, remark["message"])
    return cache


def _remark(clip: Clip, seconds: float, reason: str, message: str) -> dict[str, Any]:
    return {"path": clip.key, "split": clip.part, "seconds": round(seconds, 3), "reason": reason, "message": message}
