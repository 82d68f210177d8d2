"""Predictions against truth: macro and per-tag measures, intervals, differences between two systems."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samptag.errors import DatasetError
from samptag.evaluation.bootstrap import Resamples, interval, resample
from samptag.evaluation.metrics import macro, pr_auc, present, rankable, roc_auc
from samptag.evaluation.predictions import Truth
from samptag.evaluation.report import Difference, Macro, TagMeasures

__all__ = ["Scored", "Scorer", "Scoring", "verdict"]


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


@dataclass(frozen=True)
class Scored:
    """One system's measures, and the bootstrap draws that differences are taken from."""

    macro: Macro
    tags: tuple[TagMeasures, ...]
    drawn: Resamples


class Scorer:
    """One truth, against which any number of systems are scored on the same tags, clips and bootstrap draws.

    Parameters
    ----------
    truth : Truth
    scoring : Scoring

    Attributes
    ----------
    excluded_tags : tuple of str
        Tags with too few positive clips, or with no negative one.
    n_groups : int

    Raises
    ------
    DatasetError
        When no tag is left.
    """

    def __init__(self, truth: Truth, *, scoring: Scoring) -> None:
        positives = present(truth.labels, positive_above=scoring.positive_above)
        kept = rankable(positives) & (positives.sum(axis=0) >= scoring.min_positives)
        if not kept.any():
            raise DatasetError(
                f"{truth.split_name}: none of {len(truth.tags)} tags has at least {max(1, scoring.min_positives)} "
                f"positive and one negative among {len(truth.keys)} clips (positive: a label above "
                f"{scoring.positive_above:g})"
            )
        self._kept = np.flatnonzero(kept)
        self._positives = positives[:, kept]
        self._tags = [truth.tags[tag] for tag in self._kept]
        self._groups = truth.groups
        self._scoring = scoring
        self.excluded_tags = tuple(truth.tags[tag] for tag in np.flatnonzero(~kept))
        self.n_groups = len(set(truth.groups))

    def score(self, values: npt.NDArray[np.floating]) -> Scored:
        """The measures of one system: `values` is (clips, tags), in the truth's order."""
        scores = values[:, self._kept]
        roc, pr = roc_auc(self._positives, scores), pr_auc(self._positives, scores)
        drawn = resample(
            self._positives, scores, groups=self._groups, resamples=self._scoring.resamples, seed=self._scoring.seed
        )
        tags = zip(self._tags, self._positives.sum(axis=0), roc, pr, strict=True)
        means = macro(roc), macro(pr)
        intervals = [self._ci95(*each) for each in zip((drawn.roc_auc, drawn.pr_auc), means, strict=True)]
        return Scored(
            macro=Macro(*means, *(ends and (max(0.0, ends[0]), min(1.0, ends[1])) for ends in intervals)),
            tags=tuple(TagMeasures(tag, int(count), float(r), float(p)) for tag, count, r, p in tags),
            drawn=drawn,
        )

    def differences(self, first: Scored, second: Scored) -> tuple[Difference, Difference]:
        """First minus second in macro ROC-AUC and in macro PR-AUC, with the intervals of the paired draws."""
        roc = first.macro.roc_auc - second.macro.roc_auc
        pr = first.macro.pr_auc - second.macro.pr_auc
        return (
            Difference(roc, self._ci95(first.drawn.roc_auc - second.drawn.roc_auc, roc)),
            Difference(pr, self._ci95(first.drawn.pr_auc - second.drawn.pr_auc, pr)),
        )

    def _ci95(self, drawn: npt.NDArray[np.float64], estimate: float) -> tuple[float, float] | None:
        """The interval of the draws; None where there is only one group to draw."""
        return interval(drawn, estimate=estimate) if self.n_groups > 1 else None


def verdict(names: Sequence[str], differences: Sequence[Difference], *, groups: int) -> str:
    """Whether two systems' difference means anything, in words.

    Parameters
    ----------
    names : sequence of str
        The first system and the second.
    differences : sequence of Difference
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
    for measure, gap in zip(("ROC-AUC", "PR-AUC"), differences, strict=True):
        if gap.ci95 is None:
            sentences.append(f"{measure}: one group cannot say whether {gap.value:+.4f} means anything.")
            continue
        span = f"{gap.value:+.4f}, 95 % interval {gap.ci95[0]:+.4f} to {gap.ci95[1]:+.4f}"
        if gap.meaningful:
            word = "higher" if gap.value > 0 else "lower"
            sentences.append(f"{measure}: {first} is {word} than {second} ({span}).")
        else:
            sentences.append(f"{measure}: the difference means nothing on these {groups} groups ({span}).")
    return " ".join(sentences)
