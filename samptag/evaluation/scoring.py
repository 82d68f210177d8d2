"""Predictions against truth: macro and per-tag measures, intervals, differences between two systems."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samptag.errors import DatasetError
from samptag.evaluation.bootstrap import interval, resample
from samptag.evaluation.metrics import FloatArray, macro, pr_auc, present, rankable, roc_auc
from samptag.evaluation.predictions import Truth
from samptag.evaluation.report import Difference, Interval, Macro, TagMeasures

__all__ = ["Scored", "Scoring", "differences", "measure", "rankable_tags", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How predictions are scored.

    Attributes
    ----------
    positive_above : float
        A label counts as positive when it is greater than this.
    min_positives : int
        Tags with fewer positive clips are excluded, and named.
    resamples : int
        Bootstrap draws of tracks.
    seed : int
        Decides the draws, and the noise of a perturbation.
    """

    positive_above: float = 0.0
    min_positives: int = 1
    resamples: int = 1000
    seed: int = 0


class Scored(NamedTuple):
    """One system's measures, and the bootstrap draws (2, resamples) that differences are taken from."""

    macro: Macro
    tags: tuple[TagMeasures, ...]
    drawn: FloatArray | None  # None where there is only one group to draw


def rankable_tags(truth: Truth, *, scoring: Scoring) -> tuple[str, ...]:
    """The tags that can be measured: enough positive clips, and a negative one.

    Raises
    ------
    DatasetError
        When there is none.
    """
    positives = present(truth.labels, positive_above=scoring.positive_above)
    kept = rankable(positives) & (positives.sum(axis=0) >= scoring.min_positives)
    if not kept.any():
        raise DatasetError(
            f"{truth.split_name}: none of {len(truth.tags)} tags has at least {max(1, scoring.min_positives)} "
            f"positive and one negative among {len(truth.keys)} clips (positive: a label above "
            f"{scoring.positive_above:g})"
        )
    return tuple(truth.tags[tag] for tag in np.flatnonzero(kept))


def measure(values: FloatArray, *, truth: Truth, scoring: Scoring) -> Scored:
    """The measures of one system's scores (clips, tags) of the clips and tags of `truth`, in its order.

    All of the tags must be rankable.
    """
    positives = present(truth.labels, positive_above=scoring.positive_above)
    roc, pr = roc_auc(positives, values), pr_auc(positives, values)
    drawn = None
    if len(set(truth.groups)) > 1:
        drawn = resample(positives, values, groups=truth.groups, resamples=scoring.resamples, seed=scoring.seed)
    means = macro(roc), macro(pr)
    ends = _ci95(drawn, means)
    return Scored(
        macro=Macro(*means, *(each and (max(0.0, each[0]), min(1.0, each[1])) for each in ends)),
        tags=tuple(
            TagMeasures(tag, int(count), float(r), float(p))
            for tag, count, r, p in zip(truth.tags, positives.sum(axis=0), roc, pr, strict=True)
        ),
        drawn=drawn,
    )


def differences(first: Scored, second: Scored) -> tuple[Difference, Difference]:
    """First minus second in macro ROC-AUC and in macro PR-AUC, with the intervals of the paired draws."""
    gaps = first.macro.roc_auc - second.macro.roc_auc, first.macro.pr_auc - second.macro.pr_auc
    drawn = None if first.drawn is None or second.drawn is None else first.drawn - second.drawn
    roc, pr = (Difference(gap, ends) for gap, ends in zip(gaps, _ci95(drawn, gaps), strict=True))
    return roc, pr


def _ci95(drawn: FloatArray | None, estimates: Sequence[float]) -> list[Interval | None]:
    if drawn is None:
        return [None, None]
    return [interval(values, estimate=estimate) for values, estimate in zip(drawn, estimates, strict=True)]


def verdict(names: Sequence[str], gaps: Sequence[Difference], *, groups: int) -> str:
    """Whether two systems' difference means anything, in words.

    Parameters
    ----------
    names : sequence of str
        The first system and the second.
    gaps : sequence of Difference
        First minus second: ROC-AUC, PR-AUC.
    groups : int
        Number of tracks that were drawn from.

    Returns
    -------
    str
        One sentence a measure. The interval is over the choice of tracks only: it knows nothing of the spread between
        training runs.
    """
    first, second = names
    sentences = []
    for name, gap in zip(("ROC-AUC", "PR-AUC"), gaps, strict=True):
        if gap.ci95 is None:
            sentences.append(f"{name}: one group cannot say whether {gap.value:+.4f} means anything.")
            continue
        span = f"{gap.value:+.4f}, 95 % interval {gap.ci95[0]:+.4f} to {gap.ci95[1]:+.4f}"
        if gap.meaningful:
            word = "higher" if gap.value > 0 else "lower"
            sentences.append(f"{name}: {first} is {word} than {second} ({span}).")
        else:
            sentences.append(f"{name}: the difference means nothing on these {groups} groups ({span}).")
    return " ".join(sentences)
