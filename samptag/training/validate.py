"""How well a model does on the validation clips: segment loss, and rankings of clips."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.evaluation.metrics import agreement, macro, present, weighted_auc
from samptag.training.batches import Segments
from samptag.training.distributed import Processes
from samptag.training.splits import Splits


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
    agreement : float
        With teachers: the correlation of scores and targets over the segments, mean over tags. NaN without.
    """

    loss: float
    roc_auc: float
    pr_auc: float
    agreement: float


@torch.no_grad()
def validate(
    predict: Callable[[Tensor], Tensor],
    splits: Splits,
    *,
    load: Callable[[Segments], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    processes: Processes,
    stopping: Callable[[], bool],
) -> Validation | None:
    """The figures of a model on the validation clips, over all processes; None as soon as `stopping` says so.

    Where teachers give the targets, agreement with them takes the place of the rankings of clips by labels.

    Parameters
    ----------
    predict : callable
        What `load` gives -> logits, as in tagging.
    splits : Splits
        Each process takes its part of the segments.
    load : callable
        Segments -> waveforms (or embeddings) on the model's device.
    loss : callable
        (logits, labels) -> the sum of the loss over segments and tags.
    stopping : callable
        Asked after every batch.
    """
    segments, labels, batch_size = splits.consecutive(splits.valid), splits.valid_labels, splits.recipe.batch_size
    mine = segments.take(processes.rows(0, len(segments)))
    said: list[NDArray[np.float32]] = []
    wanted: list[NDArray[np.float32]] = []
    summed = 0.0
    for first in range(0, len(mine), batch_size):
        part = mine.take(slice(first, first + batch_size))
        logits = predict(load(part)).float()
        wanted.append(splits.targets(part, labels))
        summed += float(loss(logits, torch.from_numpy(wanted[-1]).to(logits.device)))
        said.append(torch.sigmoid(logits).cpu().numpy())
        if stopping():
            return None
    sums = processes.collect(summed)
    scores, aims = (
        np.concatenate([each for part in processes.collect(parts) for each in part]) for parts in (said, wanted)
    )
    nan = float("nan")
    if not np.isfinite(scores).all():
        return Validation(nan, nan, nan, nan)
    total = sum(sums) / aims.size
    if splits.taught is not None:
        return Validation(total, nan, nan, agreement(scores, reference=aims, top=1).correlation)
    clips = np.zeros(labels.shape)
    np.add.at(clips, segments.clips, scores)
    clips /= np.bincount(segments.clips, minlength=len(labels))[:, None]
    return Validation(total, *_macros(present(labels), clips), nan)


def _macros(positives: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Macro ROC-AUC and PR-AUC; scikit-learn's checks of its input take longer than an epoch of a classifier alone."""
    once = np.ones((len(scores), 1))
    tags = [weighted_auc(positives[:, tag], scores[:, tag], once) for tag in range(scores.shape[1])]
    roc, pr = np.array(tags).reshape(-1, 2).T
    return macro(roc), macro(pr)
