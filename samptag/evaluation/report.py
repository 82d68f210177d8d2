"""The report of an evaluation: macro and per-tag measures, intervals, differences; its JSON, ``samptag.eval/1``."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from samptag import __version__
from samptag.errors import DatasetError
from samptag.evaluation.metrics import (
    Agreement,
    FloatArray,
    agreement,
    interval,
    macro,
    pr_auc,
    present,
    rankable,
    resample,
    roc_auc,
)
from samptag.evaluation.predictions import ScoreTable, Truth, align

SCHEMA = "samptag.eval/1"
# What a 95 % interval is an interval of; see `samptag.evaluation.metrics.interval`.
INTERVALS_OF = "the macro means over test sets of this size"

_DECIMALS = 6  # intervals are ten thousand times wider
_TOP = 5  # tags that `samptag tag` shows

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How predictions are scored."""

    positive_above: float = 0.0  # a label counts as positive when it is greater than this
    min_positives: int = 1  # tags with fewer positive clips are excluded and named
    resamples: int = 1000  # bootstrap draws of tracks
    seed: int = 0  # decides the draws, and the noise of a perturbation


@dataclass(frozen=True)
class TagMeasures:
    """One tag's measures: how many clips carry it, and its ROC-AUC and PR-AUC in [0, 1]."""

    tag: str
    positives: int
    roc_auc: float
    pr_auc: float


@dataclass(frozen=True)
class Macro:
    """Means over tags with their 95 % bootstrap intervals by track; the intervals are None where there is one track."""

    roc_auc: float
    pr_auc: float
    roc_auc_ci95: Interval | None
    pr_auc_ci95: Interval | None


@dataclass(frozen=True)
class Difference:
    """A difference of two macro measures with the 95 % interval of its paired bootstrap."""

    value: float
    ci95: Interval | None

    @property
    def meaningful(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


@dataclass(frozen=True)
class Comparison:
    """Another system on the same clips and tags; differences are the report's figures minus its."""

    model: str
    macro: Macro
    roc_auc: Difference
    pr_auc: Difference
    agreement: Agreement
    verdict: str  # whether the differences mean anything

    def to_dict(self) -> dict[str, Any]:
        """The comparison as the JSON report has it."""
        return {
            "model": self.model,
            "macro": _plain(self.macro),
            **_differences("difference", self.roc_auc, self.pr_auc),
            "meaningful": {"roc_auc": self.roc_auc.meaningful, "pr_auc": self.pr_auc.meaningful},
            "agreement": _plain(self.agreement),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Degradation:
    """The same system on clips with a `perturbation` such as ``noise:20dB``; a loss is clean minus degraded."""

    perturbation: str
    macro: Macro
    tags: tuple[TagMeasures, ...]
    roc_auc_loss: Difference
    pr_auc_loss: Difference

    def to_dict(self) -> dict[str, Any]:
        """The degradation as the JSON report has it."""
        return {
            "perturbation": self.perturbation,
            "macro": _plain(self.macro),
            **_differences("loss", self.roc_auc_loss, self.pr_auc_loss),
            "tags": _plain(self.tags),
        }


@dataclass(frozen=True)
class FailedClip:
    """A clip that could not be read, and is in no figure of the report."""

    path: str
    error: str


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationReport:
    """The result of an evaluation."""

    split_name: str  # the named split, or the truth file's name
    split_hash: str  # of the split's clips without the `failed` ones, or of the paths in the truth file
    part: str  # "train", "valid" or "test"; "" for a truth file
    clips: int  # how many were scored
    groups: int  # how many tracks (or artists) they come from
    model: str  # the weights, or the file with the scores
    # Which segments of each clip the scores are the mean of: "paper", "won", "all (hop 2.678 s, tail overlap)"; "" for
    # a file that does not say.
    protocol: str
    macro: Macro
    tags: tuple[TagMeasures, ...]  # in the data set's order
    excluded_tags: tuple[str, ...]  # tags in no mean: too few positive clips, or no negative one
    missing_tags: tuple[str, ...] = ()  # tags of the data set that the model does not know
    failed: tuple[FailedClip, ...] = ()
    scoring: Scoring
    against: Comparison | None = None
    perturbations: tuple[Degradation, ...] = ()
    warnings: tuple[str, ...] = ()
    scores: ScoreTable  # the predictions behind the figures, with every tag of the model

    def to_dict(self) -> dict[str, Any]:
        """The report in the JSON schema ``samptag.eval/1``: str, int, float, bool, list, dict and None only."""
        sha256 = self.scores.weights_sha256
        return {
            "schema": SCHEMA,
            "split": {"name": self.split_name, "hash": self.split_hash, "part": self.part or None},
            "clips": self.clips,
            "groups": self.groups,
            "model": self.model,
            "weights": None if sha256 is None else {"name": self.model, "sha256": sha256},
            "protocol": self.protocol or None,
            "macro": _plain(self.macro),
            "tags": _plain(self.tags),
            "excluded_tags": list(self.excluded_tags),
            "missing_tags": list(self.missing_tags),
            "failed": _plain(self.failed),
            "positive_above": self.scoring.positive_above,
            "min_positives": self.scoring.min_positives,
            "bootstrap": {"resamples": self.scoring.resamples, "seed": self.scoring.seed, "intervals_of": INTERVALS_OF},
            "against": self.against.to_dict() if self.against else None,
            "perturbations": [degradation.to_dict() for degradation in self.perturbations],
            "warnings": list(self.warnings),
            "version": __version__,
        }


def _differences(word: str, roc: Difference, pr: Difference) -> dict[str, Any]:
    return {
        f"roc_auc_{word}": _plain(roc.value),
        f"roc_auc_{word}_ci95": _plain(roc.ci95),
        f"pr_auc_{word}": _plain(pr.value),
        f"pr_auc_{word}_ci95": _plain(pr.ci95),
    }


def _plain(value: Any) -> Any:
    """A dataclass, a number or a tuple of these for JSON, which has no NaN."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, _DECIMALS)
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def make_report(
    truth: Truth,
    scores: ScoreTable,
    *,
    other: ScoreTable | None,
    degraded: Sequence[tuple[str, ScoreTable]],
    scoring: Scoring,
) -> EvaluationReport:
    """The report of `scores`, which hold every clip and tag of `truth`."""
    tags = _rankable_tags(truth, scoring=scoring)
    columns = [truth.tags.index(tag) for tag in tags]
    kept = truth.restricted(truth.keys, tags)
    n_groups = len(set(truth.groups))
    values_of = partial(align, keys=truth.keys, tags=truth.tags)
    ours = values_of(scores)
    own = _measure(ours[:, columns], truth=kept, scoring=scoring)
    against = None
    if other is not None:
        theirs = values_of(other)
        scored = _measure(theirs[:, columns], truth=kept, scoring=scoring)
        gaps = _differences_of(own, scored)
        alike = agreement(ours, reference=theirs, top=min(_TOP, len(truth.tags)))
        words = _verdict((scores.name, other.name), gaps, groups=n_groups)
        against = Comparison(other.name, scored.macro, *gaps, alike, words)
    degradations = []
    for name, table in degraded:
        scored = _measure(values_of(table)[:, columns], truth=kept, scoring=scoring)
        degradations.append(Degradation(name, scored.macro, scored.tags, *_differences_of(own, scored)))
    return EvaluationReport(
        split_name=truth.split_name,
        split_hash=truth.split_hash,
        part=truth.part,
        clips=len(truth.keys),
        groups=n_groups,
        model=scores.name,
        protocol=scores.protocol,
        macro=own.macro,
        tags=own.tags,
        excluded_tags=tuple(tag for tag in truth.tags if tag not in tags),
        scoring=scoring,
        against=against,
        perturbations=tuple(degradations),
        warnings=tuple(_doubts(truth, scores, other)),
        scores=scores,
    )


def _doubts(truth: Truth, scores: ScoreTable, other: ScoreTable | None) -> Iterator[str]:
    """A warning for rows that the truth does not have, and for systems that scored different segments."""
    for table in filter(None, (scores, other)):
        if rows := len(set(table.keys) - set(truth.keys)):
            yield f"{table.name}: {rows} of {len(table.keys)} rows are not in the truth and were left out"
    if other is not None and other.protocol and scores.protocol and other.protocol != scores.protocol:
        protocols = f"{other.name} was scored by the protocol {other.protocol}, {scores.name} by {scores.protocol}"
        yield f"{protocols}: a part of the difference is that of the segments"


class _Scored(NamedTuple):
    """One system's measures, and the bootstrap draws (2, resamples) that differences are taken from."""

    macro: Macro
    tags: tuple[TagMeasures, ...]
    drawn: FloatArray | None  # None where there is only one group to draw


def _rankable_tags(truth: Truth, *, scoring: Scoring) -> tuple[str, ...]:
    """The tags with enough positive clips and a negative one; a DatasetError where there is none."""
    positives = present(truth.labels, positive_above=scoring.positive_above)
    kept = rankable(positives) & (positives.sum(axis=0) >= scoring.min_positives)
    if not kept.any():
        least = f"at least {max(1, scoring.min_positives)} positive and 1 negative clip"
        among = f"among {len(truth.keys)} clips (positive: a label above {scoring.positive_above:g})"
        raise DatasetError(f"{truth.split_name}: none of {len(truth.tags)} tags has {least} {among}")
    return tuple(truth.tags[tag] for tag in np.flatnonzero(kept))


def _measure(values: FloatArray, *, truth: Truth, scoring: Scoring) -> _Scored:
    """The measures of one system's scores, (clips, tags), for the clips and tags of `truth`, which are rankable."""
    positives = present(truth.labels, positive_above=scoring.positive_above)
    roc, pr = roc_auc(positives, values), pr_auc(positives, values)
    drawn = None
    if len(set(truth.groups)) > 1:
        drawn = resample(positives, values, groups=truth.groups, resamples=scoring.resamples, seed=scoring.seed)
    means = macro(roc), macro(pr)
    ends = [each and (max(0.0, each[0]), min(1.0, each[1])) for each in _ci95(drawn, means)]
    tags = map(TagMeasures, truth.tags, positives.sum(axis=0).tolist(), roc.tolist(), pr.tolist())
    return _Scored(Macro(*means, *ends), tuple(tags), drawn)


def _differences_of(first: _Scored, second: _Scored) -> tuple[Difference, Difference]:
    """First minus second in macro ROC-AUC and in macro PR-AUC, with the intervals of the paired draws."""
    gaps = first.macro.roc_auc - second.macro.roc_auc, first.macro.pr_auc - second.macro.pr_auc
    drawn = None if first.drawn is None or second.drawn is None else first.drawn - second.drawn
    roc, pr = (Difference(gap, ends) for gap, ends in zip(gaps, _ci95(drawn, gaps), strict=True))
    return roc, pr


def _ci95(drawn: FloatArray | None, estimates: Sequence[float]) -> list[Interval | None]:
    if drawn is None:
        return [None, None]
    return [interval(values, estimate=estimate) for values, estimate in zip(drawn, estimates, strict=True)]


def _verdict(names: Sequence[str], gaps: Sequence[Difference], *, groups: int) -> str:
    """A sentence each on whether the gaps, first minus second in ROC-AUC and PR-AUC, mean anything."""
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
