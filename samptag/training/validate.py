"""How well a model does on the validation clips: segment loss, and rankings of clips."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.evaluation.metrics import macro, pr_auc, roc_auc
from samptag.training.batches import Segments
from samptag.training.distributed import Processes

__all__ = ["Stopped", "Validation", "validate"]


class Stopped(Exception):
    """The validation was given up because the training is to stop."""


@dataclass(frozen=True)
class Validation:
    """The figures of one validation.

    Attributes
    ----------
    loss : float
        Mean over segments and tags of the training loss.
    roc_auc, pr_auc : float
        Macro means over the tags that have both kinds of clips, NaN when none has; soft labels above 0 are positive, as
        `samptag.evaluate` has them by default.
    """

    loss: float
    roc_auc: float
    pr_auc: float


@torch.no_grad()
def validate(
    predict: Callable[[Tensor], Tensor],
    segments: Segments,
    labels: NDArray[np.float32],
    *,
    load: Callable[[Segments], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    processes: Processes,
    stopping: Callable[[], bool],
) -> Validation:
    """The figures of a model over all processes.

    Parameters
    ----------
    predict : callable
        What `load` gives -> logits, as in tagging.
    segments : Segments
        Of the validation clips; their `clips` are rows of `labels`.
    labels : ndarray, (clips, tags)
    load : callable
        Segments -> waveforms (or embeddings) on the model's device.
    loss : callable
        (logits, labels) -> the sum of the loss over segments and tags.
    batch_size : int
    processes : Processes
        Each takes its part of the segments.
    stopping : callable
        Asked after every batch.

    Raises
    ------
    Stopped
        When `stopping` says so.
    """
    mine = segments.take(processes.rows(0, len(segments)))
    totals = torch.zeros(labels.shape, dtype=torch.float64)
    summed = torch.zeros(1, dtype=torch.float64)
    for first in range(0, len(mine), batch_size):
        part = mine.take(slice(first, first + batch_size))
        logits = predict(load(part)).float()
        targets = torch.from_numpy(labels[part.clips]).to(logits.device)
        summed += loss(logits, targets).cpu().double()
        totals.index_add_(0, torch.from_numpy(part.clips), torch.sigmoid(logits).cpu().double())
        if stopping():
            raise Stopped
    parts = processes.collect([summed.numpy(), totals.numpy()])
    scores = sum(part[1] for part in parts) / np.bincount(segments.clips, minlength=len(labels))[:, None]
    total = float(sum(part[0][0] for part in parts))
    if not np.isfinite(scores).all():
        return Validation(float("nan"), float("nan"), float("nan"))
    return Validation(
        loss=total / (len(segments) * labels.shape[1]),
        roc_auc=macro(roc_auc(labels, scores)),
        pr_auc=macro(pr_auc(labels, scores)),
    )
