"""Recipes: named, frozen sets of training hyper-parameters; ``modern`` is the default."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from samptag.core.config import ModelConfig, OddZero
from samptag.errors import UsageError

CLASSIFIER_EPOCHS = 30


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the segments of a batch are augmented; frequencies and speeds are drawn evenly on a logarithmic scale."""

    gain_db: float = 0.0  # the gain is uniform in [-gain_db, gain_db] decibels
    polarity: float = 0.0  # probability that the waveform's sign is flipped
    # Probability that a segment and its labels are mixed with another of the batch, by a share from Beta(alpha, alpha)
    # (Zhang et al. 2018, mixup).
    mixup_probability: float = 0.0
    mixup_alpha: float = 1.0
    noise_probability: float = 0.0  # that white noise is added
    noise_snr_db: tuple[float, float] = (10.0, 40.0)  # lowest and highest, relative to the segment's own power
    band_limit_probability: float = 0.0  # that everything above a cut-off is removed, as a low-rate codec does
    band_limit_hz: tuple[float, float] = (3_000.0, 10_000.0)  # lowest and highest cut-off
    speed_probability: float = 0.0  # that it is played faster or slower, which changes pitch and tempo together
    speed: float = 0.06  # the factor is between 1 / (1 + speed) and 1 + speed
    equaliser_probability: float = 0.0  # that it goes through an equaliser with a random level for each octave
    equaliser_db: float = 8.0  # the levels are uniform in [-equaliser_db, equaliser_db] decibels
    band_stop_probability: float = 0.0  # that a band is removed, as SpecAugment does (Park et al. 2019)
    band_stop_octaves: float = 1.0  # the band is up to so many octaves wide, without its edges
    band_stop_hz: tuple[float, float] = (100.0, 8_000.0)  # lowest and highest centre of the band

    def reach(self, length: int) -> int:
        """The most samples of music that a segment of `length` samples can be made of."""
        return length if not self.speed_probability else math.ceil(length * (1 + self.speed))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training that is neither the model, nor the data, nor the budget."""

    name: str
    # "all": the consecutive segments of every clip, every epoch; "random": as many crops at random places; "shifted":
    # the consecutive ones, each moved by up to a sixteenth of its length.
    segments: Literal["all", "random", "shifted"]
    # At most so many segments of one clip in an epoch, and in its validation (there evenly spaced); None: all.
    segments_per_clip: int | None = None
    # The mean of the logits of so many segments of a clip is compared with the clip's labels, which say what is in the
    # clip, not in every segment of it. Validation scores segments one by one.
    segments_per_example: int = 1
    batch_size: int = 23  # segments a step, over all processes
    msd_batch_size: int | None = None  # the same for the Million Song Dataset; None: `batch_size` there too
    # Segments (of each subset) that do not fill a batch are dropped for the epoch; False: a remainder of less than half
    # a batch joins the batch before it, and a larger one is another batch.
    full_batches: bool = False
    # Segments are shuffled inside this many interleaved subsets of the clips, one subset after another; fewer on data
    # sets that do not fill a hundred batches a subset.
    subsets: int = 1
    # How a new model's convolutions are drawn; see `samptag.training.run.initialise`.
    initialisation: Literal["he_uniform", "keras-1.1.0", "resemul"] = "he_uniform"
    dropout: float | None = None  # share of the embedding dropped in training; None: what the model says
    # Values of these fields of `ModelConfig` for a new model (`odd_zero` where m is even); None: the model's own.
    bn_epsilon: float | None = None
    odd_zero: OddZero | None = None
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rates: tuple[float, ...] = (0.01,)  # one for each stage with "stages"; the peak with "cosine"
    encoder_rate: float = 1.0  # learning rate of everything below the classifier, as a share of the classifier's
    schedule: Literal["stages", "cosine"] = "stages"  # those of `samptag.training.optimise`
    momentum: float = 0.9  # Nesterov's, of SGD
    iteration_decay: float = 0.0  # of the rate inside a stage: Keras 1's ``decay``
    patience: int = 3
    warmup_fraction: float = 0.0  # of the budget, in [0, 1)
    weight_decay: float = 0.0  # decoupled decay of AdamW, on convolution and matrix weights only
    clip_gradient_norm: float | None = None  # gradients are scaled down to this global norm
    # Decay a step of the exponential moving average of weights and batch-norm statistics that is validated and
    # exported; None: the weights themselves are.
    ema_decay: float | None = None
    # The more, the longer the batch norms' running statistics follow faster than the model's momentum lets them (see
    # `samptag.training.optimise.NormWarmUp`). With a momentum of 0.01 alone, validations in the first hundreds of steps
    # would use statistics that are still half the random start's. 0: never.
    norm_warmup_steps: int = 0
    # How the best epoch is chosen: by the lowest validation loss of segments, the highest macro ROC-AUC of validation
    # clips, or the highest agreement with the teachers (of equal ones, the lower loss).
    monitor: Literal["loss", "roc_auc", "agreement"] = "loss"
    epochs: int | None = None  # without a budget from the user; None: until the schedule ends by itself
    # bfloat16 where it is safe: on CUDA, and in convolutions on CPUs that multiply it in hardware.
    mixed_precision: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def adapt(self, config: ModelConfig) -> ModelConfig:
        """`config` as the recipe's new models have it."""
        config = self.drop(config)
        if self.odd_zero is not None and config.m % 2 == 0:
            config = replace(config, odd_zero=self.odd_zero)
        return config if self.bn_epsilon is None else replace(config, bn_epsilon=self.bn_epsilon)

    def drop(self, config: ModelConfig) -> ModelConfig:
        """`config` with the recipe's dropout."""
        return config if self.dropout is None else replace(config, dropout=self.dropout)

    def for_format(self, name: str) -> Recipe:
        """The recipe for data sets of this format."""
        return self if name != "msd" or not self.msd_batch_size else replace(self, batch_size=self.msd_batch_size)

    def for_classifier(self) -> Recipe:
        """The recipe for a classifier alone: its embeddings are computed once, and an epoch costs nearly nothing."""
        epochs = None if self.epochs is None else CLASSIFIER_EPOCHS
        return replace(self, segments="all", norm_warmup_steps=0, augmentation=Augmentation(), epochs=epochs)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain numbers, strings and lists, ready for JSON and checkpoints."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=lambda number: number.item()))  # NumPy's
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote; a TypeError where a key is unknown or missing."""
        augmentation = Augmentation(**_tupled(values.get("augmentation", {})))
        return cls(**_tupled(values) | {"augmentation": augmentation})


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


# Lee, Park, Kim, Nam (SMC 2017): every number, the class's own too, is their script's, or that of its Keras 1.1.0.
PAPER = Recipe(
    name="paper",
    segments="all",
    msd_batch_size=50,
    full_batches=True,
    subsets=37,
    initialisation="keras-1.1.0",
    bn_epsilon=1e-5,
    odd_zero="front",
    learning_rates=(0.01, 0.002, 0.0004, 0.00008, 0.000016),
    iteration_decay=1e-6,
)

# Kim, Lee, Nam (ICASSP 2018), by their code (resemul, on Keras 2 and TensorFlow).
KIM = replace(
    PAPER,
    name="kim",
    msd_batch_size=None,
    subsets=1,
    initialisation="resemul",
    bn_epsilon=1e-3,
    odd_zero="end",
    patience=2,
)

MODERN = Recipe(
    name="modern",
    segments="random",
    segments_per_clip=10,
    batch_size=32,
    optimiser="adamw",
    learning_rates=(2e-3,),
    schedule="cosine",
    warmup_fraction=0.05,
    weight_decay=0.01,
    clip_gradient_norm=1.0,
    ema_decay=0.999,
    norm_warmup_steps=10,
    monitor="roc_auc",
    epochs=40,
    mixed_precision=True,
    augmentation=Augmentation(
        gain_db=6.0,
        polarity=0.5,
        mixup_probability=0.5,
        mixup_alpha=0.4,
        noise_probability=0.2,
        band_limit_probability=0.2,
    ),
)

# From weights that know music: a low rate below the classifier, and their running statistics are kept.
TUNE = replace(
    MODERN, name="tune", learning_rates=(1e-3,), encoder_rate=0.1, warmup_fraction=0.1, norm_warmup_steps=0, epochs=10
)

# A teacher's scores are softer than labels, and there are many of them: less dropout, less decay. The student hears all
# of the music, close to where the teachers heard it: musicnn's 3 s hold a segment of 3^9 that is moved by a sixteenth.
# Noise and band limits stay rare, because teachers that hear the music once have not heard them.
DISTIL = replace(
    MODERN,
    name="distil",
    segments="shifted",
    segments_per_clip=None,
    dropout=0.2,
    weight_decay=1e-3,
    monitor="agreement",
    augmentation=replace(MODERN.augmentation, mixup_probability=0.3, noise_probability=0.1, band_limit_probability=0.1),
)

RECIPES = {recipe.name: recipe for recipe in (MODERN, PAPER, KIM, TUNE, DISTIL)}


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`; a UsageError where there is none."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}; the recipes are {', '.join(RECIPES)}")
    return RECIPES[name]
