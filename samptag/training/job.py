"""What a training is made of, and where it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from samptag.core.weights import ModelCard
from samptag.training.batches import Segments
from samptag.training.budget import Budget
from samptag.training.distributed import Processes
from samptag.training.events import Listener

__all__ = ["Job", "Position"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The data of a training, its limits, and where its results go.

    Attributes
    ----------
    out : Path
        Folder of checkpoints, logs and the model.
    identity : Mapping
        What the training was started with, plain data; part of every checkpoint.
    make_card : callable
        Metrics of the best epoch -> the card of the exported model.
    budget : Budget
    seed : int
    epoch_segments : callable
        Epoch -> its segments in order.
    valid_segments : Segments
    train_labels, valid_labels : ndarray, (clips, tags)
    load_train, load_valid : callable
        Segments -> waveforms on the device.
    processes : Processes
    save_every_seconds : float
    listener : callable
    """

    out: Path
    identity: Mapping[str, Any]
    make_card: Callable[[Mapping[str, float | str]], ModelCard]
    budget: Budget
    seed: int
    epoch_segments: Callable[[int], Segments]
    valid_segments: Segments
    train_labels: NDArray[np.float32]
    valid_labels: NDArray[np.float32]
    load_train: Callable[[Segments], Tensor]
    load_valid: Callable[[Segments], Tensor]
    processes: Processes
    save_every_seconds: float
    listener: Listener


@dataclass
class Position:
    """Where a training is; part of every checkpoint.

    Attributes
    ----------
    epoch : int
        Epochs done.
    step, total_steps : int
        Steps done in the open epoch, and in all.
    seconds : float
        Time spent in the runs before this one.
    finished : bool
        The schedule has ended.
    history : list of dict
        One record an epoch.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
