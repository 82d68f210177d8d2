"""Bootstrap intervals of macro ROC-AUC and PR-AUC, resampled by track.

Clips of one track are not independent, so whole tracks (or artists) are drawn with replacement. A resample is a whole
number of times that every clip counts, which turns the measures into weighted ones: each tag is sorted once, and all
resamples are then scored together by sums over that order. scikit-learn in a loop needs minutes for what takes seconds
here; the tests hold the weighted measures to scikit-learn's with ``sample_weight``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samptag.evaluation.metrics import BoolArray, FloatArray, rankable

__all__ = ["interval", "resample", "weighted_auc"]

# 128 draws of 4 332 clips: 2 MB of weights, which stay in cache while 50 tags read them. Of 100 000 songs they would be
# 51 MB, and 200 with what is summed up from them.
_DRAWS_AT_ONCE, _WEIGHTS_AT_ONCE = 128, 1 << 21


def resample(
    positives: BoolArray, scores: npt.NDArray[np.floating], *, groups: Sequence[str], resamples: int, seed: int
) -> FloatArray:
    """Macro ROC-AUC and PR-AUC of `resamples` draws of groups with replacement.

    Two calls with the same `groups`, `resamples` and `seed` see the same draws, so their difference is a paired one.

    Parameters
    ----------
    positives : ndarray of bool, (clips, tags)
    scores : ndarray, (clips, tags)
        Finite.
    groups : sequence of str, (clips,)
        The track or artist of every clip; clips of one group are drawn together.
    resamples : int
        At least 1.
    seed : int

    Returns
    -------
    ndarray of float64, (2, resamples)
        ROC-AUC, then PR-AUC: means over the tags that can be ranked in that resample (a rare tag may have lost all its
        positives); NaN when none can.
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
        defined = ~np.isnan(areas)
        count = defined.sum(axis=0)
        total = np.where(defined, areas, 0.0).sum(axis=0)
        macros.append(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
    return np.concatenate(macros, axis=1)


def interval(values: FloatArray, *, estimate: float, level: float = 0.95) -> tuple[float, float]:
    """The central percentile interval of bootstrap values, moved so that their mean is the estimate.

    It is an interval of the measure's mean over test sets of this size. A draw repeats tracks, and repeats of a
    positive lift average precision, so plain percentiles lie too high for that; ROC-AUC is not lifted. Part of the
    lift is real, though: in small sets average precision is higher than in the population that they were drawn from,
    and of the population's PR-AUC this is no interval. ``python -m bench.coverage`` measures both, and
    docs/evaluation.md has the figures.

    Parameters
    ----------
    values : ndarray of float64, (resamples,)
        NaN entries are left out.
    estimate : float
        The measure on the data itself.
    level : float
        Share of the resamples inside, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end; both NaN when every value is.
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) + (estimate - defined.mean())
    return float(low), float(high)


def weighted_auc(
    positive: BoolArray, score: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]
) -> tuple[FloatArray, FloatArray]:
    """ROC-AUC and average precision of one tag under many sets of clip weights at once.

    Parameters
    ----------
    positive : ndarray of bool, (clips,)
    score : ndarray, (clips,)
        Finite.
    weights : ndarray, (clips, draws)
        Not negative. Sums are taken in this dtype; float32 is exact for whole numbers that add up to less than 2**24.

    Returns
    -------
    roc_auc, pr_auc : ndarray of float64, (draws,)
        NaN where the positives or the negatives weigh nothing.
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
    """How often each group is drawn, (draws, n_groups) at a time, `resamples` draws in all; the same for any pieces."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        drawn = rng.integers(n_groups, size=(min(at_once, resamples - start), n_groups))
        yield np.stack([np.bincount(row, minlength=n_groups) for row in drawn]).astype(np.float32)
