"""`samptag eval`: how well a model, or anyone's predictions, rank the tags of a data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from samptag.errors import UsageError

if TYPE_CHECKING:
    from samptag.data import Dataset
    from samptag.evaluation import EvaluationReport

__all__ = ["evaluate_command"]

_Form = Literal["json", "tsv", "table"]
_PARTS = ("train", "valid", "test")
_TRUTH = "What is true"
_SYSTEM = "What is scored"
_FIGURES = "Figures"
_OUTPUT = "Output"


def evaluate_command(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A data set: folder or manifest.", rich_help_panel=_TRUTH),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            metavar="FILE",
            help="Labels in [0, 1] as CSV: path, then one column a tag; a column 'group' names the track. No audio.",
            rich_help_panel=_TRUTH,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="[NAME:]PART",
            help="train, valid or test of the data set's usual split; or another named split, alone or with its part: "
            "mtat-pons-2018, mtat-pons-2018:valid.",
            rich_help_panel=_TRUTH,
        ),
    ] = "test",
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="The data set's layout, if not found out.", rich_help_panel=_TRUTH
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option("--subset", metavar="NAME", help="MTG-Jamendo's subset of tags.", rich_help_panel=_TRUTH),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME|FILE", help="Weights; the default ones if none.", rich_help_panel=_SYSTEM
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Any system's predictions as CSV instead of a model: path, then one column a tag, in any order.",
            rich_help_panel=_SYSTEM,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE",
            help="Another system's predictions: adds the paired bootstrap of the difference, and whether it means "
            "anything. It is over the choice of tracks; the spread between training runs comes on top.",
            rich_help_panel=_SYSTEM,
        ),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            "--perturb",
            metavar="WHAT",
            help="Listen again under a degradation, and tabulate the loss; may be given often. noise:20dB (white, "
            "relative to the clip's level), gain:-6 (dB, unclipped), mp3:32k (bit/s, constant), lowpass:4000 (Hz).",
            rich_help_panel=_SYSTEM,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_SYSTEM)
    ] = "auto",
    group: Annotated[
        str,
        typer.Option(
            "--group",
            metavar="track|clip|FILE",
            help="What the bootstrap draws: the data set's tracks (or artists), single clips, or the groups in a CSV "
            "of path and group.",
            rich_help_panel=_FIGURES,
        ),
    ] = "track",
    positive_above: Annotated[
        float,
        typer.Option("--positive-above", help="A label above this counts as positive.", rich_help_panel=_FIGURES),
    ] = 0.0,
    min_positives: Annotated[
        int,
        typer.Option("--min-positives", min=1, help="Leave out tags with fewer positives.", rich_help_panel=_FIGURES),
    ] = 1,
    resamples: Annotated[
        int, typer.Option("--resamples", min=1, help="Bootstrap draws.", rich_help_panel=_FIGURES)
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Decides the draws and the noise.", rich_help_panel=_FIGURES)
    ] = 0,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Also write the model's scores as CSV: path, then one column a tag.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.", rich_help_panel=_OUTPUT)] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write there instead of standard output: JSON with --json or a name in .json, else TSV.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="The progress bar.", rich_help_panel=_OUTPUT)
    ] = None,
) -> None:
    """Score a model on a data set, or predictions against a truth.

    Macro and per-tag ROC-AUC and PR-AUC (average precision), with 95 % bootstrap intervals by track.

        samptag eval --data mtat/ --perturb mp3:32k

        samptag eval --scores est.csv --truth gt.csv --against other.csv
    """
    _check_choices(data=data, truth=truth, model=model, scores=scores, perturb=perturb, predictions=predictions)

    from samptag.cli.console import note
    from samptag.cli.eval_tables import remarks
    from samptag.cli.output import standard_output, text_file
    from samptag.evaluation import Scoring, evaluate, evaluate_scores, truth_of
    from samptag.evaluation.predictions import scores_to_csv
    from samptag.tagging.result import valid_text

    scoring = Scoring(positive_above=positive_above, min_positives=min_positives, resamples=resamples, seed=seed)
    form: _Form = "json" if as_json or (output is not None and output.suffix.lower() == ".json") else "tsv"
    if form == "tsv" and output is None and sys.stdout is not None and sys.stdout.isatty():
        form = "table"
    name, part = _parse_split(split)
    with ExitStack() as files:
        # Opened before the work, so that a place that cannot be written is found out before it.
        out = files.enter_context(standard_output() if output is None else text_file(str(output)))
        table = None if predictions is None else files.enter_context(text_file(str(predictions)))
        if data is not None:
            dataset = _open(data, split=name, format=format, subset=subset, progress=progress)
            if scores is not None:
                known = truth_of(dataset, part=part)
                report = evaluate_scores(scores, truth=known, against=against, group=group, scoring=scoring)
            else:
                with _bar("evaluating", progress) as advance:
                    report = evaluate(
                        dataset,
                        model=model,
                        part=part,
                        group=group,
                        against=against,
                        perturbations=perturb or (),
                        scoring=scoring,
                        device=device,
                        progress=advance,
                    )
        elif truth is not None and scores is not None:
            report = evaluate_scores(scores, truth=truth, against=against, group=group, scoring=scoring)
        else:
            raise UsageError("nothing to score against: give --data DIR, or --scores FILE with --truth FILE")
        _write(report, out, form)
        if table is not None:
            table.write(valid_text(scores_to_csv(report.scores)))
    for remark in remarks(report):
        note(remark)
    raise typer.Exit(1 if report.failed else 0)


def _check_choices(**given: object) -> None:
    """Raise `UsageError` when options exclude each other, or one lacks the other it needs."""
    chosen = {name for name, value in given.items() if value}
    for pair in (("data", "truth"), ("model", "scores")):
        if chosen >= set(pair):
            raise UsageError(f"--{pair[0]} and --{pair[1]} exclude each other")
    if "truth" in chosen and "scores" not in chosen:
        raise UsageError("--truth holds no audio for a model to hear: add --scores FILE, or give --data DIR")
    for name in ("perturb", "predictions"):
        if {name, "scores"} <= chosen:
            raise UsageError(f"--{name} needs a model that listens; --scores are finished predictions")


def _parse_split(text: str) -> tuple[str | None, str]:
    """The named split, None for the data set's usual one, and the part."""
    name, _, part = text.rpartition(":")
    if part in _PARTS:
        return name or None, part
    return text, "test"


def _open(data: Path, *, split: str | None, format: str | None, subset: str | None, progress: bool | None) -> Dataset:
    from samptag.data import open_dataset

    with _bar("measuring clips", progress) as advance:
        return open_dataset(data, format=format, split=split, subset=subset, progress=advance)


@contextmanager
def _bar(description: str, asked: bool | None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that learns its total with the first step."""
    from samptag.cli.console import new_progress, wants_progress

    if not wants_progress(asked):
        yield lambda done, in_all: None
        return
    from rich.progress import MofNCompleteColumn

    with new_progress(MofNCompleteColumn()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, in_all: bar.update(task, completed=done, total=in_all)


def _write(report: EvaluationReport, out: TextIO, form: _Form) -> None:
    from samptag.tagging.result import valid_text

    if form == "json":
        out.write(valid_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=2)) + "\n")
    elif form == "tsv":
        from samptag.cli.eval_tables import as_tsv

        out.write(valid_text(as_tsv(report)))
    else:
        from rich.console import Console

        from samptag.cli.eval_tables import as_tables

        Console(file=out, markup=False, highlight=False, emoji=False).print(as_tables(report))
