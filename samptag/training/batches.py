"""Which segments an epoch sees, in which order, and how they come from the cache to the device."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.audio.decode import SCALE
from samptag.data import AudioCache
from samptag.training.recipe import Recipe

__all__ = [
    "MappedSource",
    "Prefetcher",
    "ResidentSource",
    "Segments",
    "batch_bounds",
    "consecutive_segments",
    "epoch_segments",
]

# The authors cut MagnaTagATune's clips to 640 512 samples at 22 050 Hz and took int(640000 / first_stride) // m**n
# segments of each (paper's script). Previews of up to 31 s count as such clips; longer ones are taken whole.
PAPER_RATE = 22_050
PAPER_CLIP_SAMPLES = 640_512
PAPER_COUNTED_SAMPLES = 640_000
PAPER_LONGEST_SAMPLES = 31 * PAPER_RATE


@dataclass(frozen=True)
class Segments:
    """A list of segments of a cache.

    Attributes
    ----------
    clips : ndarray of int64, (n,)
        Row of the clip in the list of clips that was asked about.
    starts : ndarray of int64, (n,)
        First sample, counted as in `AudioCache.starts`.
    lengths : ndarray of int64, (n,)
        Samples there are; zeros follow up to the segment's length.
    """

    clips: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, rows: NDArray[np.int64] | slice) -> "Segments":
        """The segments at `rows`, in that order."""
        return Segments(self.clips[rows], self.starts[rows], self.lengths[rows])


def segment_counts(
    lengths: NDArray[np.int64], *, input_length: int, first_stride: int, sample_rate: int
) -> NDArray[np.int64]:
    """How many whole segments follow one another in clips of `lengths` samples; 1 for a clip shorter than one.

    Clips of 29 to 31 s at 22 050 Hz are counted as the paper does.
    """
    counts = lengths // input_length
    if sample_rate == PAPER_RATE:
        preview = (lengths >= PAPER_CLIP_SAMPLES) & (lengths <= PAPER_LONGEST_SAMPLES)
        counts = np.where(preview, PAPER_COUNTED_SAMPLES // first_stride // (input_length // first_stride), counts)
    return np.maximum(counts, 1)


def consecutive_segments(
    cache: AudioCache,
    clips: NDArray[np.int64],
    *,
    input_length: int,
    first_stride: int,
    per_clip: int | None = None,
) -> Segments:
    """The consecutive segments of `clips`, clip after clip, the same ones every time.

    Parameters
    ----------
    cache : AudioCache
    clips : ndarray of int64, (n,)
        Places in the cache, each of a clip with at least one sample.
    input_length, first_stride : int
        Of the model, in samples.
    per_clip : int or None
        At most so many of each clip, evenly spaced.
    """
    counts = segment_counts(
        cache.lengths[clips], input_length=input_length, first_stride=first_stride, sample_rate=cache.sample_rate
    )
    kept = counts if per_clip is None else np.minimum(counts, per_clip)
    rows = np.repeat(np.arange(len(clips)), kept)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    numbers = place if per_clip is None else (place * counts[rows]) // kept[rows]
    starts = cache.starts[clips][rows] + numbers * input_length
    lengths = np.minimum(input_length, cache.lengths[clips][rows] - numbers * input_length)
    return Segments(rows, starts, lengths)


def _random_segments(
    every: Segments, *, cache: AudioCache, clips: NDArray[np.int64], input_length: int, rng: np.random.Generator
) -> Segments:
    """As many crops of each clip as `every` has: one at a random place in each of equal parts of the clip."""
    counts = np.bincount(every.clips, minlength=len(clips))
    place = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
    room = np.maximum(cache.lengths[clips][every.clips] - input_length, 0)
    offsets = np.floor((place + rng.random(len(every))) / counts[every.clips] * (room + 1)).astype(np.int64)
    return Segments(every.clips, cache.starts[clips][every.clips] + np.minimum(offsets, room), every.lengths)


def epoch_segments(
    cache: AudioCache,
    clips: NDArray[np.int64],
    *,
    input_length: int,
    first_stride: int,
    recipe: Recipe,
    seed: int,
    epoch: int,
) -> Segments:
    """The segments of one training epoch in their shuffled order, which depends on seed and epoch alone."""
    rng = np.random.default_rng([seed, epoch])
    segments = consecutive_segments(
        cache, clips, input_length=input_length, first_stride=first_stride, per_clip=recipe.segments_per_clip
    )
    if recipe.segments == "random":
        segments = _random_segments(segments, cache=cache, clips=clips, input_length=input_length, rng=rng)
    return segments.take(rng.permutation(len(segments)))


def batch_bounds(n_segments: int, *, batch_size: int) -> list[tuple[int, int]]:
    """First and last row of every batch; a rest of less than half a batch joins the batch before it.

    A batch of one or two segments has no batch statistics worth the name, and could not be shared among processes.
    """
    n = max(1, (n_segments + batch_size // 2) // batch_size) if batch_size > 1 else n_segments
    bounds = [batch_size * i for i in range(n)] + [n_segments]
    return list(pairwise(bounds))


class MappedSource:
    """Waveforms read from the cache's files.

    Parameters
    ----------
    cache : AudioCache
    input_length : int
        In samples.
    device : torch.device
    """

    resident = False

    def __init__(self, cache: AudioCache, *, input_length: int, device: torch.device) -> None:
        self._cache, self._length, self._device = cache, input_length, device

    def __call__(self, segments: Segments) -> Tensor:
        """Float32 in [-1, 1), shape (n, input_length), on the device."""
        block = np.zeros((len(segments), self._length), dtype=np.int16)
        for row, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
            self._cache.read(int(start), block[row, :length])
        tensor = torch.from_numpy(block)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device, torch.float32).div_(SCALE)


class ResidentSource:
    """Waveforms gathered from a copy of the cache in the device's own memory.

    Parameters
    ----------
    cache : AudioCache
    clips : ndarray of int64
        Only these clips are copied.
    input_length : int
        In samples.
    device : torch.device
    """

    resident = True

    def __init__(self, cache: AudioCache, clips: NDArray[np.int64], *, input_length: int, device: torch.device) -> None:
        lengths = cache.lengths[clips]
        ends = np.cumsum(lengths)
        # starts in the cache, ascending, and what has to be added to get to the copy
        order = np.argsort(cache.starts[clips], kind="stable")
        self._cache_starts = cache.starts[clips][order]
        self._shifts = (ends - lengths - cache.starts[clips])[order]
        self._samples = torch.empty(int(ends[-1]) + input_length, dtype=torch.int16, device=device)
        self._samples[int(ends[-1]) :] = 0
        for clip, end in zip(clips, ends, strict=True):
            self._samples[end - cache.lengths[clip] : end] = torch.from_numpy(cache.clip(int(clip)))
        self._steps = torch.arange(input_length, device=device)

    def __call__(self, segments: Segments) -> Tensor:
        """Float32 in [-1, 1), shape (n, input_length), on the device."""
        owner = np.searchsorted(self._cache_starts, segments.starts, side="right") - 1
        starts = torch.from_numpy(segments.starts + self._shifts[owner]).to(self._steps.device)
        waveforms = self._samples[starts[:, None] + self._steps].to(torch.float32).div_(SCALE)
        short = np.flatnonzero(segments.lengths < len(self._steps))
        for row in short:
            waveforms[row, int(segments.lengths[row]) :] = 0
        return waveforms


class Prefetcher:
    """Batches made ahead by a thread; how long the caller had to wait for them is counted.

    Parameters
    ----------
    load : callable
        Makes the waveforms of some segments.
    batches : sequence of Segments
    ahead : int
        How many batches may lie ready.

    Attributes
    ----------
    waited_seconds : float
    """

    def __init__(self, load: Callable[[Segments], Tensor], batches: Sequence[Segments], *, ahead: int = 3) -> None:
        self._load, self._batches = load, batches
        self._queue: queue.Queue[tuple[Segments, Tensor] | BaseException | None] = queue.Queue(ahead)
        self._stop = threading.Event()
        self.waited_seconds = 0.0

    def __iter__(self) -> Iterator[tuple[Segments, Tensor]]:
        """Every batch with its waveforms, in order; the thread ends when the iteration does, in whatever way."""
        thread = threading.Thread(target=self._work, name="samptag-batches", daemon=True)
        thread.start()
        try:
            while True:
                started = time.perf_counter()
                item = self._queue.get()
                self.waited_seconds += time.perf_counter() - started
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stop.set()
            while thread.is_alive():
                try:
                    self._queue.get(timeout=0.05)
                except queue.Empty:
                    continue
            thread.join()

    def _work(self) -> None:
        try:
            for batch in self._batches:
                if self._stop.is_set():
                    return
                self._queue.put((batch, self._load(batch)))
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)
