"""Learning rates over a training, as small state machines that know nothing of models or tensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samptag.training.recipe import Recipe

__all__ = ["CosineSchedule", "EpochVerdict", "StagedSchedule", "schedule_for"]


@dataclass(frozen=True)
class EpochVerdict:
    """What follows from one epoch's validation.

    Attributes
    ----------
    best : bool
        The weights just validated are the best of the stage: keep them.
    reload : bool
        The stage is over: load its best weights and start a fresh optimiser.
    finished : bool
        The training is over (with `reload`, after loading the best weights).
    """

    best: bool
    reload: bool = False
    finished: bool = False


class StagedSchedule:
    """The paper's schedule: a falling list of learning rates, each kept until the validation loss stops falling.

    Each stage is a fit of its own: its best loss, its patience and its iteration counter start afresh (authors'
    script: one Keras ``fit_generator`` with a new optimiser and new early stopping a stage).

    Parameters
    ----------
    learning_rates : tuple of float
        One a stage.
    patience : int
        As Keras 1.1.0 and 2.0.5 count it: so many epochs in a row may bring no new lowest loss, and the one after them
        ends the stage. Their `EarlyStopping` asks whether it has waited long enough before it counts the epoch.
    iteration_decay : float
        See `learning_rate`.
    """

    def __init__(self, learning_rates: tuple[float, ...], *, patience: int, iteration_decay: float) -> None:
        self._rates = learning_rates
        self._patience = patience
        self._decay = iteration_decay
        self.stage = 0
        self.iteration = 0
        self.best_loss = math.inf
        self.waited = 0

    def learning_rate(self, progress: float = 0.0) -> float:
        """The rate of the next step: the stage's, divided by (1 + iteration_decay * iterations of the stage).

        `progress` is not used: the stages end by the validation loss, not by the budget.
        """
        return self._rates[self.stage] / (1.0 + self._decay * self.iteration)

    def step_done(self) -> None:
        """Count one step of the optimiser."""
        self.iteration += 1

    def epoch_done(self, valid_loss: float) -> EpochVerdict:
        """The verdict on an epoch that ended with this segment validation loss.

        Parameters
        ----------
        valid_loss : float
            NaN counts as no improvement.
        """
        if valid_loss < self.best_loss:
            self.best_loss, self.waited = valid_loss, 0
            return EpochVerdict(best=True)
        self.waited += 1
        if self.waited <= self._patience:
            return EpochVerdict(best=False)
        if self.stage + 1 == len(self._rates):
            return EpochVerdict(best=False, reload=True, finished=True)
        self.stage += 1
        self.iteration, self.best_loss, self.waited = 0, math.inf, 0
        return EpochVerdict(best=False, reload=True)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which `load_state_dict` continues."""
        return {
            "stage": self.stage,
            "iteration": self.iteration,
            "best_loss": self.best_loss,
            "waited": self.waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.stage, self.iteration = int(state["stage"]), int(state["iteration"])
        self.best_loss, self.waited = float(state["best_loss"]), int(state["waited"])


class CosineSchedule:
    """Linear warm-up, then half a cosine down to zero at the end of the budget.

    Parameters
    ----------
    peak : float
        Highest learning rate.
    warmup_fraction : float
        Share of the budget the rate climbs over, in [0, 1).
    """

    stage = 0

    def __init__(self, peak: float, *, warmup_fraction: float) -> None:
        self._peak = peak
        self._warmup = warmup_fraction
        self.best = (-math.inf, -math.inf)

    def learning_rate(self, progress: float) -> float:
        """The rate at `progress`, the share of the budget already spent, in [0, 1]."""
        if progress < self._warmup:
            # never quite zero: the first step must move the weights
            return self._peak * max(progress / self._warmup, 1e-3)
        after = (min(progress, 1.0) - self._warmup) / (1.0 - self._warmup)
        return self._peak * 0.5 * (1.0 + math.cos(math.pi * after))

    def step_done(self) -> None:
        """Count nothing: the rate depends on the budget alone."""

    def epoch_done(self, score: float, *, valid_loss: float) -> EpochVerdict:
        """Whether the epoch is the best so far: by the higher `score`, and of equal scores by the lower loss."""
        this = (score, -valid_loss)
        best = this > self.best and not math.isnan(score)
        if best:
            self.best = this
        return EpochVerdict(best=best)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which `load_state_dict` continues."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.best = tuple(state["best"])


def schedule_for(recipe: Recipe) -> StagedSchedule | CosineSchedule:
    """The schedule `recipe` asks for, at its start."""
    if recipe.schedule == "stages":
        return StagedSchedule(recipe.learning_rates, patience=recipe.patience, iteration_decay=recipe.iteration_decay)
    return CosineSchedule(recipe.learning_rates[0], warmup_fraction=recipe.warmup_fraction)
