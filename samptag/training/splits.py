"""A data set as a training sees it: the clips of its training and validation, decoded, and their segments."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.core.config import ModelConfig
from samptag.data import AudioCache, Dataset, build_cache
from samptag.errors import DatasetError
from samptag.training.batches import MappedSource, ResidentSource, Segments, consecutive_segments, epoch_segments
from samptag.training.distributed import Processes
from samptag.training.recipe import Recipe
from samptag.training.teachers import Taught, Teachers

logger = logging.getLogger("samptag")

# Audio goes to a GPU's memory when it takes no more than this share of what is free; activations need the rest.
RESIDENT_SHARE = 0.4
FEW_VALID_CLIPS = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The training and validation clips of a data set, with their decoded audio.

    Attributes
    ----------
    dataset : Dataset
    cache : AudioCache
    model : ModelConfig
        Of the model that sees the segments.
    recipe : Recipe
        How they are taken from the clips.
    train, valid : ndarray of int64
        Places of the clips that have sound, in `Dataset.clips`.
    train_labels, valid_labels : ndarray of float32, (clips, tags)
        In [0, 1]; zeros where teachers give the labels.
    teachers : Teachers or None
    taught : Taught or None
        What they say about all these clips; about those of the validation alone where there is `live`.
    live : callable or None
        Augmented waveforms of training segments, (n, samples) -> what the teachers say about them, (n, tags).
    """

    dataset: Dataset
    cache: AudioCache
    model: ModelConfig
    recipe: Recipe
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    train_labels: NDArray[np.float32]
    valid_labels: NDArray[np.float32]
    teachers: Teachers | None = None
    taught: Taught | None = None
    live: Callable[[Tensor], Tensor] | None = None

    def epoch(self, number: int, *, seed: int) -> Segments:
        """The training segments of an epoch in their order; their `clips` are rows of `train_labels`."""
        return epoch_segments(self.cache, self.train, model=self.model, recipe=self.recipe, seed=seed, epoch=number)

    def consecutive(self, clips: NDArray[np.int64]) -> Segments:
        """The segments of `clips` (`train` or `valid`) end to end, as many of each as the recipe takes."""
        return consecutive_segments(self.cache, clips, model=self.model, per_clip=self.recipe.segments_per_clip)

    def taught_by(
        self,
        teachers: Teachers,
        *,
        live: bool,
        device: torch.device,
        processes: Processes,
        progress: Callable[[int, int], None] | None,
    ) -> "Splits":
        """These clips with what `teachers` say about them, or will say about every segment of the training (`live`)."""
        clips = self.valid if live else np.concatenate([self.train, self.valid])
        taught = teachers.teach(
            self.cache,
            clips,
            model=self.model,
            per_clip=self.recipe.segments_per_clip,
            device=device,
            processes=processes,
            progress=progress,
        )
        return replace(self, taught=taught, live=teachers.live(model=self.model, device=device) if live else None)

    def targets(self, segments: Segments, labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a model should say about segments, (n, tags): what teachers say, else `labels` of their clips."""
        return labels[segments.clips] if self.taught is None else self.taught(segments)

    def source(self, device: torch.device, *, resident: bool | None) -> MappedSource | ResidentSource:
        """Where waveforms come from; None: the device's memory when it is CUDA's with room."""
        clips = np.concatenate([self.train, self.valid])
        if resident is None:
            needed = 2 * int(self.cache.lengths[clips].sum())
            resident = device.type == "cuda" and needed < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        if resident:
            width = self.recipe.augmentation.reach(self.model.input_length)
            return ResidentSource(self.cache, clips, width=width, device=device)
        return MappedSource(self.cache, device=device)

    @property
    def facts(self) -> dict[str, object]:
        """What a resumed training must find again: the tags, the split with its clips, and the teachers."""
        names = {"tags": list(self.dataset.tags), "split_name": self.dataset.split_name}
        digests = None if self.teachers is None else list(self.teachers.digests)
        return {**names, "split_hash": self.cache.split_hash, "teachers": digests}

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is unusual about the split: an empty part, counts other than the published, few clips, and the like."""
        lines = [problem.message for problem in self.dataset.problems if problem.kind in ("split", "left-out")]
        if len(self.valid) < FEW_VALID_CLIPS:
            lines.append(
                f"{len(self.valid)} validation clips are few: which epoch they call the best means little, and their "
                "figures less"
            )
        return tuple(lines)

    @property
    def short_clips(self) -> int:
        """How many training clips are shorter than a segment; zeros fill them up."""
        return int((self.cache.lengths[self.train] < self.model.input_length).sum())

    @property
    def left_out(self) -> int:
        """How many listed clips are missing, too short for the split, or could not be decoded."""
        return self.cache.left_out + len(self.dataset.unusable)


def decode(
    dataset: Dataset,
    *,
    model: ModelConfig,
    recipe: Recipe,
    directory: Path | None,
    jobs: int | None,
    teachers: Teachers | None,
    progress: Callable[[int, int], None] | None,
) -> Splits:
    """The data set's audio at the model's rate; `teachers` have still to hear it.

    Raises
    ------
    DatasetError
        When training or validation has no clip with sound, or training has no positive of any tag and no teacher.
    """
    chosen = {split: dataset.select(split) for split in ("train", "valid")}
    cache = build_cache(
        dataset,
        sample_rate=model.sample_rate,
        directory=directory,
        jobs=jobs,
        segment_length=model.input_length,
        progress=progress,
    )
    places = {id(clip): place for place, clip in enumerate(dataset.clips)}
    kept = {}
    for split, clips in chosen.items():
        every = np.array([places[id(clip)] for clip in clips], dtype=np.int64)
        kept[split] = every[cache.lengths[every] > 0]
        if not len(kept[split]):
            raise DatasetError(f"{dataset.root}: no {split} clip can be decoded; {cache.report_path} says why")
    labels = {s: np.stack([dataset.clips[place].labels for place in kept[s]]).astype(np.float32) for s in kept}
    silent = [tag for tag, count in zip(dataset.tags, labels["train"].sum(axis=0), strict=True) if count == 0]
    if teachers is not None:
        silent = []
    if len(silent) == len(dataset.tags):
        raise DatasetError(f"{dataset.root}: no training clip has any of the {len(silent)} tags")
    if silent:
        logger.warning("no training clip has %s: these tags cannot be learned", ", ".join(silent))
    return Splits(
        dataset=dataset,
        cache=cache,
        model=model,
        recipe=recipe,
        train=kept["train"],
        valid=kept["valid"],
        train_labels=labels["train"],
        valid_labels=labels["valid"],
        teachers=teachers,
    )
