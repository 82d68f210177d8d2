"""`samptag eval`: how well a model, or anyone's predictions, rank the tags of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from samptag.errors import UsageError

__all__ = ["EvalRequest", "evaluate_command"]

_PARTS = ("train", "valid", "test")
_TRUTH = "What is true"
_SYSTEM = "What is scored"
_FIGURES = "Figures"
_OUTPUT = "Output"


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What one call of `samptag eval` asks for; the fields are the options of the same names, but for two.

    Attributes
    ----------
    split : str or None
        The named split; None for the data set's usual one.
    part : str
        "train", "valid" or "test".
    """

    data: Path | None
    truth: Path | None
    split: str | None
    part: str
    format: str | None
    subset: str | None
    model: str | None
    scores: Path | None
    against: Path | None
    perturb: tuple[str, ...]
    device: str
    group: str
    positive_above: float
    min_positives: int
    resamples: int
    seed: int
    predictions: Path | None
    as_json: bool
    output: Path | None
    progress: bool | None


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

    $ samptag eval --data mtat/ --perturb mp3:32k
    $ samptag eval --scores est.csv --truth gt.csv --against other.csv
    """
    _check_choices(data=data, truth=truth, model=model, scores=scores, perturb=perturb, predictions=predictions)
    name, part = _parse_split(split)

    from samptag.cli.eval_run import run

    request = EvalRequest(
        data=data,
        truth=truth,
        split=name,
        part=part,
        format=format,
        subset=subset,
        model=model,
        scores=scores,
        against=against,
        perturb=tuple(perturb or ()),
        device=device,
        group=group,
        positive_above=positive_above,
        min_positives=min_positives,
        resamples=resamples,
        seed=seed,
        predictions=predictions,
        as_json=as_json or (output is not None and output.suffix.lower() == ".json"),
        output=output,
        progress=progress,
    )
    raise typer.Exit(run(request))


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
