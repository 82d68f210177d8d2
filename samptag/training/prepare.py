"""Everything a training needs before its first step: audio, labels, a network, weights of tags, a model card."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samptag import __version__
from samptag.core.blocks import Convolution
from samptag.core.model import ModelConfig, SampleCNN, config_from_name
from samptag.core.weights import ModelCard
from samptag.data import AudioCache, Dataset, build_cache
from samptag.errors import DatasetError, UsageError
from samptag.pretrained import load_model
from samptag.training.batches import MappedSource, ResidentSource, Segments, consecutive_segments, epoch_segments
from samptag.training.options import Choices
from samptag.training.recipe import Recipe

__all__ = ["Material", "balanced_weights", "card_maker", "decode", "initialise", "pos_weights", "starting_model"]

logger = logging.getLogger("samptag")

# Audio goes to a GPU's memory when it takes no more than this share of what is free; activations need the rest.
RESIDENT_SHARE = 0.4
# A tag with one positive in a thousand would outweigh everything else.
HIGHEST_BALANCED_WEIGHT = 100.0

Source = MappedSource | ResidentSource


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """A data set with its decoded audio.

    Attributes
    ----------
    dataset : Dataset
    cache : AudioCache
    config : ModelConfig
        Of the network that sees it.
    train, valid : ndarray of int64
        Places of the clips that have sound, in `Dataset.clips`.
    train_labels, valid_labels : ndarray of float32, (clips, tags)
    """

    dataset: Dataset
    cache: AudioCache
    config: ModelConfig
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    train_labels: NDArray[np.float32]
    valid_labels: NDArray[np.float32]

    def epoch(self, number: int, *, recipe: Recipe, seed: int) -> Segments:
        """The training segments of an epoch in their order."""
        return epoch_segments(
            self.cache,
            self.train,
            input_length=self.config.input_length,
            first_stride=self.config.first_stride,
            recipe=recipe,
            seed=seed,
            epoch=number,
        )

    def validation(self, recipe: Recipe) -> Segments:
        """The validation segments."""
        return consecutive_segments(
            self.cache,
            self.valid,
            input_length=self.config.input_length,
            first_stride=self.config.first_stride,
            per_clip=recipe.segments_per_clip,
        )

    def sources(self, device: torch.device, *, resident: bool | None) -> tuple[Source, Source]:
        """Where training and validation segments come from; None: the device's memory when it is CUDA's with room."""
        if resident is None:
            needed = 2 * int(self.cache.lengths[np.concatenate([self.train, self.valid])].sum())
            resident = device.type == "cuda" and needed < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        length = self.config.input_length
        if resident:
            train = ResidentSource(self.cache, self.train, input_length=length, device=device)
            return train, ResidentSource(self.cache, self.valid, input_length=length, device=device)
        mapped = MappedSource(self.cache, input_length=length, device=device)
        return mapped, mapped


def decode(
    dataset: Dataset,
    config: ModelConfig,
    *,
    directory: Path | None,
    jobs: int | None,
    progress: Callable[[int, int], None] | None,
) -> Material:
    """The data set's audio at the model's rate.

    Raises
    ------
    DatasetError
        When training or validation has no clip with sound, or training has no positive of any tag.
    """
    chosen = {split: dataset.select(split) for split in ("train", "valid")}
    cache = build_cache(
        dataset,
        sample_rate=config.sample_rate,
        directory=directory,
        jobs=jobs,
        segment_length=config.input_length,
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
    if len(silent) == len(dataset.tags):
        raise DatasetError(f"{dataset.root}: no training clip has any of the {len(silent)} tags")
    if silent:
        logger.warning("no training clip has %s: these tags cannot be learned", ", ".join(silent))
    return Material(
        dataset=dataset,
        cache=cache,
        config=config,
        train=kept["train"],
        valid=kept["valid"],
        train_labels=labels["train"],
        valid_labels=labels["valid"],
    )


def starting_model(
    wanted: str | ModelConfig | None, choices: Choices, *, tags: tuple[str, ...], stored: Mapping[str, Any] | None
) -> SampleCNN:
    """The network with the weights the training starts from, drawn with the training's seed; on the CPU.

    Raises
    ------
    UsageError
        When the model that was asked for is not the one of `init_from`.
    WeightsError
        When `init_from` cannot be used.
    """
    config = None
    if wanted is not None:
        config = config_from_name(wanted) if isinstance(wanted, str) else wanted
        config = replace(config, n_tags=len(tags))
    recipe = choices.recipe
    torch.manual_seed(choices.seed)
    if stored is not None:
        known = ModelConfig.from_dict(stored["identity"]["config"])
        return SampleCNN(known if config is None or choices.init_from is not None else recipe.adapt(config))
    if choices.init_from is None:
        model = SampleCNN(recipe.adapt(config or config_from_name("samplecnn-3-9", n_tags=len(tags))))
        initialise(model, recipe.initialisation)
        return model
    loaded = load_model(choices.init_from)
    theirs = replace(loaded.card.config, n_tags=len(tags))
    if config is not None and (config.name, config.sample_rate) != (theirs.name, theirs.sample_rate):
        raise UsageError(
            f"{choices.init_from} holds a {theirs.name} at {theirs.sample_rate} Hz, not the {config.name} at "
            f"{config.sample_rate} Hz of --model; leave that out"
        )
    model = SampleCNN(theirs)
    state = loaded.model.state_dict()
    if loaded.card.tags != tags:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    model.load_state_dict(state, strict=loaded.card.tags == tags)
    return model


def initialise(model: SampleCNN, how: str) -> None:
    """Draw the convolutions of `model` anew in the way of a recipe.

    Parameters
    ----------
    model : SampleCNN
    how : {"he_uniform", "keras-1.1.0", "resemul"}
        "he_uniform": as a new model has them. "keras-1.1.0": Lee 2017's ``he_uniform``, whose fan-in that version of
        Keras takes to be in x out channels, so that filters start 6.5 to 22.6 times smaller. "resemul": as in the code
        of Kim 2018, where the shortcuts' convolutions and the last layer, a ``Dense`` there, are glorot_uniform.
    """
    if how == "he_uniform":
        return
    for name, module in model.named_modules():
        if isinstance(module, Convolution):
            n_out, n_in, _ = module.weight.shape
            if how == "keras-1.1.0":
                bound = math.sqrt(6 / (n_in * n_out))
                nn.init.uniform_(module.weight, -bound, bound)
            elif name.endswith("shortcut.conv") or name == "top.conv":
                nn.init.xavier_uniform_(module.weight)


def pos_weights(choice: float | str | None, labels: NDArray[np.float32]) -> Tensor | None:
    """The weight of each tag's positives in the loss, (tags,); None for no weights."""
    if choice is None:
        return None
    if choice == "balanced":
        return torch.from_numpy(balanced_weights(labels))
    return torch.full((labels.shape[1],), float(choice))


def balanced_weights(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Negatives / positives of each tag, at most 100; 1 for a tag without positives or without negatives."""
    positives = labels.sum(axis=0, dtype=np.float64)
    negatives = len(labels) - positives
    ratio = np.divide(negatives, positives, out=np.ones_like(positives), where=(positives > 0) & (negatives > 0))
    weights: NDArray[np.float32] = np.minimum(ratio, HIGHEST_BALANCED_WEIGHT).astype(np.float32)
    return weights


def card_maker(material: Material, choices: Choices, *, name: str) -> Callable[[Mapping[str, float | str]], ModelCard]:
    """What makes the exported model's card from the metrics of its epoch."""
    dataset = material.dataset
    start = "" if choices.init_from is None else f", starting from {Path(choices.init_from).name}"

    def make(metrics: Mapping[str, float | str]) -> ModelCard:
        return ModelCard(
            name=name,
            config=material.config,
            tags=dataset.tags,
            tag_categories=dataset.tag_categories,
            licence=choices.licence,
            training_data=f"{len(material.train)} clips of {dataset.root.absolute().name} ({dataset.format}, train of "
            f"{dataset.split_name})",
            description=f"{material.config.name}, recipe {choices.recipe.name} of samptag {__version__}{start}",
            split=dataset.split_name,
            split_hash=material.cache.split_hash,
            metrics=dict(metrics),
            source=f"samptag train, seed {choices.seed}",
        )

    return make
