"""What a training tells its caller while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EpochDone", "Event", "Listener", "Prepared", "StepDone"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything is ready; the first step comes next.

    Attributes
    ----------
    data, format, split : str
        What is trained on; the split with the hash of its clips.
    cautions : tuple of str
        What is unusual about the split: empty parts, groups on two sides, counts other than the published, rows or
        columns set aside.
    tags : tuple of str
    train_positives, valid_positives : tuple of float
        Sum of each tag's labels over the clips: their number where labels are hard.
    train_clips, valid_clips : int
    segments_per_epoch, steps_per_epoch : int
    short_clips : int
        Training clips shorter than one segment; zeros fill them up, and the report names them.
    left_out : int
        Listed clips that are missing, too short for the split, or could not be decoded; the report at `report_path`
        names them.
    report_path : str
    parameters : int
    model, recipe, device : str
    fast_path : bool
        Whether the fused CPU layers train.
    resident : bool
        Whether the audio lies in the device's memory.
    epoch, step : int
        Where the training goes on: epochs done, and steps done in the one that is open.
    """

    data: str
    format: str
    split: str
    cautions: tuple[str, ...]
    tags: tuple[str, ...]
    train_positives: tuple[float, ...]
    valid_positives: tuple[float, ...]
    train_clips: int
    valid_clips: int
    segments_per_epoch: int
    steps_per_epoch: int
    short_clips: int
    left_out: int
    report_path: str
    parameters: int
    model: str
    recipe: str
    device: str
    fast_path: bool
    resident: bool
    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step is done.

    Attributes
    ----------
    epoch : int
        From 1.
    step, steps : int
        In the epoch, from 1; how many it has.
    loss : float
        Mean of the epoch so far.
    learning_rate : float
    segments_per_second : float
        Of the epoch so far, in this run, over all processes.
    progress : float or None
        Share of the budget spent; None without a budget.
    remaining_seconds : float or None
        Until the budget is spent; None while it cannot be told.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    segments_per_second: float
    progress: float | None
    remaining_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """One epoch is trained and validated; `record` is its line in metrics.jsonl."""

    record: Mapping[str, Any]


Event = Prepared | StepDone | EpochDone
Listener = Callable[[Event], None]
