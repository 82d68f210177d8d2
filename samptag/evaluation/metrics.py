"""Ranking measures of multi-label tagging: ROC-AUC, average precision, agreement.

The definitions are scikit-learn's (``roc_auc_score``, ``average_precision_score``). Accuracy is left out on purpose:
with a few positives a tag, a tagger that says "no" to everything scores over 90 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Agreement", "agreement", "cutoff", "macro", "pr_auc", "present", "rankable", "roc_auc"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def present(labels: npt.ArrayLike, *, positive_above: float = 0.0) -> BoolArray:
    """Which labels, 0 and 1 or soft ones in between, count as positive: those greater than `positive_above`."""
    return np.asarray(labels) > positive_above


def rankable(positives: BoolArray) -> BoolArray:
    """Which tags of (clips, tags) have a positive and a negative clip, without which no ranking can be judged."""
    count = positives.sum(axis=0)
    return np.asarray((count > 0) & (count < len(positives)))


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, *, positive_above: float = 0.0) -> FloatArray:
    """The area under the receiver operating characteristic of every tag.

    Parameters
    ----------
    labels : array_like, (clips, tags)
        Positive where greater than `positive_above`.
    scores : array_like, (clips, tags)
        Any finite numbers; only their order within a tag counts. Equal scores count half.
    positive_above : float
        See `present`.

    Returns
    -------
    ndarray of float64, (tags,)
        In [0, 1]; NaN for a tag without a positive or without a negative clip.

    Raises
    ------
    ValueError
        When the shapes differ or a score is not finite.

    Examples
    --------
    >>> roc_auc([[1, 0], [0, 0], [1, 0]], [[0.9, 0.2], [0.3, 0.1], [0.2, 0.7]])
    array([0.5, nan])
    """
    from sklearn.metrics import roc_auc_score

    return _per_tag(roc_auc_score, labels, scores, positive_above)


def pr_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, *, positive_above: float = 0.0) -> FloatArray:
    """The average precision of every tag, the usual "PR-AUC" of music tagging.

    Parameters, results and errors are those of `roc_auc`. A tag that every clip carries is NaN here too: its average
    precision is 1 whatever the scores are.
    """
    from sklearn.metrics import average_precision_score

    return _per_tag(average_precision_score, labels, scores, positive_above)


def macro(per_tag: npt.ArrayLike) -> float:
    """The mean over the tags that are not NaN; NaN when there is none."""
    values = np.asarray(per_tag, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


@dataclass(frozen=True)
class Agreement:
    """How alike two taggers score the same clips.

    Attributes
    ----------
    correlation : float
        Mean over tags of the Pearson correlation over clips, in [-1, 1]. A tag that one of the two scores alike in
        every clip has none; NaN when no tag has one.
    top_overlap : float
        Mean over clips of the share of the `top` best tags that both name, in [0, 1].
    top : int
        How many tags of each clip `top_overlap` compares.
    """

    correlation: float
    top_overlap: float
    top: int


def agreement(scores: npt.ArrayLike, *, reference: npt.ArrayLike, top: int = 5) -> Agreement:
    """How alike two sets of predictions are, e.g. a student's and its teacher's.

    Parameters
    ----------
    scores, reference : array_like, (clips, tags)
        Rows and columns in the same order.
    top : int
        Tags of each clip that `Agreement.top_overlap` compares; ties are broken by tag order.

    Raises
    ------
    ValueError
        When the shapes differ, a score is not finite, or `top` is not in [1, tags].
    """
    ours, theirs = _matrix(scores), _matrix(reference)
    if ours.shape != theirs.shape:
        raise ValueError(f"predictions of shape {ours.shape} cannot be compared with {theirs.shape}")
    if not 1 <= top <= ours.shape[1]:
        raise ValueError(f"top must lie in [1, {ours.shape[1]}], not {top}")
    varies = (np.ptp(ours, axis=0) > 0) & (np.ptp(theirs, axis=0) > 0)
    a, b = (x[:, varies] - x[:, varies].mean(axis=0) for x in (ours, theirs))
    correlations = (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    chosen = [np.zeros(ours.shape, dtype=bool) for _ in range(2)]
    for mask, values in zip(chosen, (ours, theirs), strict=True):
        np.put_along_axis(mask, np.argsort(-values, axis=1, kind="stable")[:, :top], True, axis=1)
    overlap = float((chosen[0] & chosen[1]).sum(axis=1).mean() / top)
    return Agreement(macro(correlations), overlap, top)


def _matrix(scores: npt.ArrayLike) -> FloatArray:
    """`scores` as a finite, non-empty float64 matrix (clips, tags)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"scores must be a matrix (clips, tags) with at least one of each, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores hold NaN or infinity")
    return values


def _per_tag(
    measure: Callable[..., Any], labels: npt.ArrayLike, scores: npt.ArrayLike, positive_above: float
) -> FloatArray:
    """`measure` of every rankable tag, NaN for the others."""
    values = _matrix(scores)
    positives = present(labels, positive_above=positive_above)
    if positives.shape != values.shape:
        raise ValueError(f"labels of shape {positives.shape} do not fit scores of shape {values.shape}")
    result = np.full(values.shape[1], np.nan)
    for tag in np.flatnonzero(rankable(positives)):
        result[tag] = measure(positives[:, tag], values[:, tag])
    return result


def cutoff(
    positive: npt.ArrayLike, scores: npt.ArrayLike, *, precision: float = 0.8, right: int = 4, or_best: bool = False
) -> tuple[float, float] | None:
    """The lowest score from which on scores are right often enough, and how often; None where there is none.

    It lies halfway to the next lower score, so that what it decides does not hang on the last digit.

    Parameters
    ----------
    positive : array_like of bool, (clips,)
    scores : array_like, (clips,)
        In [0, 1].
    precision : float
        Share of the clips past the cut-off that are positive, at least.
    right : int
        Positives past it, at least: fewer are luck.
    or_best : bool
        Where there is none, take the one of the best F1.

    Examples
    --------
    >>> cutoff([True, True, False, True, False], [0.9, 0.8, 0.7, 0.6, 0.5], precision=0.7, right=2)
    (0.55, 0.75)
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(np.asarray(positive, dtype=bool)[order])
    shares = hits / np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)  # clips of the same score are past a cut-off together
    sure = np.flatnonzero(ends & (shares >= precision) & (hits >= right))
    if len(sure):
        last = int(sure[-1])
    elif or_best:
        last = int(np.argmax(np.where(ends, hits / (np.arange(1, len(order) + 1) + hits[-1]), 0)))  # half of F1
    else:
        return None
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float(ranked[last] + below) / 2, float(shares[last])
