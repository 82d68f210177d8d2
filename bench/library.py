"""Libraries to tag, made from real music: excerpts at drawn places and gains, joined into tracks of drawn lengths."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile as sf

from samptag.audio.resample import resample
from samptag.core.device import available_cores
from samptag.tagging.files import expand_inputs

RATE = 44_100
EXCERPT_SECONDS = 20.0
CLIPS_A_TRACK = 20
DISTINCT_TRACKS = 10


def sources(music: Path) -> list[np.ndarray]:
    """Stereo float32 (samples, 2) at 44 100 Hz of every readable file under `music`, ten minutes of each at most.

    Raises
    ------
    SystemExit
        Nothing under `music` can be read.
    """
    found = []
    for item in expand_inputs([music]):
        try:
            with sf.SoundFile(item.path) as file:
                block = file.read(600 * file.samplerate, dtype="float32", always_2d=True)
                rate = file.samplerate
        except sf.LibsndfileError:
            continue
        if len(block) < rate or not np.isfinite(block).all():
            continue
        left, right = resample(block[:, 0].copy(), rate, RATE), resample(block[:, -1].copy(), rate, RATE)
        if block.shape[1] == 1:
            right = np.roll(right, 23)  # half a millisecond apart, so that the encoder has two channels to code
        found.append(np.stack([left, right], axis=1))
    if not found:
        raise SystemExit(f"{music}: no readable music; name a folder of your own with --music")
    return found


def excerpts(pool: list[np.ndarray], *, seconds: float, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Stereo pieces of the pool, `seconds` altogether."""
    left = round(seconds * RATE)
    while left > 0:
        track = pool[generator.integers(len(pool))]
        length = min(left, len(track), round(EXCERPT_SECONDS * RATE))
        start = generator.integers(len(track) - length + 1)
        yield track[start : start + length] * np.float32(generator.uniform(0.5, 1.0))
        left -= length


def write_track(path: Path, pool: list[np.ndarray], *, seconds: float, generator: np.random.Generator) -> None:
    """Write one track of `seconds`, its format by the suffix of `path`."""
    _write(path, excerpts(pool, seconds=seconds, generator=generator))


def _write(path: Path, pieces: Iterable[np.ndarray]) -> None:
    with sf.SoundFile(path, "w", samplerate=RATE, channels=2) as file:
        for piece in pieces:
            file.write(piece)


def make_library(
    folder: Path, pool: list[np.ndarray], *, suffix: str, hours: float, track_seconds: float
) -> list[float]:
    """Fill `folder` with tracks of half to one and a half `track_seconds`; the seconds of each."""
    folder.mkdir(parents=True, exist_ok=True)
    generators = np.random.default_rng(20_170_705)
    durations: list[float] = []
    while sum(durations) < hours * 3600:
        seconds = generators.uniform(0.5, 1.5) * track_seconds
        durations.append(min(seconds, max(3.0, hours * 3600 - sum(durations))))

    def write(index: int, generator: np.random.Generator) -> None:
        write_track(folder / f"track-{index:05d}{suffix}", pool, seconds=durations[index], generator=generator)

    with ThreadPoolExecutor(available_cores()) as workers:  # encoding MP3 is by far the slowest part of a benchmark
        list(workers.map(write, range(len(durations)), generators.spawn(len(durations))))
    return durations


def make_twice(folder: Path, pool: list[np.ndarray], *, clips: int, clip_seconds: float) -> int:
    """The same sound as MP3s twice: clips of `clip_seconds` in the folder clips, and 20 of them a track in tracks.

    Only the first 200 clips and 10 tracks are encoded, because that takes longer than tagging; the others are further
    names of these files. Nothing is kept from one file to the next by what tags them, so each costs what its own would.

    Returns
    -------
    int
        Number of clips: `clips`, rounded up to fill the last track.
    """
    for name in ("clips", "tracks"):
        (folder / name).mkdir(parents=True)
    n_tracks = -(-clips // CLIPS_A_TRACK)
    distinct = min(n_tracks, DISTINCT_TRACKS)

    def clip_path(track: int, number: int) -> Path:
        return folder / "clips" / f"clip-{track:05d}-{number:02d}.mp3"

    def track_path(track: int) -> Path:
        return folder / "tracks" / f"track-{track:05d}.mp3"

    def write(track: int, generator: np.random.Generator) -> None:
        drawn = [
            np.concatenate(list(excerpts(pool, seconds=clip_seconds, generator=generator)))
            for _ in range(CLIPS_A_TRACK)
        ]
        for number, clip in enumerate(drawn):
            _write(clip_path(track, number), [clip])
        _write(track_path(track), drawn)

    with ThreadPoolExecutor(available_cores()) as workers:
        list(workers.map(write, range(distinct), np.random.default_rng(20_170_705).spawn(distinct)))
    for track in range(distinct, n_tracks):
        track_path(track).hardlink_to(track_path(track % distinct))
        for number in range(CLIPS_A_TRACK):
            clip_path(track, number).hardlink_to(clip_path(track % distinct, number))
    return n_tracks * CLIPS_A_TRACK
