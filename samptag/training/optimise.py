"""The optimiser of a recipe, and the moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from samptag.core.model import SampleCNN
from samptag.training.recipe import Recipe

__all__ = ["MovingAverage", "NormWarmUp", "make_optimiser", "restore_optimiser"]


def make_optimiser(model: SampleCNN, recipe: Recipe) -> torch.optim.Optimizer:
    """A fresh optimiser over the parameters of `model` that are trained.

    Its learning rates are set before every step, each group's to its ``rate_share`` of the schedule's.
    """
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
    """Have `optimiser` continue where its ``state_dict`` was taken, on whatever kind of device that was.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
        A fresh one over the same parameters.
    state : Mapping
    """
    optimiser.load_state_dict(dict(state))
    # Moments come back in the layout of the device they were saved from. A fused step reads parameter and moments side
    # by side in memory, whatever their strides say.
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


class MovingAverage:
    """The exponential moving average of a model's weights and batch-norm statistics.

    Parameters
    ----------
    state : Mapping
        The model's state dict, where the average starts.
    decay : float
        Of the average a step; less in the first steps, (1 + t) / (10 + t), so that the random start is soon forgotten.
    """

    def __init__(self, state: Mapping[str, Tensor], *, decay: float) -> None:
        self.state = {name: tensor.detach().clone() for name, tensor in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Move the average towards `state`, after `step` steps (from 1)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        names = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in names], [state[n].detach() for n in names], share)
        for name, tensor in self.state.items():
            if not tensor.is_floating_point():
                tensor.copy_(state[name])


class NormWarmUp:
    """Lets the running statistics of batch normalisation follow fast at first.

    At step t (from 1) a batch weighs ``steps / (steps + t - 1)`` in them, until that has come down to the model's own
    momentum. The norms themselves keep their momentum, which torch.compile takes for a constant.

    Parameters
    ----------
    model : SampleCNN
    steps : int
        0 changes nothing.
    """

    def __init__(self, model: SampleCNN, *, steps: int) -> None:
        self.steps, self.momentum = steps, model.config.bn_momentum
        self.statistics = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Enter around the forward and backward pass of step `number`; the backward pass needs the statistics too."""
        weight = self.steps and self.steps / (self.steps + number - 1)
        if weight <= self.momentum:
            yield
            return
        before = [statistic.clone() for statistic in self.statistics]
        torch._foreach_zero_(self.statistics)
        yield
        # From zero, the norms have come to momentum times the batch's statistics.
        for old, statistic in zip(before, self.statistics, strict=True):
            statistic.copy_(old.lerp_(statistic / self.momentum, weight))
