"""Networks that teach: their scores of every segment of the music, computed once and kept beside the decoded audio.

On a GPU they may score every segment again as it is augmented (`Teachers.live`).

A teacher hears the sound that the student hears: a window of its own length around the middle of the student's segment,
at its own sample rate. Its logits are kept clip by clip, under the digest of its weights, so that other students, other
vocabularies and resumed runs find them again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samptag.audio.decode import SCALE
from samptag.audio.resample import resample
from samptag.core.config import Config, ModelConfig
from samptag.core.device import available_cores
from samptag.core.weights import Weights
from samptag.data.cache import AudioCache
from samptag.data.dataset import Dataset
from samptag.errors import DatasetError, UsageError
from samptag.files import atomic_write, os_errors_as
from samptag.pretrained import load_weights
from samptag.text import Progress
from samptag.training.batches import Places, Taught, consecutive_segments
from samptag.training.distributed import Processes
from samptag.training.vocabulary import read_vocabulary, side_by_side

Floats = NDArray[np.float32]

# Samples in one pass. On the CPU two windows of musicnn's 3 s stay in the cache: with eight, a window took 1.4 times as
# long, without huge pages 1.6 times (one thread). A GPU needs more; not measured.
BATCH_SAMPLES = {"cpu": 2 * 48_128, "cuda": 64 * 48_128}
GPU_THREADS = 4
# A teacher whose window is longer than this many segments hears windows half its length apart; a segment is given
# the nearest one: windows of 29 s would otherwise cost eleven times as much.
LONG = 2
# The loss: the weight of the logits relative to the cross-entropy of the scores; the lowest score whose logit is taken;
# and the least spread of a tag's logits, because a tag that hardly varies would outweigh all others.
LOGIT_SHARE = 0.125
LEAST_SCORE = 1e-4
LEAST_SPREAD = 0.1


class Teachers:
    """The networks that teach, by names or paths of weights, and the words they teach.

    `vocabulary` is a table of words (see `samptag.training.vocabulary`); None: the teachers' tags side by side. The
    attribute `names` has the names inside the weights files; `digests` are the sha256 of networks and tensors alone,
    whatever else the files say; `tags` and `categories` are the words', the latter None where there are none.
    """

    def __init__(self, names: Sequence[str], *, vocabulary: str | Path | None = None) -> None:
        self._weights = [load_weights(name) for name in names]
        self.names = tuple(weights.card.name for weights in self._weights)
        self.digests = tuple(_digest(weights) for weights in self._weights)
        if len(set(self.digests)) < len(names):
            raise UsageError(f"--teacher {','.join(names)}: a teacher is named twice")
        if len(set(self.names)) < len(names):
            advice = "give each its own (samptag train --name), since vocabularies refer to it"
            raise UsageError(f"--teacher {','.join(names)}: two of these have the same name inside; {advice}")
        known = {weights.card.name: weights.card.tags for weights in self._weights}
        words = side_by_side(known) if vocabulary is None else read_vocabulary(Path(vocabulary))
        self._merge = words.merger(known)
        self.tags, self.categories = words.tags, words.categories

    def relabel(self, dataset: Dataset) -> Dataset:
        """`dataset` with the taught words as its tags, and without labels."""
        nothing = np.zeros(len(self.tags), dtype=np.float32)
        clips = tuple(replace(clip, labels=nothing) for clip in dataset.clips)
        return replace(dataset, tags=self.tags, tag_categories=self.categories, clips=clips)

    def teach(
        self,
        cache: AudioCache,
        clips: Places,
        *,
        model: ModelConfig,
        per_clip: int | None = None,
        device: torch.device,
        processes: Processes,
        progress: Progress | None = None,
    ) -> Taught:
        """The teachers' scores of the `consecutive_segments` of `clips`; those not in the cache are computed first.

        `model` is the student's. Each process computes its share; `progress` counts clips times teachers. A
        DatasetError where the cache cannot be written or read.
        """
        segments = consecutive_segments(cache, clips, model=model, per_clip=per_clip)
        ends = np.cumsum(np.bincount(segments.clips, minlength=len(clips)))
        parts = np.split(segments.starts - cache.starts[clips][segments.clips], ends[:-1])
        wanted = [
            _Wanted(place, starts, _kept(cache, place, model, len(starts), digest), teacher)
            for place, starts in zip(clips.tolist(), parts, strict=True)
            for teacher, digest in enumerate(self.digests)
        ]
        # Divided before looking what is there: processes look at different times.
        mine = wanted[processes.rank :: processes.world_size]
        missing = [each for each in mine if not each.file.exists()]
        if missing:
            self._compute(missing, cache, model=model, device=device, done=len(mine) - len(missing), progress=progress)
        processes.collect(len(missing))  # waits until all have written theirs
        scores = [self._merged(wanted[i : i + len(self.names)]) for i in range(0, len(wanted), len(self.names))]
        order = np.argsort(segments.starts)
        return Taught(scores=np.concatenate(scores)[order], starts=segments.starts[order])

    def live(self, *, model: ModelConfig, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Teachers that hear waveforms as a student does, augmented: (n, samples) -> scores (n, words).

        They hear the student's segment alone, resampled, and repeated where their window is longer.
        """
        modules: list[tuple[Any, Config]] = [
            (weights.to_module().to(device).requires_grad_(False), weights.card.config) for weights in self._weights
        ]

        def score(waveforms: Tensor) -> Tensor:
            with torch.no_grad():
                logits = [module(_fitted(waveforms, student=model, teacher=config)) for module, config in modules]
                return self._merge.merge(torch.sigmoid(torch.cat(logits, dim=1)))

        return score

    def _merged(self, clip: Sequence[_Wanted]) -> Floats:
        """The words' scores of one clip, from the logits that all teachers gave it."""
        with os_errors_as(DatasetError, "cannot read the teachers' logits"):
            logits = [np.load(each.file).astype(np.float32) for each in clip]
        return self._merge({name: 1 / (1 + np.exp(-each)) for name, each in zip(self.names, logits, strict=True)})

    def _compute(
        self,
        missing: Sequence[_Wanted],
        cache: AudioCache,
        *,
        model: ModelConfig,
        device: torch.device,
        done: int,
        progress: Progress | None,
    ) -> None:
        """Compute the missing logits, and write them to their files."""
        scorers = [_scorer(weights, student=model, device=device) for weights in self._weights]
        rates = [weights.card.config.sample_rate for weights in self._weights]
        resampling = threading.Lock()  # so that a clip is resampled once for all teachers, who follow one another

        @functools.lru_cache(maxsize=2 * len(set(rates)))
        def sound(place: int, rate: int) -> Floats:
            return resample(np.divide(cache.clip(place), SCALE, dtype=np.float32), model.sample_rate, rate)

        def compute(each: _Wanted) -> None:
            with resampling:
                waveform = sound(each.place, rates[each.teacher])
            logits = scorers[each.teacher](waveform, each.starts)
            with os_errors_as(DatasetError, f"cannot write {each.file}"), atomic_write(each.file) as file:
                np.save(file, logits.astype(np.float16))

        # On the CPU every thread computes alone, because threads that share a pass wait for each other. A GPU is kept
        # busy by a few of them while others resample.
        threads = available_cores() if device.type == "cpu" else min(available_cores(), GPU_THREADS)
        with ThreadPoolExecutor(threads, "samptag-teacher", lambda: torch.set_num_threads(1)) as pool:
            try:
                for number, _ in enumerate(pool.map(compute, missing), start=done + 1):
                    if progress is not None:
                        progress("running the teachers", number, done + len(missing))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


class TeacherLoss:
    """How far a student is from its teachers, in scores and in logits.

    The cross-entropy of the scores says little where they are close to zero, and ranking songs by a rare tag depends
    on exactly those scores. So the squared distance of the logits is added, each tag's in units of its spread, which
    is that of the teachers' scores `taught`, (segments, tags).
    """

    def __init__(self, taught: Floats) -> None:
        logits = torch.logit(torch.from_numpy(taught), LEAST_SCORE)
        self._spread = logits.std(dim=0, correction=0).clamp(min=LEAST_SPREAD)

    def __call__(self, logits: Tensor, scores: Tensor) -> Tensor:
        """The loss, summed over segments and tags, of logits (n, tags) against scores (n, tags) in [0, 1]."""
        self._spread = self._spread.to(logits.device)
        apart = (logits - torch.logit(scores, LEAST_SCORE)) / self._spread
        entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="sum")
        return entropy + LOGIT_SHARE * apart.square().sum()


@dataclass(frozen=True)
class _Wanted:
    """One teacher's logits of one clip: its place in the cache, its segments' starts, the file they are kept in."""

    place: int
    starts: Places
    file: Path
    teacher: int


def _scorer(weights: Weights, *, student: ModelConfig, device: torch.device) -> Callable[[Floats, Places], Floats]:
    """A teacher as a function from a clip, (samples,) at the teacher's sample rate, to its logits, (n, tags).

    They are those of the student's segments, whose starts are counted in samples at the student's rate.
    """
    config = weights.card.config
    model: Any = weights.to_module().to(device).requires_grad_(False)
    length, ratio = config.input_length, config.sample_rate / student.sample_rate
    batch = max(1, BATCH_SAMPLES.get(device.type, BATCH_SAMPLES["cpu"]) // length)

    def score(waveform: Floats, starts: Places) -> Floats:
        if len(waveform) < length:  # repeated, because silence would count as music
            waveform = np.resize(waveform, length)
        room = len(waveform) - length
        middles = (starts + student.input_length / 2) * ratio
        places = np.clip(np.rint(middles - length / 2), 0, room).astype(np.int64)
        if length > LONG * student.input_length * ratio:
            grid = np.append(np.arange(0, room, length // 2), room)
            places = grid[np.abs(places[:, None] - grid).argmin(axis=1)]
        places, rows = np.unique(places, return_inverse=True)
        windows = np.lib.stride_tricks.sliding_window_view(waveform, length)[places]
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(windows), batch)
            logits = [model(part.to(device)).cpu() for part in parts]
        whole: Floats = torch.cat(logits).numpy()[rows]
        return whole

    return score


def _fitted(waveforms: Tensor, *, student: ModelConfig, teacher: Config) -> Tensor:
    """A student's segments at a teacher's sample rate and of its length: repeated, or their middle."""
    length = round(waveforms.shape[1] * teacher.sample_rate / student.sample_rate)
    if length != waveforms.shape[1]:  # the spectrum cut off, or continued by zeros
        waveforms = torch.fft.irfft(torch.fft.rfft(waveforms), n=length) * (length / waveforms.shape[1])
    waveforms = waveforms.repeat(1, -(-teacher.input_length // length))
    first = (waveforms.shape[1] - teacher.input_length) // 2 if length > teacher.input_length else 0
    return waveforms[:, first : first + teacher.input_length].contiguous()


def _digest(weights: Weights) -> str:
    digest = hashlib.sha256(json.dumps(weights.card.config.to_dict(), sort_keys=True).encode())
    for name in sorted(name for name in weights.tensors if not name.endswith("num_batches_tracked")):
        digest.update(name.encode() + np.ascontiguousarray(weights.tensors[name], np.float32).tobytes())
    return digest.hexdigest()


def _kept(cache: AudioCache, place: int, model: ModelConfig, n_segments: int, digest: str) -> Path:
    audio = cache.files[place]
    assert audio is not None, "a clip that is left out has no segments"
    return audio.with_name(f"{audio.stem}-{model.input_length}-{n_segments}-{digest[:16]}.npy")
