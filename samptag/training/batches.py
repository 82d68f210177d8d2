"""A training's clips and their audio, the segments of an epoch, and how they are loaded onto the device."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.audio.decode import SCALE
from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN
from samptag.core.protocols import paper_count
from samptag.data.cache import AudioCache, build_cache
from samptag.data.dataset import Dataset
from samptag.engine.predictor import Predictor
from samptag.errors import DatasetError
from samptag.text import Progress, counted
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.recipe import Recipe

logger = logging.getLogger(__name__)

# "shifted" segments are moved by at most this share of their length.
LARGEST_SHIFT = 1 / 16
# A subset loses up to a batch less one segment an epoch: 1 % of so many batches. The authors' subsets have 179.
LEAST_BATCHES_OF_A_SUBSET = 100
AHEAD = 3
# Audio goes to a GPU's memory when it takes no more than this share of what is free; activations need the rest.
RESIDENT_SHARE = 0.4
FEW_VALID_CLIPS = 30

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Segments:
    """A list of segments of a cache; arrays have shape (n,)."""

    clips: Places  # row of the clip in the list of clips that was asked for
    starts: Places  # first sample, counted as in `AudioCache.starts`
    lengths: Places  # samples of music; zeros follow up to `width`
    width: int  # samples of each segment, zeros included

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, rows: Places | slice) -> Segments:
        """The segments at `rows`, in that order."""
        return Segments(self.clips[rows], self.starts[rows], self.lengths[rows], self.width)


def consecutive_segments(
    cache: AudioCache, clips: Places, *, model: ModelConfig, per_clip: int | None = None
) -> Segments:
    """The segments of `clips`, places in the cache, end to end; at most `per_clip` of each clip, evenly spaced."""
    count = partial(paper_count, length=model.input_length, sample_rate=model.sample_rate)
    counts = np.array([count(n_samples) for n_samples in cache.lengths[clips].tolist()], dtype=np.int64)
    kept = counts if per_clip is None else np.minimum(counts, per_clip)
    rows, place = np.repeat(np.arange(len(clips)), kept), _numbered(kept)
    numbers = place if per_clip is None else (place * counts[rows]) // kept[rows]
    starts = cache.starts[clips][rows] + numbers * model.input_length
    lengths = np.minimum(model.input_length, cache.lengths[clips][rows] - numbers * model.input_length)
    return Segments(rows, starts, lengths, model.input_length)


def _numbered(counts: Places) -> Places:
    """0, 1, ..., count - 1 for each of `counts`, one run after another."""
    numbers: Places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers


def _starts(
    every: Segments, cache: AudioCache, clips: Places, *, how: str, width: int, rng: np.random.Generator
) -> Places:
    """Where the segments of an epoch start, as `Recipe.segments` says; each stays inside its clip."""
    starts = every.starts
    first, room = cache.starts[clips][every.clips], np.maximum(cache.lengths[clips][every.clips] - width, 0)
    if how == "random":  # one in each of as many equal parts of the clip
        counts = np.bincount(every.clips, minlength=len(clips))
        place = (_numbered(counts) + rng.random(len(every))) / counts[every.clips]
        starts = first + np.minimum(np.floor(place * (room + 1)).astype(np.int64), room)
    elif how == "shifted":
        shifts = np.rint(rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, len(every)) * every.width).astype(np.int64)
        starts = first + np.clip(starts - first + shifts, 0, room)
    return starts


def _examples(clips: Places, *, each: int, rng: np.random.Generator) -> Places:
    """Rows of the segments of every example, (examples, each), all of one clip; repeated only where it has too few."""
    if each == 1:
        return np.arange(len(clips))[:, None]
    order = rng.permutation(len(clips))
    order = order[np.argsort(clips[order], kind="stable")]
    counts = np.bincount(clips)
    filled = -(-counts // each) * each
    first = np.repeat(np.cumsum(counts) - counts, filled)
    rows: Places = order[first + _numbered(filled) % np.repeat(counts, filled)].reshape(-1, each)
    return rows


def epoch_segments(
    cache: AudioCache, clips: Places, *, model: ModelConfig, recipe: Recipe, seed: int, epoch: int
) -> Segments:
    """The segments of an epoch in order, which depends on seed and epoch alone; those of an example are adjacent."""
    rng = np.random.default_rng([seed, epoch])
    segments = consecutive_segments(cache, clips, model=model, per_clip=recipe.segments_per_clip)
    width = recipe.augmentation.reach(model.input_length)
    starts = _starts(segments, cache, clips, how=recipe.segments, width=width, rng=rng)
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
    """First and last example of every batch; a remainder of less than half a batch joins the batch before it.

    A batch of one or two segments has no batch statistics worth the name, and could not be shared among processes.
    """
    n = max(1, (n_examples + batch_size // 2) // batch_size)
    return list(pairwise([*range(0, n * batch_size, batch_size), n_examples]))


# Float32 waveforms of segments, (n, width), in [-1, 1), on the device; or their embeddings, (n, embedding_size).
Load: TypeAlias = Callable[[Segments], Tensor]


def mapped_source(cache: AudioCache, *, device: torch.device) -> Load:
    """Waveforms read from the cache's files."""

    def load(segments: Segments) -> Tensor:
        block = np.zeros((len(segments), segments.width), dtype=np.int16)
        for row, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
            cache.read(int(start), block[row, :length])
        tensor = torch.from_numpy(block)
        if device.type == "cuda":
            tensor = tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device, torch.float32).div_(SCALE)

    return load


def resident_source(cache: AudioCache, clips: Places, *, width: int, device: torch.device) -> Load:
    """Waveforms, at most `width` samples each, gathered from a copy of `clips` in the device's own memory."""
    lengths, cached = cache.lengths[clips], cache.starts[clips]
    ends = np.cumsum(lengths)
    samples = torch.zeros(int(ends[-1]) + width, dtype=torch.int16, device=device)
    for clip, length, end in zip(clips, lengths, ends, strict=True):
        samples[end - length : end] = torch.from_numpy(cache.clip(int(clip)))
    # starts in the cache, ascending, and what has to be added to get to the copy
    order = np.argsort(cached, kind="stable")
    starts, shifts = cached[order], (ends - lengths - cached)[order]
    steps = torch.arange(width, device=device)

    def load(segments: Segments) -> Tensor:
        owner = np.searchsorted(starts, segments.starts, side="right") - 1
        first = torch.from_numpy(segments.starts + shifts[owner]).to(device)
        waveforms = samples[first[:, None] + steps[: segments.width]].to(torch.float32).div_(SCALE)
        for row in np.flatnonzero(segments.lengths < segments.width):
            waveforms[row, int(segments.lengths[row]) :] = 0
        return waveforms

    return load


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """A model's output for segments."""

    scores: NDArray[np.float32]  # (segments, n), of tags, in [0, 1]; or embeddings
    starts: Places  # (segments,), where they start, counted as in `AudioCache.starts`, ascending

    def __call__(self, segments: Segments) -> NDArray[np.float32]:
        """The scores, (n, ...), of the known segments that start nearest to these."""
        after = np.searchsorted(self.starts, segments.starts).clip(max=len(self.starts) - 1)
        before = np.maximum(after - 1, 0)
        is_before = segments.starts - self.starts[before] <= self.starts[after] - segments.starts
        found: NDArray[np.float32] = self.scores[np.where(is_before, before, after)]
        return found


def embedded_source(
    segments: Segments, load: Load, *, model: SampleCNN, device: torch.device, processes: Processes
) -> Load:
    """Embeddings of `segments`, all that will ever be asked for, computed once; each process computes its share."""
    predict = Predictor(model, device=str(device))
    mine = segments.take(processes.rows(0, len(segments)))
    parts = [mine.take(slice(i, i + predict.batch_size)) for i in range(0, len(mine), predict.batch_size)]
    embeddings = [predict(load(part).cpu().numpy())[1] for part in parts]
    whole = np.concatenate([each for share in processes.collect(embeddings) for each in share])
    order = np.argsort(segments.starts)
    known = Taught(scores=whole[order], starts=segments.starts[order])
    return lambda segments: torch.from_numpy(known(segments)).to(device)


def prefetched(load: Load, batches: Sequence[Segments]) -> Iterator[tuple[Segments, Tensor, float]]:
    """Every batch with its waveforms, loaded ahead by a thread, and the seconds spent waiting for them so far."""
    thread, waited = ThreadPoolExecutor(1, "samptag-batches"), 0.0
    try:
        loading = deque(thread.submit(load, batch) for batch in batches[:AHEAD])
        for batch, later in zip_longest(batches, batches[AHEAD:]):
            started = time.perf_counter()
            waveforms = loading.popleft().result()
            waited += time.perf_counter() - started
            if later is not None:
                loading.append(thread.submit(load, later))
            yield batch, waveforms, waited
    finally:
        thread.shutdown(cancel_futures=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The training and validation clips of a data set, with their decoded audio."""

    dataset: Dataset
    cache: AudioCache
    model: ModelConfig  # of the model that sees the segments
    recipe: Recipe  # how they are taken from the clips
    train: Places  # of the clips that have sound, in `Dataset.clips`
    valid: Places
    train_labels: NDArray[np.float32]  # (clips, tags), in [0, 1]; zeros where teachers give the labels
    valid_labels: NDArray[np.float32]
    # Names and digests of the teachers; empty where the data set has labels.
    teachers: Mapping[str, str] = field(default_factory=dict)
    # The teachers' scores of all these clips; with `live`, of the validation clips alone.
    taught: Taught | None = None
    # Augmented waveforms of training segments, (n, samples) -> the teachers' scores of them, (n, tags).
    live: Callable[[Tensor], Tensor] | None = None

    def epoch(self, number: int, *, seed: int) -> Segments:
        """The training segments of an epoch in order; their `clips` are rows of `train_labels`."""
        return epoch_segments(self.cache, self.train, model=self.model, recipe=self.recipe, seed=seed, epoch=number)

    def consecutive(self, clips: Places) -> Segments:
        """The segments of `clips` (`train` or `valid`) end to end, as many of each as the recipe takes."""
        return consecutive_segments(self.cache, clips, model=self.model, per_clip=self.recipe.segments_per_clip)

    @property
    def clips(self) -> Places:
        """Places of all these clips, training clips first."""
        return np.concatenate([self.train, self.valid])

    def targets(self, segments: Segments, labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a model should say about segments, (n, tags): the teachers' scores, else `labels` of their clips."""
        return labels[segments.clips] if self.taught is None else self.taught(segments)

    def source(self, device: torch.device, *, resident: bool | None) -> Load:
        """Where waveforms come from; with None, the device's memory on CUDA where there is room."""
        if resident is None:
            needed = 2 * int(self.cache.lengths[self.clips].sum())
            resident = device.type == "cuda" and needed < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        if resident:
            width = self.recipe.augmentation.reach(self.model.input_length)
            return resident_source(self.cache, self.clips, width=width, device=device)
        return mapped_source(self.cache, device=device)

    @property
    def facts(self) -> dict[str, object]:
        """What a resumed training must find again: the tags, the split with its clips, and the teachers."""
        names = {"tags": list(self.dataset.tags), "split_name": self.dataset.split_name}
        return {**names, "split_hash": self.cache.split_hash, "teachers": list(self.teachers.values()) or None}

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is unusual about the split: an empty part, clip counts other than the published ones, few clips."""
        # Agreement with the teachers is measured on the validation clips: nobody expects figures of a test part.
        untested = self.teachers and not self.dataset.counts()["test"]
        unusual = [problem for problem in self.dataset.problems if problem.kind in ("split", "left-out")]
        lines = [each.message for each in unusual if not untested or (each.kind, each.path) != ("split", "test")]
        if len(self.valid) < FEW_VALID_CLIPS:
            few = f"only {counted(len(self.valid), 'validation clip')}"
            lines.append(f"{few}: which epoch is best, and its figures, mean little")
        return tuple(lines)

    @property
    def short_clips(self) -> int:
        """How many training clips are shorter than a segment, and padded with zeros."""
        return int((self.cache.lengths[self.train] < self.model.input_length).sum())

    @property
    def left_out(self) -> int:
        """How many listed clips are missing, too short for the split, or could not be decoded."""
        return self.cache.left_out + len(self.dataset.unusable)


def decode(
    dataset: Dataset,
    config: TrainConfig,
    *,
    model: ModelConfig,
    teachers: Mapping[str, str],
    progress: Progress | None,
) -> Parts:
    """The data set's audio at the model's rate, and its labels; any `teachers` have not heard it yet."""
    parts = ("train", "valid")
    for part in parts:
        dataset.select(part)  # refuses an empty one, before anything is decoded
    cache = build_cache(
        dataset,
        sample_rate=model.sample_rate,
        directory=None if config.cache is None else Path(config.cache),
        jobs=config.jobs,
        segment_length=model.input_length,
        progress=progress,
    )
    train, valid = (np.flatnonzero((cache.lengths > 0) & [c.part == part for c in dataset.clips]) for part in parts)
    for part, clips in zip(parts, (train, valid), strict=True):
        if not len(clips):
            raise DatasetError(f"{dataset.root}: no {part} clip can be decoded; {cache.report_path} says why")
    train_labels, valid_labels = (
        np.stack([dataset.clips[place].labels for place in clips]).astype(np.float32) for clips in (train, valid)
    )
    counts = zip(dataset.tags, train_labels.sum(axis=0), strict=True)
    absent = [] if teachers else [tag for tag, count in counts if count == 0]
    if len(absent) == len(dataset.tags):
        raise DatasetError(f"{dataset.root}: no training clip has any of the {len(absent)} tags")
    if absent:
        logger.warning("no training clip has %s: these tags cannot be learned", ", ".join(absent))
    return Parts(
        dataset=dataset,
        cache=cache,
        model=model,
        recipe=config.recipe,
        train=train,
        valid=valid,
        train_labels=train_labels,
        valid_labels=valid_labels,
        teachers=teachers,
    )
