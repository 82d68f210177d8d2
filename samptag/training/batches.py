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
from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN
from samptag.core.protocols import paper_counts
from samptag.data import AudioCache
from samptag.engine.predictor import Predictor
from samptag.training.distributed import Processes
from samptag.training.recipe import Recipe

# "shifted" segments are moved by at most this share of their length.
LARGEST_SHIFT = 1 / 16
# A subset loses up to a batch less one segment an epoch: 1 % of so many batches. The authors' subsets have 179.
LEAST_BATCHES_OF_A_SUBSET = 100
AHEAD = 3


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
        Samples there are; zeros follow up to `width`.
    width : int
        Samples of each, as they are handed on.
    """

    clips: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    width: int

    def __len__(self) -> int:
        return len(self.clips)

    def then(self, others: "Segments") -> "Segments":
        """These and `others`, which are as wide and whose `clips` are rows of another list."""
        pairs = ((self.clips, others.clips), (self.starts, others.starts), (self.lengths, others.lengths))
        clips, starts, lengths = (np.concatenate(pair) for pair in pairs)
        return Segments(clips, starts, lengths, self.width)

    def take(self, rows: NDArray[np.int64] | slice) -> "Segments":
        """The segments at `rows`, in that order."""
        return Segments(self.clips[rows], self.starts[rows], self.lengths[rows], self.width)


def consecutive_segments(
    cache: AudioCache, clips: NDArray[np.int64], *, model: ModelConfig, per_clip: int | None = None
) -> Segments:
    """The segments of `clips` end to end, clip after clip, the same ones every time.

    Parameters
    ----------
    clips : ndarray of int64, (n,)
        Places in the cache, each of a clip with at least one sample.
    model : ModelConfig
        The cache has its sample rate.
    per_clip : int or None
        At most so many of each clip, evenly spaced.
    """
    counts = paper_counts(cache.lengths[clips], length=model.input_length, sample_rate=model.sample_rate)
    kept = counts if per_clip is None else np.minimum(counts, per_clip)
    rows = np.repeat(np.arange(len(clips)), kept)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    numbers = place if per_clip is None else (place * counts[rows]) // kept[rows]
    starts = cache.starts[clips][rows] + numbers * model.input_length
    lengths = np.minimum(model.input_length, cache.lengths[clips][rows] - numbers * model.input_length)
    return Segments(rows, starts, lengths, model.input_length)


def _random_starts(
    every: Segments, cache: AudioCache, clips: NDArray[np.int64], *, width: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Where as many crops of each clip as `every` has start: at a random place in each of equal parts of the clip."""
    counts = np.bincount(every.clips, minlength=len(clips))
    place = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
    room = np.maximum(cache.lengths[clips][every.clips] - width, 0)
    offsets = np.floor((place + rng.random(len(every))) / counts[every.clips] * (room + 1)).astype(np.int64)
    starts: NDArray[np.int64] = cache.starts[clips][every.clips] + np.minimum(offsets, room)
    return starts


def _shifted_starts(
    every: Segments, cache: AudioCache, clips: NDArray[np.int64], *, width: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The starts of `every`, each moved by at most `LARGEST_SHIFT` of its length inside its clip."""
    first = cache.starts[clips][every.clips]
    room = np.maximum(cache.lengths[clips][every.clips] - width, 0)
    shifts = np.rint(rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, len(every)) * every.width).astype(np.int64)
    starts: NDArray[np.int64] = first + np.clip(every.starts - first + shifts, 0, room)
    return starts


def _examples(clips: NDArray[np.int64], *, each: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the segments of every example, (examples, each): all of one clip, none twice as far as they go."""
    if each == 1:
        return np.arange(len(clips))[:, None]
    order = rng.permutation(len(clips))
    order = order[np.argsort(clips[order], kind="stable")]
    counts = np.bincount(clips)
    filled = -(-counts // each) * each
    place = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
    first = np.repeat(np.cumsum(counts) - counts, filled)
    rows: NDArray[np.int64] = order[first + place % np.repeat(counts, filled)].reshape(-1, each)
    return rows


def epoch_segments(
    cache: AudioCache, clips: NDArray[np.int64], *, model: ModelConfig, recipe: Recipe, seed: int, epoch: int
) -> Segments:
    """The segments of one training epoch in their order, which depends on seed and epoch alone.

    Those of an example follow one another.
    """
    rng = np.random.default_rng([seed, epoch])
    segments = consecutive_segments(cache, clips, model=model, per_clip=recipe.segments_per_clip)
    width = recipe.augmentation.reach(model.input_length)
    starts = segments.starts
    if recipe.segments == "random":
        starts = _random_starts(segments, cache, clips, width=width, rng=rng)
    elif recipe.segments == "shifted":
        starts = _shifted_starts(segments, cache, clips, width=width, rng=rng)
    left = (cache.starts + cache.lengths)[clips][segments.clips] - starts
    segments = Segments(segments.clips, starts, np.minimum(left, width), width)
    examples = _examples(segments.clips, each=recipe.segments_per_example, rng=rng)
    size = recipe.batch_size // recipe.segments_per_example
    subsets = max(1, min(recipe.subsets, len(examples) // (LEAST_BATCHES_OF_A_SUBSET * size)))
    owners = segments.clips[examples[:, 0]]
    orders = [rng.permutation(np.flatnonzero(owners % subsets == subset)) for subset in range(subsets)]
    if recipe.full_batches and len(examples) >= size:
        orders = [order[: len(order) - len(order) % size] for order in orders]
    return segments.take(examples[np.concatenate(orders)].ravel())


def batch_bounds(n_examples: int, *, batch_size: int) -> list[tuple[int, int]]:
    """First and last example of every batch; a rest of less than half a batch joins the batch before it.

    A batch of one or two segments has no batch statistics worth the name, and could not be shared among processes.
    """
    n = max(1, (n_examples + batch_size // 2) // batch_size) if batch_size > 1 else n_examples
    bounds = [batch_size * i for i in range(n)] + [n_examples]
    return list(pairwise(bounds))


class MappedSource:
    """Waveforms of segments, read from the cache's files."""

    def __init__(self, cache: AudioCache, *, device: torch.device) -> None:
        self._cache, self._device = cache, device

    def __call__(self, segments: Segments) -> Tensor:
        """Float32 in [-1, 1), shape (n, width), on the device."""
        block = np.zeros((len(segments), segments.width), dtype=np.int16)
        for row, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
            self._cache.read(int(start), block[row, :length])
        tensor = torch.from_numpy(block)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device, torch.float32).div_(SCALE)


class ResidentSource:
    """Waveforms of segments at most `width` wide, gathered from a copy of some `clips` in the device's own memory."""

    def __init__(self, cache: AudioCache, clips: NDArray[np.int64], *, width: int, device: torch.device) -> None:
        lengths = cache.lengths[clips]
        ends = np.cumsum(lengths)
        # starts in the cache, ascending, and what has to be added to get to the copy
        order = np.argsort(cache.starts[clips], kind="stable")
        self._cache_starts = cache.starts[clips][order]
        self._shifts = (ends - lengths - cache.starts[clips])[order]
        self._samples = torch.empty(int(ends[-1]) + width, dtype=torch.int16, device=device)
        self._samples[int(ends[-1]) :] = 0
        for clip, end in zip(clips, ends, strict=True):
            self._samples[end - cache.lengths[clip] : end] = torch.from_numpy(cache.clip(int(clip)))
        self._steps = torch.arange(width, device=device)

    def __call__(self, segments: Segments) -> Tensor:
        """Float32 in [-1, 1), shape (n, width), on the device."""
        owner = np.searchsorted(self._cache_starts, segments.starts, side="right") - 1
        starts = torch.from_numpy(segments.starts + self._shifts[owner]).to(self._steps.device)
        steps = self._steps[: segments.width]
        waveforms = self._samples[starts[:, None] + steps].to(torch.float32).div_(SCALE)
        short = np.flatnonzero(segments.lengths < segments.width)
        for row in short:
            waveforms[row, int(segments.lengths[row]) :] = 0
        return waveforms


class EmbeddedSource:
    """Embeddings in place of waveforms, computed once by an encoder that is not trained, as it is when tagging.

    Each process computes those of its share of `segments`, which are all that will be asked for.
    """

    def __init__(
        self,
        segments: Segments,
        load: Callable[[Segments], Tensor],
        *,
        model: SampleCNN,
        device: torch.device,
        processes: Processes,
    ) -> None:
        predict = Predictor(model, device=str(device))
        mine = segments.take(processes.rows(0, len(segments)))
        parts = [mine.take(slice(i, i + predict.batch_size)) for i in range(0, len(mine), predict.batch_size)]
        embeddings = [predict(load(part).cpu().numpy())[1] for part in parts]
        order = np.argsort(segments.starts)
        self._starts = segments.starts[order]
        whole = np.concatenate([each for share in processes.collect(embeddings) for each in share])
        self._embeddings = torch.from_numpy(whole[order]).to(device)

    def __call__(self, segments: Segments) -> Tensor:
        """Float32, shape (n, embedding_size), on the device."""
        rows = np.searchsorted(self._starts, segments.starts)
        return self._embeddings[torch.from_numpy(rows).to(self._embeddings.device)]


class Prefetcher:
    """Batches made ahead by a thread, at most `AHEAD` of them; `waited_seconds` is how long the caller waited."""

    def __init__(self, load: Callable[[Segments], Tensor], batches: Sequence[Segments]) -> None:
        self._load, self._batches = load, batches
        self._queue: queue.Queue[tuple[Segments, Tensor] | BaseException | None] = queue.Queue(AHEAD)
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
