"""Evaluations from end to end: a model on a data set, or anyone's predictions against a truth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samptag.data import Dataset, open_dataset
from samptag.data.dataset import split_hash
from samptag.errors import DatasetError
from samptag.evaluation.metrics import agreement
from samptag.evaluation.perturb import Perturbation, parse_perturbation
from samptag.evaluation.predictions import ScoreTable, Truth, align, read_groups, read_scores, read_truth
from samptag.evaluation.report import Comparison, Degradation, EvaluationReport
from samptag.evaluation.scoring import Scored, Scorer, Scoring, verdict

if TYPE_CHECKING:
    from samptag.evaluation.listen import Listener
    from samptag.tagging.shard import Ranks
    from samptag.tagging.tagger import Tagger

__all__ = ["assist", "evaluate", "evaluate_scores", "truth_of"]

_TOP = 5  # tags that `samptag tag` shows


def evaluate(
    data: str | Path | Dataset,
    *,
    model: "str | Path | Tagger | None" = None,
    part: str = "test",
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    group: str | Path = "track",
    against: str | Path | ScoreTable | None = None,
    perturbations: Sequence[str | Perturbation] = (),
    scoring: Scoring = Scoring(),  # noqa: B008  # frozen
    device: str = "auto",
    ranks: "Ranks | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """How well a model ranks the tags of a data set: clip scores are the mean over all segments of each clip.

    The data set's tags are matched to the model's by name. Clips that cannot be read are left out, and named; the
    split's hash is then that of the others, as in a training on the same files.

    Parameters
    ----------
    data : str, Path or Dataset
        A data set folder or manifest, or an opened data set.
    model : str, Path, Tagger or None
        Weights by name or file; None for the default weights.
    part : str
        "train", "valid" or "test".
    format, split, subset : str or None
        As for `samptag.data.open_dataset`: the data set's layout, named split and subset.
    group : str or Path
        What the bootstrap draws: "track" for the data set's own groups, "clip", or a CSV file of path and group.
    against : str, Path, ScoreTable or None
        Another system's predictions of the same clips, e.g. a CSV file; the report then says what differs.
    perturbations : sequence of str or Perturbation
        Degradations under which the clips are heard again, e.g. ``"noise:20dB"``; see `parse_perturbation`.
    scoring : Scoring
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps"; of no meaning when `model` is a Tagger.
    ranks : Ranks or None
        Rank 0 among the processes that torchrun started, which share the clips; the others call `assist`.
    progress : callable or None
        Called with the number of clips heard so far and the number in all; a perturbation hears each clip again.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    DatasetError
        When the data set cannot be used, shares no tag with the model, or no clip of it can be read.
    WeightsError, DeviceError, UsageError
        When the model, the device or a perturbation cannot be used.
    """
    wanted = _parsed(perturbations)
    dataset = _dataset(data, format=format, split=split, subset=subset)
    truth = _regrouped(truth_of(dataset, part=part), group)
    other = read_scores(against) if isinstance(against, str | Path) else against
    tagger = _tagger(model, device)
    missing = tuple(tag for tag in truth.tags if tag not in tagger.tags)
    if len(missing) == len(truth.tags):
        raise DatasetError(
            f"{dataset.root}: {tagger.card.name} knows none of its {len(missing)} tags ({missing[0]}, ...)"
        )
    heard = _listener(tagger, dataset, part, wanted, scoring).hear(ranks=ranks, progress=progress)
    known = _restricted(truth, heard.clean.keys, [tag for tag in truth.tags if tag not in missing])
    lost = {clip.path for clip in heard.failed}
    readable = split_hash((clip.key, clip.split) for clip in dataset.clips if clip.key not in lost)
    known = replace(known, split_hash=readable)
    report = _report(known, heard.clean, other=other, degraded=heard.degraded, scoring=scoring)
    warnings = (*_absent(dataset), *report.warnings)
    return replace(report, missing_tags=missing, failed=heard.failed, warnings=warnings)


def assist(
    data: str | Path | Dataset,
    *,
    ranks: "Ranks",
    model: "str | Path | Tagger | None" = None,
    part: str = "test",
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    perturbations: Sequence[str | Perturbation] = (),
    scoring: Scoring = Scoring(),  # noqa: B008  # frozen
    device: str = "auto",
) -> None:
    """Hear this process's share of the clips for rank 0, which calls `evaluate` with the same arguments.

    Parameters and errors are those of `evaluate`.
    """
    dataset = _dataset(data, format=format, split=split, subset=subset)
    _listener(_tagger(model, device), dataset, part, _parsed(perturbations), scoring).assist(ranks)


def evaluate_scores(
    scores: str | Path | ScoreTable,
    *,
    truth: str | Path | Truth,
    group: str | Path = "track",
    against: str | Path | ScoreTable | None = None,
    scoring: Scoring = Scoring(),  # noqa: B008  # frozen
) -> EvaluationReport:
    """How well any system's predictions rank the tags of a truth; loads no model and no torch.

    Parameters
    ----------
    scores : str, Path or ScoreTable
        Predictions, e.g. a CSV file: path, then one column a tag. Rows and tags that the truth lacks are left out,
        with a warning in the report.
    truth : str, Path or Truth
        Labels in [0, 1] in the same form, with an optional column ``group``; or `truth_of` a data set.
    group, against, scoring
        As for `evaluate`; "track" means the column ``group`` where `truth` has one, and otherwise each row.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    DatasetError
        When a file cannot be used, or rows or tags of the truth are missing from the predictions.
    """
    known = read_truth(truth) if isinstance(truth, str | Path) else truth
    table = read_scores(scores) if isinstance(scores, str | Path) else scores
    other = read_scores(against) if isinstance(against, str | Path) else against
    return _report(_regrouped(known, group), table, other=other, degraded=(), scoring=scoring)


def truth_of(dataset: Dataset, *, part: str = "test") -> Truth:
    """The labels of one part ("train", "valid" or "test") of a data set."""
    clips = dataset.select(part)
    return Truth(
        keys=tuple(clip.key for clip in clips),
        tags=dataset.tags,
        labels=np.stack([clip.labels for clip in clips]),
        groups=tuple(clip.group for clip in clips),
        split_name=dataset.split_name,
        split_hash=dataset.split_hash,
        part=part,
    )


def _dataset(data: str | Path | Dataset, *, format: str | None, split: str | None, subset: str | None) -> Dataset:
    return data if isinstance(data, Dataset) else open_dataset(data, format=format, split=split, subset=subset)


def _absent(dataset: Dataset) -> Iterator[str]:
    """What a data set lists but cannot give, in any of its splits."""
    if dataset.unusable:
        yield (
            f"{dataset.root}: {len(dataset.unusable)} listed clips are missing, unreadable or too short, the first: "
            f"{dataset.unusable[0].path}; 'samptag data check' names all"
        )


def _parsed(perturbations: Sequence[str | Perturbation]) -> list[Perturbation]:
    return [each if isinstance(each, Perturbation) else parse_perturbation(each) for each in perturbations]


def _listener(
    tagger: "Tagger", dataset: Dataset, part: str, perturbations: Sequence[Perturbation], scoring: Scoring
) -> "Listener":
    from samptag.evaluation.listen import Listener

    return Listener(tagger, clips=dataset.select(part), perturbations=perturbations, seed=scoring.seed)


def _tagger(model: "str | Path | Tagger | None", device: str) -> "Tagger":
    from samptag.pretrained import DEFAULT
    from samptag.tagging.tagger import Tagger

    if isinstance(model, Tagger):
        return model
    return Tagger.from_pretrained(DEFAULT if model is None else model, device=device)


def _regrouped(truth: Truth, group: str | Path) -> Truth:
    """`truth` with the groups that `group` asks for: "track", "clip", or a CSV file."""
    if group == "track":
        return truth
    if group == "clip":
        return replace(truth, groups=truth.keys)
    group_of = read_groups(group)
    missing = [key for key in truth.keys if key not in group_of]
    if missing:
        raise DatasetError(
            f"{group}: no group for {len(missing)} of {len(truth.keys)} clips, the first is {missing[0]}"
        )
    return replace(truth, groups=tuple(group_of[key] for key in truth.keys))


def _restricted(truth: Truth, keys: Sequence[str], tags: Sequence[str]) -> Truth:
    """`truth` of the given clips and tags only."""
    row_of = {key: row for row, key in enumerate(truth.keys)}
    rows = [row_of[key] for key in keys]
    columns = [truth.tags.index(tag) for tag in tags]
    return replace(
        truth,
        keys=tuple(keys),
        tags=tuple(tags),
        labels=truth.labels[np.ix_(rows, columns)],
        groups=tuple(truth.groups[row] for row in rows),
    )


def _report(
    truth: Truth,
    scores: ScoreTable,
    *,
    other: ScoreTable | None,
    degraded: Sequence[tuple[str, ScoreTable]],
    scoring: Scoring,
) -> EvaluationReport:
    """The report of `scores`, which hold every clip and tag of `truth`."""
    scorer = Scorer(truth, scoring=scoring)

    def score(table: ScoreTable) -> Scored:
        return scorer.score(align(table, keys=truth.keys, tags=truth.tags))

    own = score(scores)
    return EvaluationReport(
        split_name=truth.split_name,
        split_hash=truth.split_hash,
        part=truth.part,
        clips=len(truth.keys),
        groups=scorer.n_groups,
        model=scores.name,
        macro=own.macro,
        tags=own.tags,
        excluded_tags=scorer.excluded_tags,
        positive_above=scoring.positive_above,
        min_positives=scoring.min_positives,
        resamples=scoring.resamples,
        seed=scoring.seed,
        against=None if other is None else _compared(scorer, truth, (scores, own), (other, score(other))),
        perturbations=tuple(_degraded(scorer, name, own, score(table)) for name, table in degraded),
        warnings=tuple(
            warning for table in (scores, other) if table is not None and (warning := _left_out(table, truth))
        ),
        scores=scores,
    )


def _compared(
    scorer: Scorer, truth: Truth, ours: tuple[ScoreTable, Scored], theirs: tuple[ScoreTable, Scored]
) -> Comparison:
    roc, pr = scorer.differences(ours[1], theirs[1])
    first, second = (align(table, keys=truth.keys, tags=truth.tags) for table, _ in (ours, theirs))
    alike = agreement(first, reference=second, top=min(_TOP, len(truth.tags)))
    words = verdict((ours[0].name, theirs[0].name), (roc, pr), groups=scorer.n_groups)
    return Comparison(theirs[0].name, theirs[1].macro, roc, pr, alike, words)


def _degraded(scorer: Scorer, name: str, clean: Scored, degraded: Scored) -> Degradation:
    roc, pr = scorer.differences(clean, degraded)
    return Degradation(name, degraded.macro, degraded.tags, roc, pr)


def _left_out(scores: ScoreTable, truth: Truth) -> str:
    """What of a predictions file the truth does not hold; "" for nothing."""
    rows = len(set(scores.keys) - set(truth.keys))
    return f"{scores.name}: {rows} of {len(scores.keys)} rows are not in the truth and were left out" if rows else ""
