"""Random reads of training segments: one memory-mapped file for all clips against one file a clip.

    python -m bench.cache --folder /big/disk --clips 25863 --seconds 4.2

Writes both arrangements of noise, reads the same random segments out of each in interleaved rounds, from the disk (the
kernel is asked to drop the pages first) and then from memory, and removes what it wrote. MagnaTagATune has 25 863 clips
of 29.1 s, 33 GB at 22 050 Hz: shorter clips make as many files and as many places to read from on a smaller disk.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bench import machine

RATE = 22_050
SEGMENT = 59_049
ROUNDS = 5

Read = Callable[[int, int, NDArray[np.int16]], None]


def write(folder: Path, *, clips: int, length: int) -> tuple[Path, list[Path]]:
    """The one file and the files of single clips, both of `clips` times `length` samples."""
    rng = np.random.default_rng(0)
    one, many = folder / "samples.i16", folder / "clips"
    many.mkdir()
    paths = [many / f"{rng.bytes(16).hex()}-{length}.i16" for _ in range(clips)]
    noise = rng.integers(-(1 << 15), 1 << 15, length, dtype=np.int16)
    with one.open("wb") as file:
        for number, path in enumerate(paths):
            samples = np.roll(noise, number).tobytes()
            file.write(samples)
            path.write_bytes(samples)
    os.sync()
    return one, paths


def mapped(path: Path, length: int) -> Read:
    """Copy out of a memory map."""
    samples = np.memmap(path, dtype=np.int16, mode="r")

    def read(clip: int, start: int, out: NDArray[np.int16]) -> None:
        out[:] = samples[clip * length + start : clip * length + start + len(out)]

    return read


def opened(paths: list[Path]) -> Read:
    """Open the clip's file, read, close."""

    def read(clip: int, start: int, out: NDArray[np.int16]) -> None:
        with paths[clip].open("rb", buffering=0) as file:
            file.seek(2 * start)
            file.readinto(out.data.cast("B"))

    return read


def drop(paths: list[Path]) -> None:
    """Ask the kernel to forget the pages of `paths`."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def segments_a_second(read: Read, places: NDArray[np.int64]) -> float:
    """Segments of one thread that reads `places`, (n, 2): clip and first sample."""
    out = np.empty(SEGMENT, dtype=np.int16)
    started = time.perf_counter()
    for clip, start in places.tolist():
        read(clip, start, out)
    return len(places) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary one")
    parser.add_argument("--clips", type=int, default=25_863)
    parser.add_argument("--seconds", type=float, default=4.2, help="of one clip")
    parser.add_argument("--reads", type=int, default=5_000, help="segments in a round")
    options = parser.parse_args()
    length = round(options.seconds * RATE)
    print(machine.header())
    folder = Path(tempfile.mkdtemp(prefix="samptag-cache-", dir=options.folder))
    try:
        one, many = write(folder, clips=options.clips, length=length)
        rng = np.random.default_rng(1)
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            places = np.stack(
                [rng.integers(options.clips, size=options.reads), rng.integers(length - SEGMENT, size=options.reads)], 1
            )
            for name, files, read in (("one file", [one], mapped(one, length)), ("a file a clip", many, opened(many))):
                drop(files)
                rates.setdefault(f"{name}, from the disk", []).append(segments_a_second(read, places))
                rates.setdefault(f"{name}, from memory", []).append(segments_a_second(read, places))
        print(f"{options.clips} clips of {options.seconds:g} s, {one.stat().st_size / 1e9:.1f} GB each way")
        for name, figures in sorted(rates.items()):
            print(f"{name}: {median(figures):.0f} segments/s ({min(figures):.0f} to {max(figures):.0f})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
