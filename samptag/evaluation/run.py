"""Complete evaluations: a model on a data set, or any system's predictions against a truth."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from samptag.core.protocols import PUBLISHED, Protocol, Tail, segment_starts
from samptag.data.dataset import Clip, Dataset, split_hash
from samptag.data.formats import open_dataset
from samptag.errors import AudioError, DatasetError, UsageError
from samptag.evaluation.perturb import Block, Perturbation, parse_perturbation
from samptag.evaluation.predictions import ScoreTable, Truth, read_groups, read_scores, read_truth
from samptag.evaluation.report import EvaluationReport, FailedClip, Scoring, make_report
from samptag.pretrained import DEFAULT, load_registry
from samptag.ranks import Ranks
from samptag.tagging.files import Input
from samptag.tagging.tagger import Tagger
from samptag.text import Progress, counted

_SPOOL_BYTES = 1 << 24  # four minutes at 16 kHz wait in memory, longer clips in a file
# Data sets on which people publish scores; the names of their splits begin with these words.
_PUBLIC = ("mtat", "msd", "jamendo")


def evaluate(
    data: str | Path | Dataset,
    *,
    model: str | Path | Tagger | None = None,
    part: str = "test",
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    protocol: Protocol | None = None,
    hop_seconds: float | None = None,
    tail: Tail | None = None,
    group: str | Path = "track",
    against: str | Path | ScoreTable | None = None,
    perturbations: Sequence[str | Perturbation] = (),
    scoring: Scoring = Scoring(),  # noqa: B008  # frozen
    device: str = "auto",
    ranks: Ranks = Ranks(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> EvaluationReport:
    """How well a model ranks the tags of a data set; a clip's scores are means over its segments.

    The data set's tags are matched to the model's by name. Clips that cannot be read are left out, and named; the
    split's hash is then that of the others, as in a training on the same files.

    Parameters
    ----------
    data : str, Path or Dataset
        A data set folder or manifest, or an opened data set.
    model : str, Path, Tagger or None
        Weights by name or file; None for the bundled ones that know most of the data set's tags, `default_weights`.
    part : str
        "train", "valid" or "test".
    format, split, subset : str or None
        As for `samptag.data.formats.open_dataset`: the data set's layout, named split and subset.
    protocol : {"paper", "won", "all"} or None
        Which segments of a clip are scored: a published procedure's (see `samptag.core.protocols.segment_starts`), or
        those of `samptag tag`. None for "all" where `hop_seconds` or `tail` is given, else `default_protocol`.
    hop_seconds, tail
        As for the Tagger, with the protocol "all".
    group : str or Path
        What the bootstrap draws: "track" for the data set's own groups, "clip", or a CSV file of path and group.
    against : str, Path, ScoreTable or None
        Another system's predictions for the same clips, e.g. a CSV file; the report then has the differences.
    perturbations : sequence of str or Perturbation
        Degradations under which the clips are scored again, e.g. ``"noise:20dB"``; see `parse_perturbation`.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps"; ignored when `model` is a Tagger, as are hop and tail.
    ranks : Ranks
        The place among processes that share the clips, `Ranks.joined`; each of them returns the whole report.
    progress : callable or None
        Called with ("evaluating", clips scored so far, clips in all); a perturbation counts each clip again.

    Raises
    ------
    DatasetError
        When the data set cannot be used, shares no tag with the model, or no clip of it can be read.
    AudioError
        When a clip that can be read clean cannot be read degraded, since a loss must be of the same clips.
    WeightsError, DeviceError, UsageError
        When the model, the device, the protocol or a perturbation cannot be used.

    Examples
    --------
    >>> report = samptag.evaluate("mtat/", protocol="paper")  # doctest: +SKIP
    >>> report.macro.roc_auc, report.macro.roc_auc_ci95, report.protocol  # doctest: +SKIP
    """
    wanted = [each if isinstance(each, Perturbation) else parse_perturbation(each) for each in perturbations]
    spaced = hop_seconds is not None or tail is not None
    if protocol in PUBLISHED and spaced:
        raise UsageError(f"the protocol {protocol!r} decides which segments are scored: leave out --hop and --tail")
    dataset = data if isinstance(data, Dataset) else open_dataset(data, format=format, split=split, subset=subset)
    truth = _regrouped(truth_of(dataset, part=part), group)
    other = read_scores(against) if isinstance(against, str | Path) else against
    tagger = default_weights(truth.tags) if model is None else model
    if not isinstance(tagger, Tagger):
        tagger = Tagger.from_pretrained(tagger, device=device, hop_seconds=hop_seconds, tail=tail or "overlap")
    if protocol is None:
        spaced = spaced or tagger.hop != tagger.length
        protocol = "all" if spaced else default_protocol(dataset.format, tagger.card.name)
    for perturbation in wanted:
        perturbation.check(tagger.sample_rate)
    missing = tuple(tag for tag in truth.tags if tag not in tagger.tags)
    if len(missing) == len(truth.tags):
        named = f"{tagger.card.name} knows none of its {len(missing)} tags ({missing[0]}, ...)"
        raise DatasetError(f"{dataset.root}: {named}")
    score = partial(score_clips, tagger, protocol=protocol, seed=scoring.seed, ranks=ranks, progress=progress)
    clips = dataset.select(part)
    clean, failed = score(clips, total=len(clips) * (1 + len(wanted)))
    unread = {clip.path for clip in failed}
    readable = [clip for clip in clips if clip.key not in unread]
    if not readable:
        raise DatasetError(f"none of {len(failed)} clips can be read; the first: {failed[0].error}")
    total = len(clips) + len(readable) * len(wanted)
    degraded = []
    for turn, perturbation in enumerate(wanted):
        done = len(clips) + turn * len(readable)
        table, lost = score(readable, perturbation=perturbation, done=done, total=total)
        if lost:
            raise AudioError(f"{lost[0].path} can be read clean but not with {perturbation.name}: {lost[0].error}")
        degraded.append((perturbation.name, table))
    scored = split_hash((clip.key, clip.part) for clip in dataset.clips if clip.key not in unread)
    known = truth.restricted(clean.keys, [tag for tag in truth.tags if tag not in missing])
    report = make_report(replace(known, split_hash=scored), clean, other=other, degraded=degraded, scoring=scoring)
    warnings = report.warnings
    if absent := dataset.unusable:
        first = f"the first: {absent[0].path}; 'samptag data check' names all"
        words = f"{counted(len(absent), 'listed clip')} could not be scored (missing, unreadable or too short), {first}"
        warnings = (f"{dataset.root}: {words}", *warnings)
    return replace(report, missing_tags=missing, failed=failed, warnings=warnings)


def evaluate_scores(
    scores: str | Path | ScoreTable,
    *,
    truth: str | Path | Truth,
    group: str | Path = "track",
    against: str | Path | ScoreTable | None = None,
    scoring: Scoring = Scoring(),  # noqa: B008  # frozen
) -> EvaluationReport:
    """How well any system's predictions rank the tags of a truth; loads no model and no torch.

    Both may be files, as docs/evaluation.md describes them; the rest is as for `evaluate`. A DatasetError where one
    cannot be used, or rows or tags of the truth are missing from the predictions.
    """
    known = read_truth(truth) if isinstance(truth, str | Path) else truth
    table = read_scores(scores) if isinstance(scores, str | Path) else scores
    other = read_scores(against) if isinstance(against, str | Path) else against
    return make_report(_regrouped(known, group), table, other=other, degraded=(), scoring=scoring)


def truth_of(dataset: Dataset, *, part: str = "test") -> Truth:
    """The labels and groups of one part ("train", "valid" or "test") of a data set."""
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


def default_protocol(format: str, model: str) -> Protocol:
    """The protocol to score the weights `model` by on a data set of a format, as docs/evaluation.md says."""
    if format not in _PUBLIC:
        return "all"
    entry = load_registry().entries.get(model)
    scores = entry.scores if entry is not None else ()
    return next((score.protocol for score in scores if score.protocol and score.split.startswith(_PUBLIC)), "paper")


def default_weights(tags: Iterable[str]) -> str:
    """The bundled weights that know most of the tags; where several know as many, the default of `samptag tag`."""
    wanted = set(tags)
    bundled = (entry for entry in load_registry().entries.values() if entry.file is not None)
    known = {entry.name: len(wanted.intersection(entry.tags.tags)) for entry in bundled}
    return max((DEFAULT, *known), key=lambda name: known.get(name, 0))


def score_clips(
    tagger: Tagger,
    clips: Sequence[Clip],
    *,
    protocol: Protocol = "all",
    perturbation: Perturbation | None = None,
    seed: int = 0,
    ranks: Ranks = Ranks(),  # noqa: B008  # frozen
    done: int = 0,
    total: int | None = None,
    progress: Progress | None = None,
) -> tuple[ScoreTable, tuple[FailedClip, ...]]:
    """The scores, float32 in [0, 1], of the readable clips in order under one condition, and the unreadable clips.

    `progress` counts on from `done`, the clips scored before, to `total`, by default the number of these `clips`.
    """
    if protocol in PUBLISHED and tagger.hop != tagger.length:
        raise UsageError(f"the protocol {protocol!r} needs a Tagger whose segments touch: leave out hop_seconds")

    def changed(key: str, blocks: Iterable[Block]) -> Iterable[Block]:
        if perturbation is not None:
            blocks = perturbation.apply(blocks, sample_rate=tagger.sample_rate, key=key, seed=seed)
        if protocol == "all":
            return blocks
        return _published_segments(blocks, protocol, tagger.length, tagger.sample_rate)

    inputs = [Input(path=clip.key, source=str(clip.path)) for clip in clips]
    results = ranks.spread(
        inputs, lambda items: tagger.tag_many(items, taggram=False, transform=changed), size=lambda item: item.size
    )
    rows, failed = {}, []
    for count, result in enumerate(results, start=done + 1):
        if result.error is None:
            rows[result.path] = [item.score for item in result.scores]
        else:
            failed.append(FailedClip(result.path, result.error.message))
        if progress is not None:
            progress("evaluating", count, total or len(inputs))
    spacing = f" (hop {tagger.hop / tagger.sample_rate:.4g} s, tail {tagger.tail})" if protocol == "all" else ""
    table = ScoreTable(
        name=tagger.card.name,
        keys=tuple(rows),
        tags=tagger.tags,
        values=np.array(list(rows.values()), dtype=np.float32).reshape(len(rows), len(tagger.tags)),
        protocol=protocol + spacing,
        weights_sha256=tagger.weights_sha256,
    )
    return table, tuple(failed)


def _published_segments(
    blocks: Iterable[Block], protocol: Literal["paper", "won"], length: int, sample_rate: int
) -> Iterator[Block]:
    """The segments that a protocol takes of a clip, end to end; they depend on the length, known when the clip ends."""
    size = np.dtype(np.float32).itemsize
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        for block in blocks:
            spool.write(block.tobytes())
        for start in segment_starts(spool.tell() // size, protocol=protocol, length=length, sample_rate=sample_rate):
            spool.seek(start * size)
            yield np.frombuffer(spool.read(length * size), dtype=np.float32)


def _regrouped(truth: Truth, group: str | Path) -> Truth:
    """`truth` with the groups that `group` asks for: "track", "clip", or those in a CSV file."""
    if group == "track":
        return truth
    if group == "clip":
        return replace(truth, groups=truth.keys)
    group_of = read_groups(group)
    missing = [key for key in truth.keys if key not in group_of]
    if missing:
        count = f"{len(missing)} of {len(truth.keys)}"
        raise DatasetError(f"{group}: no group for {count} clips, the first is {missing[0]}")
    return replace(truth, groups=tuple(group_of[key] for key in truth.keys))
