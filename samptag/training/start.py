"""What a training starts from: the model with its first weights, and how much each tag weighs."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from samptag.core.blocks import Convolution
from samptag.core.model import ModelConfig, SampleCNN
from samptag.errors import UsageError
from samptag.pretrained import load_model
from samptag.training.config import TrainConfig

__all__ = ["LabelLoss", "balanced_weights", "initialise", "pos_weights", "starting_model"]

# A tag with one positive in a thousand would outweigh everything else.
HIGHEST_BALANCED_WEIGHT = 100.0


def starting_model(config: TrainConfig, *, tags: tuple[str, ...], stored: TrainConfig | None) -> SampleCNN:
    """The model with the weights the training starts from, drawn with its seed; on the CPU.

    Raises
    ------
    UsageError
        When the model that was asked for is not the one of `init_from`, or that is no network to train.
    WeightsError
        When `init_from` cannot be used.
    """
    torch.manual_seed(config.seed)
    wanted = None if config.model is None else replace(config.model, n_tags=len(tags))
    if config.init_from is None:
        model = SampleCNN(config.recipe.adapt(wanted or ModelConfig(n_tags=len(tags))))
        initialise(model, config.recipe.initialisation)
        return model
    if stored is not None and stored.model is not None:
        return SampleCNN(stored.model if wanted is None or _alike(wanted, stored.model) else wanted)
    loaded = load_model(config.init_from)
    if not isinstance(loaded.model, SampleCNN):
        raise UsageError(
            f"{config.init_from} is a {loaded.card.config.name}, which samptag does not train; it can teach: --teacher"
        )
    theirs = replace(loaded.model.config, n_tags=len(tags))
    if wanted is not None and not _alike(wanted, theirs):
        raise UsageError(
            f"{config.init_from} holds a {theirs.name} at {theirs.sample_rate} Hz, not the {wanted.name} at "
            f"{wanted.sample_rate} Hz of --model; leave that out"
        )
    model = SampleCNN(config.recipe.drop(theirs))
    state = loaded.model.state_dict()
    if loaded.card.tags != tags:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    model.load_state_dict(state, strict=loaded.card.tags == tags)
    return model


def _alike(one: ModelConfig, other: ModelConfig) -> bool:
    return (one.name, one.sample_rate, one.n_tags) == (other.name, other.sample_rate, other.n_tags)


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


class LabelLoss:
    """Binary cross-entropy summed over segments and tags; labels may be soft.

    Parameters
    ----------
    weights : Tensor or None
        Of each tag's positives, (tags,).
    """

    def __init__(self, weights: Tensor | None) -> None:
        self._weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (n, tags) against labels (n, tags) in [0, 1]."""
        weights = None if self._weights is None else self._weights.to(logits.device)
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum", pos_weight=weights)


def balanced_weights(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Negatives / positives of each tag, at most 100; 1 for a tag without positives or without negatives."""
    positives = labels.sum(axis=0, dtype=np.float64)
    negatives = len(labels) - positives
    ratio = np.divide(negatives, positives, out=np.ones_like(positives), where=(positives > 0) & (negatives > 0))
    weights: NDArray[np.float32] = np.minimum(ratio, HIGHEST_BALANCED_WEIGHT).astype(np.float32)
    return weights
