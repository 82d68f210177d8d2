"""How a model's weights are updated: the loss on labels, the optimiser, the learning rates, and the moving average."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samptag.core.model import SampleCNN
from samptag.training.recipe import Recipe

# Otherwise a tag with one positive in a thousand would outweigh everything else.
HIGHEST_BALANCED_WEIGHT = 100.0


def label_loss(choice: float | str | None, labels: NDArray[np.float32]) -> nn.Module:
    """Cross-entropy of logits and labels, which may be soft, summed; `choice` is `TrainConfig.pos_weight`."""
    weights = None
    if choice == "balanced":
        weights = torch.from_numpy(balanced_weights(labels))
    elif choice is not None:
        weights = torch.full((labels.shape[1],), float(choice))
    return nn.BCEWithLogitsLoss(reduction="sum", pos_weight=weights)


def balanced_weights(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Negatives / positives of each tag, at most 100; 1 for a tag without positives or without negatives."""
    positives = labels.sum(axis=0, dtype=np.float64)
    negatives = len(labels) - positives
    ratio = np.divide(negatives, positives, out=np.ones_like(positives), where=(positives > 0) & (negatives > 0))
    weights: NDArray[np.float32] = np.minimum(ratio, HIGHEST_BALANCED_WEIGHT).astype(np.float32)
    return weights


def make_optimiser(model: SampleCNN, recipe: Recipe) -> torch.optim.Optimizer:
    """A fresh optimiser of the parameters that are trained; each group has its ``rate_share`` of every rate."""
    head = {id(p) for p in model.head.parameters()}
    groups: list[dict[str, Any]] = []
    for share, inside in ((recipe.encoder_rate, False), (1.0, True)):
        trained = [p for p in model.parameters() if p.requires_grad and (id(p) in head) == inside]
        # Biases and batch-norm parameters do not decay: pulling them to zero regularises nothing.
        groups += [
            {"params": [p for p in trained if p.ndim > 1], "rate_share": share, "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "rate_share": share, "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    rate = recipe.learning_rates[0]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=True)
    # Not every PyTorch from 2.4 on has the fused one for MPS.
    return torch.optim.AdamW(groups, lr=rate, fused=model.head.weight.device.type != "mps")


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Have a fresh `optimiser` continue from `state`, which may be of another kind of device."""
    optimiser.load_state_dict(dict(state))
    # Moments come back in the layout of the device they were saved from. A fused step reads parameter and moments side
    # by side in memory, whatever their strides say.
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


class MovingAverage:
    """The exponential moving average of a model's state dict: its weights and batch-norm statistics.

    A step keeps the share `decay` of it; the first ones keep less, (1 + t) / (10 + t), to forget the random start soon.
    """

    def __init__(self, state: Mapping[str, Tensor], *, decay: float) -> None:
        self.state = {name: tensor.clone() for name, tensor in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Move the average towards `state`, after `step` steps (from 1)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        names = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in names], [state[n] for n in names], share)
        for name, tensor in self.state.items():
            if not tensor.is_floating_point():
                tensor.copy_(state[name])


class NormWarmUp:
    """Lets the running statistics of batch normalisation follow fast at first.

    In step t, from 1, a batch has the weight ``steps / (steps + t - 1)`` in them, until that falls to the model's
    momentum. The norms keep their own momentum, which torch.compile takes for a constant.
    """

    def __init__(self, model: SampleCNN, *, steps: int) -> None:
        self.steps, self.momentum = steps, model.config.bn_momentum
        self.statistics = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Enclose the forward and backward pass of step `number`; the backward pass needs the statistics too."""
        weight = self.steps and self.steps / (self.steps + number - 1)
        if weight <= self.momentum:
            yield
            return
        before = [statistic.clone() for statistic in self.statistics]
        torch._foreach_zero_(self.statistics)
        yield
        # Having started from zero, they are momentum times the batch's statistics.
        for old, statistic in zip(before, self.statistics, strict=True):
            statistic.copy_(old.lerp_(statistic / self.momentum, weight))


@dataclass(frozen=True)
class EpochVerdict:
    """What follows from one epoch's validation."""

    best: bool  # the weights just validated are the best of the stage: keep them
    reload: bool = False  # the stage is over: load its best weights and start a fresh optimiser
    finished: bool = False  # the training is over, after `reload`


@dataclass
class _Schedule:
    """The state that decides the learning rate: the recipe, and plain numbers, which checkpoints store."""

    recipe: Recipe

    def step_done(self) -> None:
        """Count one step of the optimiser, where that matters."""

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which `load_state_dict` continues."""
        return {name: value for name, value in vars(self).items() if name != "recipe"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        vars(self).update(state)


@dataclass
class StagedSchedule(_Schedule):
    """The paper's schedule: a falling list of learning rates, each kept until the validation loss stops falling.

    `patience` is counted as in Keras 1.1.0 and 2.0.5: so many epochs in a row may bring no new lowest loss, and the
    next one without ends the stage.
    """

    stage: int = 0
    iteration: int = 0  # steps of the stage
    best_loss: float = math.inf  # of the stage
    waited: int = 0  # epochs in a row without a lower one

    def learning_rate(self, progress: float = 0.0) -> float:
        """The next step's: the stage's / (1 + iteration_decay * iterations of the stage), whatever the `progress`."""
        return self.recipe.learning_rates[self.stage] / (1.0 + self.recipe.iteration_decay * self.iteration)

    def step_done(self) -> None:
        """Count one step of the optimiser."""
        self.iteration += 1

    def epoch_done(self, valid_loss: float, *, score: float = math.nan) -> EpochVerdict:
        """The verdict on an epoch with this segment validation loss, whatever the `score`; NaN is no improvement."""
        if valid_loss < self.best_loss:
            self.best_loss, self.waited = valid_loss, 0
            return EpochVerdict(best=True)
        self.waited += 1
        if self.waited <= self.recipe.patience:
            return EpochVerdict(best=False)
        if self.stage + 1 == len(self.recipe.learning_rates):
            return EpochVerdict(best=False, reload=True, finished=True)
        self.stage, self.iteration, self.best_loss, self.waited = self.stage + 1, 0, math.inf, 0
        return EpochVerdict(best=False, reload=True)


@dataclass
class CosineSchedule(_Schedule):
    """Linear warm-up over a share of the budget, in [0, 1), then half a cosine down to zero at the budget's end."""

    stage: ClassVar[int] = 0
    best: tuple[float, float] = (-math.inf, -math.inf)

    def learning_rate(self, progress: float) -> float:
        """The rate at `progress`, the share of the budget already spent, in [0, 1]."""
        peak, warmup = self.recipe.learning_rates[0], self.recipe.warmup_fraction
        if progress < warmup:
            # never quite zero: the first step must move the weights
            return peak * max(progress / warmup, 1e-3)
        after = (min(progress, 1.0) - warmup) / (1.0 - warmup)
        return peak * 0.5 * (1.0 + math.cos(math.pi * after))

    def epoch_done(self, valid_loss: float, *, score: float) -> EpochVerdict:
        """Whether the epoch is the best so far: by the higher `score`, and of equal scores by the lower loss."""
        this = (score, -valid_loss)
        best = this > tuple(self.best) and not math.isnan(score)
        if best:
            self.best = this
        return EpochVerdict(best=best)


def schedule_for(recipe: Recipe) -> StagedSchedule | CosineSchedule:
    """The schedule that `recipe` asks for, at its start."""
    return StagedSchedule(recipe) if recipe.schedule == "stages" else CosineSchedule(recipe)
