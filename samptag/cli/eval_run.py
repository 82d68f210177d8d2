"""`samptag eval` at work: data, model and outputs brought together; imported once the options are checked."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TextIO

from samptag.cli.console import note
from samptag.cli.eval_tables import as_tables, as_tsv, remarks
from samptag.cli.evaluate import EvalRequest
from samptag.cli.output import quiet_codecs, standard_output, text_file
from samptag.cli.progress import progress_bar
from samptag.data import Dataset, open_dataset
from samptag.errors import UsageError
from samptag.evaluation import EvaluationReport, Scoring, assist, evaluate, evaluate_scores, truth_of
from samptag.evaluation.perturb import parse_perturbation
from samptag.evaluation.predictions import Truth, scores_to_csv
from samptag.tagging.shard import Ranks
from samptag.text import valid_text

__all__ = ["run"]

SOME_FAILED = 1


def run(request: EvalRequest) -> int:
    """The exit code, after everything asked for has been scored and written.

    Parameters
    ----------
    request : EvalRequest

    Returns
    -------
    int
        0, or 1 when clips could not be read.

    Raises
    ------
    SamptagError
        When there is no report.
    """
    ranks = Ranks.from_environment()
    if ranks is not None and ranks.rank != 0:
        if request.data is not None and request.scores is None:
            _help(request, request.data, ranks)
        return 0
    on_terminal = request.output is None and sys.stdout is not None and sys.stdout.isatty()
    with ExitStack() as files:
        # Opened before the work, so that a place that cannot be written is found out before it.
        out = files.enter_context(standard_output() if request.output is None else text_file(str(request.output)))
        table = None if request.predictions is None else files.enter_context(text_file(str(request.predictions)))
        report = _report(request, ranks)
        if request.as_json:
            out.write(valid_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=2)) + "\n")
        elif on_terminal:
            _draw(report, out)
        else:
            out.write(valid_text(as_tsv(report)))
        if table is not None:
            table.write(valid_text(scores_to_csv(report.scores)))
    for remark in remarks(report):
        note(remark)
    return SOME_FAILED if report.failed else 0


def _report(request: EvalRequest, ranks: Ranks | None) -> EvaluationReport:
    scoring = Scoring(
        positive_above=request.positive_above,
        min_positives=request.min_positives,
        resamples=request.resamples,
        seed=request.seed,
    )
    known: Path | Truth
    match request.data, request.truth, request.scores:
        case Path() as data, None, None:
            return _listen(request, data, scoring, ranks)
        case Path() as data, None, Path() as scores:
            known = truth_of(_found(request, data), part=request.part)
        case None, Path() as known, Path() as scores:
            pass
        case _:
            raise UsageError("nothing to score against: give --data DIR, or --scores FILE with --truth FILE")
    return evaluate_scores(scores, truth=known, group=request.group, against=request.against, scoring=scoring)


def _listen(request: EvalRequest, data: Path, scoring: Scoring, ranks: Ranks | None) -> EvaluationReport:
    # A slip of the pen is told before the clips are measured, which may take minutes.
    perturbations = [parse_perturbation(text) for text in request.perturb]
    dataset = _found(request, data)
    quiet_codecs()
    with progress_bar(request.progress) as bar:
        return evaluate(
            dataset,
            model=request.model,
            part=request.part,
            group=request.group,
            against=request.against,
            perturbations=perturbations,
            scoring=scoring,
            device=request.device if ranks is None else ranks.device(request.device),
            ranks=ranks,
            progress=partial(bar, "evaluating"),
        )


def _help(request: EvalRequest, data: Path, ranks: Ranks) -> None:
    """Hear a share of the clips for rank 0."""
    assist(
        _open(request, data),
        ranks=ranks,
        model=request.model,
        part=request.part,
        perturbations=request.perturb,
        scoring=Scoring(seed=request.seed),
        device=ranks.device(request.device),
    )


def _found(request: EvalRequest, data: Path) -> Dataset:
    """The data set, after saying what it is: hearing it may take hours."""
    dataset = _open(request, data)
    n_clips = len(dataset.select(request.part))
    split = f"{dataset.split_name} ({dataset.split_hash})"
    note(f"{data}: {dataset.format}, split {split}: {n_clips} {request.part} clips")
    return dataset


def _open(request: EvalRequest, data: Path) -> Dataset:
    with progress_bar(request.progress) as bar:
        return open_dataset(
            data,
            format=request.format,
            split=request.split,
            subset=request.subset,
            progress=partial(bar, "measuring clips"),
        )


def _draw(report: EvaluationReport, out: TextIO) -> None:
    from rich.console import Console

    Console(file=out, markup=False, highlight=False, emoji=False).print(as_tables(report))
