"""Ranking measures of multi-label tagging: ROC-AUC, average precision, agreement; and their bootstrap intervals.

The definitions are scikit-learn's (``roc_auc_score``, ``average_precision_score``). A resample of tracks gives every
clip a whole number as its weight. Each tag is sorted once, and all resamples are then scored together by sums over that
order, which takes seconds where scikit-learn in a loop takes minutes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# 128 draws of 4 332 clips are 2 MB of weights, which stay in cache while 50 tags read them. 100 000 songs would make 51
# MB of them, and 200 MB with the sums over them.
_DRAWS_AT_ONCE, _WEIGHTS_AT_ONCE = 128, 1 << 21
# The fewest positive clips above a cut-off.
_RIGHT = 4


def present(labels: npt.ArrayLike, *, positive_above: float = 0.0) -> BoolArray:
    """Which labels, in [0, 1], count as positive: those greater than `positive_above`."""
    return np.asarray(labels) > positive_above


def rankable(positives: BoolArray) -> BoolArray:
    """Which tags of (clips, tags) have a positive and a negative clip, without which no ranking can be measured."""
    count = positives.sum(axis=0)
    return np.asarray((count > 0) & (count < len(positives)))


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """The area under the receiver operating characteristic of every tag, (tags,); NaN where it is not `rankable`.

    Labels, (clips, tags), are positive above 0; equal scores count half. A ValueError when the shapes differ or a score
    is not finite.
    """
    from sklearn.metrics import roc_auc_score

    return _per_tag(roc_auc_score, labels, scores)


def pr_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """The average precision of every tag, the usual "PR-AUC" of music tagging; for the rest see `roc_auc`."""
    from sklearn.metrics import average_precision_score

    return _per_tag(average_precision_score, labels, scores)


def macro(per_tag: npt.ArrayLike) -> float:
    """The mean over the tags that are not NaN; NaN when there is none."""
    values = np.asarray(per_tag, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


@dataclass(frozen=True)
class Agreement:
    """How alike two taggers score the same clips."""

    # Mean over tags of the Pearson correlation over clips, in [-1, 1]. A tag that one of them scores the same in every
    # clip has none; NaN when no tag has one.
    correlation: float
    top_overlap: float  # mean over clips of the share of the `top` best tags that both name, in [0, 1]
    top: int


def agreement(scores: npt.ArrayLike, *, reference: npt.ArrayLike, top: int = 5) -> Agreement:
    """How alike two sets of predictions (clips, tags) are; of tags with equal scores, the first counts as the better.

    A ValueError when the shapes differ, a score is not finite, or `top` is not in [1, tags].
    """
    ours, theirs = _matrix(scores), _matrix(reference)
    if ours.shape != theirs.shape:
        raise ValueError(f"predictions of shape {ours.shape} cannot be compared with {theirs.shape}")
    if not 1 <= top <= ours.shape[1]:
        raise ValueError(f"top must lie in [1, {ours.shape[1]}], not {top}")
    varies = (np.ptp(ours, axis=0) > 0) & (np.ptp(theirs, axis=0) > 0)
    a, b = (x[:, varies] - x[:, varies].mean(axis=0) for x in (ours, theirs))
    correlations = (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    best, their_best = (np.argsort(-values, axis=1, kind="stable")[:, :top] for values in (ours, theirs))
    overlap = float((best[:, :, None] == their_best[:, None, :]).sum(axis=(1, 2)).mean() / top)
    return Agreement(macro(correlations), overlap, top)


def _matrix(scores: npt.ArrayLike) -> FloatArray:
    """`scores` as a finite, non-empty float64 matrix (clips, tags)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"scores must be a matrix (clips, tags) with at least one of each, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores hold NaN or infinity")
    return values


def _per_tag(measure: Callable[..., Any], labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """`measure` of every rankable tag, NaN for the others."""
    values, positives = _matrix(scores), present(labels)
    if positives.shape != values.shape:
        raise ValueError(f"labels of shape {positives.shape} do not fit scores of shape {values.shape}")
    result = np.full(values.shape[1], np.nan)
    for tag in np.flatnonzero(rankable(positives)):
        result[tag] = measure(positives[:, tag], values[:, tag])
    return result


def cutoff(
    positive: npt.ArrayLike, scores: npt.ArrayLike, *, precision: float = 0.8, or_best: bool = False
) -> tuple[float, float] | None:
    """The lowest cut-off above which scores are right often enough, and the share that is; None where there is none.

    Of the clips, (clips,), with scores in [0, 1] above it, at least the share `precision` is positive, and at least
    four clips, since fewer are luck. Otherwise, with `or_best`, it is the cut-off of the best F1. It lies halfway to
    the next lower score, so that nothing depends on a last digit.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(np.asarray(positive, dtype=bool)[order])
    shares = hits / np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)  # clips of the same score are on one side of a cut-off
    sure = np.flatnonzero(ends & (shares >= precision) & (hits >= _RIGHT))
    if len(sure):
        last = int(sure[-1])
    elif or_best:
        last = int(np.argmax(np.where(ends, hits / (np.arange(1, len(order) + 1) + hits[-1]), 0)))  # half of F1
    else:
        return None
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float(ranked[last] + below) / 2, float(shares[last])


def resample(
    positives: BoolArray, scores: npt.NDArray[np.floating], *, groups: Sequence[str], resamples: int, seed: int
) -> FloatArray:
    """Macro ROC-AUC and PR-AUC, (2, resamples), of draws of `groups`, (clips,), from finite scores (clips, tags).

    They are means over the tags that can be ranked in that resample, NaN when none can. Two calls with the same groups,
    resamples and seed use the same draws, so their difference is a paired one.
    """
    names, group_of_clip = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    tags = np.flatnonzero(rankable(positives))
    rankings = [_rank(positives[:, tag], scores[:, tag]) for tag in tags]
    if not rankings:
        return np.full((2, resamples), np.nan)
    macros = []
    at_once = min(_DRAWS_AT_ONCE, max(1, _WEIGHTS_AT_ONCE // len(group_of_clip)))
    for counts in _draws(len(names), resamples, seed, at_once):
        weights = counts[:, group_of_clip.ravel()].T
        areas = np.stack([_areas(ranking, weights) for ranking in rankings])  # (tags, 2, draws)
        with np.errstate(invalid="ignore"):  # 0 / 0 in a draw that leaves no tag to rank
            macros.append(np.nansum(areas, axis=0) / (~np.isnan(areas)).sum(axis=0))
    return np.concatenate(macros, axis=1)


def interval(values: FloatArray, *, estimate: float, level: float = 0.95) -> tuple[float, float]:
    """The central percentile interval of bootstrap `values`, moved so that their mean is the `estimate` on the data.

    It is an interval of the measure's mean over test sets of this size: docs/evaluation.md says why, and what it is
    not. Values that are NaN are left out; both ends are NaN when every value is.
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) + (estimate - defined.mean())
    return float(low), float(high)


def weighted_auc(
    positive: BoolArray, score: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]
) -> tuple[FloatArray, FloatArray]:
    """ROC-AUC and average precision, (draws,), of one tag under many sets of clip weights, (clips, draws), at once.

    They are NaN where the positives or the negatives weigh nothing. Sums are taken in the weights' dtype;
    float32 is exact for whole numbers that add up to less than 2**24.
    """
    return _areas(_rank(positive, score), weights)


class _Ranking(NamedTuple):
    """One tag's clips from best to worst, cut where a run of equal scores with a positive in it begins or ends.

    Only such runs ("steps") add to either measure, so everything between two of them is summed as one piece.
    """

    order: npt.NDArray[np.intp]  # (clips,), best first
    cuts: npt.NDArray[np.intp]  # (pieces,), where each piece starts
    step_piece: npt.NDArray[np.intp]  # (steps,), which piece each step is
    positive_order: npt.NDArray[np.intp]  # (positives,), best first
    positive_cuts: npt.NDArray[np.intp]  # (steps,), where each step's positives start in positive_order


def _rank(positive: BoolArray, score: npt.NDArray[np.floating]) -> _Ranking:
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    run_starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    run_ends = np.append(run_starts[1:], len(ranked))
    positive_places = np.flatnonzero(positive[order])
    run_of_positive = np.searchsorted(run_starts, positive_places, side="right") - 1
    runs, positive_cuts = np.unique(run_of_positive, return_index=True)
    cuts = np.unique(np.concatenate(([0], run_starts[runs], run_ends[runs])))
    cuts = cuts[cuts < len(ranked)]
    step_piece = np.searchsorted(cuts, run_starts[runs])
    return _Ranking(order, cuts, step_piece, order[positive_places], positive_cuts.astype(np.intp))


def _areas(ranking: _Ranking, weights: npt.NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    if not len(ranking.positive_order):
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    pieces = np.add.reduceat(weights[ranking.order], ranking.cuts, axis=0).astype(np.float64)
    hits = np.add.reduceat(weights[ranking.positive_order], ranking.positive_cuts, axis=0).astype(np.float64)
    seen = np.cumsum(pieces, axis=0)[ranking.step_piece]  # (steps, draws): weight down to and with each step
    hits_seen = np.cumsum(hits, axis=0)
    all_hits = hits_seen[-1]
    all_misses = pieces.sum(axis=0) - all_hits
    misses_tied = pieces[ranking.step_piece] - hits
    misses_below = all_misses - (seen - hits_seen)
    precision = np.divide(hits_seen, seen, out=np.zeros_like(seen), where=seen > 0)
    known = (all_hits > 0) & (all_misses > 0)
    scale = np.where(known, all_hits, np.nan)
    roc = (hits * (misses_below + misses_tied / 2)).sum(axis=0) / (scale * np.where(known, all_misses, np.nan))
    return roc, (hits * precision).sum(axis=0) / scale


def _draws(n_groups: int, resamples: int, seed: int, at_once: int) -> Iterator[npt.NDArray[np.float32]]:
    """How often each group is drawn, (draws, n_groups) at a time, `resamples` in all; the same whatever `at_once`."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        drawn = rng.integers(n_groups, size=(min(at_once, resamples - start), n_groups))
        yield np.stack([np.bincount(row, minlength=n_groups) for row in drawn]).astype(np.float32)
