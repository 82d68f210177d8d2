"""`samptag eval`: how well a model, or anyone's predictions, rank the tags of a data set."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samptag.cli.console import note
from samptag.cli.options import complete_weights, device_option
from samptag.cli.output import quiet_codecs, standard_output, text_file
from samptag.cli.progress import progress_bar
from samptag.errors import UsageError
from samptag.ranks import Ranks
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.data import Dataset

SOME_FAILED = 1
_PARTS = ("train", "valid", "test")
# Options by the panel of the help page that lists them.
_truth = partial(typer.Option, rich_help_panel="What is true")
_scored = partial(typer.Option, rich_help_panel="What is scored")
_figures = partial(typer.Option, rich_help_panel="Figures")
_written = partial(typer.Option, rich_help_panel="Output")


def evaluate_command(
    data: Annotated[Path | None, _truth("--data", metavar="DIR", help="A data set: folder or manifest.")] = None,
    truth: Annotated[
        Path | None,
        _truth(
            "--truth",
            metavar="FILE",
            help="Labels in [0, 1] as CSV: path, then one column a tag; a column 'group' names the track. No audio.",
        ),
    ] = None,
    split: Annotated[
        str,
        _truth(
            "--split",
            metavar="[NAME:]PART",
            help="train, valid or test of the data set's usual split; or another named split, alone or with its part: "
            "mtat-pons-2018, mtat-pons-2018:valid.",
        ),
    ] = "test",
    format: Annotated[
        str | None, _truth("--format", metavar="NAME", help="The data set's layout, if not found out.")
    ] = None,
    subset: Annotated[str | None, _truth("--subset", metavar="NAME", help="MTG-Jamendo's subset of tags.")] = None,
    model: Annotated[
        str | None,
        _scored(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="Weights by name or file; by default, of those that samptag comes with, the ones that know most of "
            "the data set's tags (samplecnn-3-9-mtat50 for MagnaTagATune).",
            autocompletion=complete_weights,
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        _scored(
            "--scores",
            metavar="FILE",
            help="Any system's predictions as CSV instead of a model: path, then one column a tag, in any order.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        _scored(
            "--against",
            metavar="FILE",
            help="Another system's predictions: adds the paired bootstrap of the difference, and whether it means "
            "anything. It is over the choice of tracks; the spread between training runs comes on top.",
        ),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        _scored(
            "--perturb",
            metavar="WHAT",
            help="Score again under a degradation, and tabulate the loss; may be given often. noise:20dB (white, "
            "relative to the clip's level), gain:-6 (dB, unclipped), mp3:32k (bit/s, constant), lowpass:4000 (Hz).",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        _scored(
            "--protocol",
            metavar="paper|won|all",
            help="Which segments of a clip are scored: those of Lee 2017 (10 of a 29 s clip for 3^9), the 16 evenly "
            "spaced ones of Won 2020, or all as samptag tag does. By default that of the weights' published score on "
            "MagnaTagATune, MSD and MTG-Jamendo, else paper; all on other data sets.",
        ),
    ] = None,
    hop: Annotated[
        float | None, _scored("--hop", metavar="SECONDS", help="Between starts of segments, for --protocol all.")
    ] = None,
    tail: Annotated[
        str | None,
        _scored(
            "--tail",
            metavar="overlap|pad|drop",
            help="What becomes of the rest of a clip, as in samptag tag, for --protocol all.",
        ),
    ] = None,
    device: Annotated[str, device_option("What is scored")] = "auto",
    group: Annotated[
        str,
        _figures(
            "--group",
            metavar="track|clip|FILE",
            help="What the bootstrap draws: the data set's tracks (or artists), single clips, or the groups in a CSV "
            "of path and group.",
        ),
    ] = "track",
    positive_above: Annotated[
        float, _figures("--positive-above", metavar="LABEL", help="A label above this counts as positive.")
    ] = 0.0,
    min_positives: Annotated[
        int, _figures("--min-positives", metavar="N", min=1, help="Leave out tags with fewer positives.")
    ] = 1,
    resamples: Annotated[int, _figures("--resamples", metavar="N", min=1, help="Bootstrap draws.")] = 1000,
    seed: Annotated[int, _figures("--seed", metavar="N", min=0, help="Decides the draws and the noise.")] = 0,
    predictions: Annotated[
        Path | None,
        _written(
            "--predictions", metavar="FILE", help="Also write the model's scores as CSV: path, then one column a tag."
        ),
    ] = None,
    as_json: Annotated[bool, _written("--json", help="One JSON document.")] = False,
    output: Annotated[
        Path | None,
        _written(
            "--output",
            "-o",
            metavar="FILE",
            help="Write there instead of standard output: JSON with --json or a name in .json, else TSV.",
        ),
    ] = None,
    progress: Annotated[bool | None, _written("--progress/--no-progress", help="The progress bar.")] = None,
) -> None:
    """Score a model on a data set, or predictions against a truth.

    Macro and per-tag ROC-AUC and PR-AUC (average precision), with 95 % bootstrap intervals by track.

    $ samptag eval --data mtat/ --perturb mp3:32k
    $ samptag eval --scores est.csv --truth gt.csv --against other.csv
    """
    _check_choices(data=data, truth=truth, model=model, scores=scores)
    if scores is not None:
        needy = {"perturb": perturb, "predictions": predictions, "protocol": protocol, "hop": hop, "tail": tail}
        for option in (name for name, value in needy.items() if value is not None):
            raise UsageError(f"--{option} needs a model and audio; --scores are finished predictions")
    _check_word("--protocol", protocol, ("paper", "won", "all"))
    _check_word("--tail", tail, ("overlap", "pad", "drop"))
    name, part = _parse_split(split)

    from samptag.cli.eval_tables import as_tables, as_tsv, remarks
    from samptag.data import open_dataset
    from samptag.evaluation import Scoring, evaluate, evaluate_scores, truth_of
    from samptag.evaluation.perturb import parse_perturbation
    from samptag.evaluation.predictions import scores_to_csv

    ranks = Ranks.from_environment()
    progress = progress if ranks.leads else False
    scoring = Scoring(positive_above=positive_above, min_positives=min_positives, resamples=resamples, seed=seed)
    perturbations = [parse_perturbation(text) for text in perturb or ()]

    def opened(folder: Path) -> Dataset:
        with progress_bar(progress) as bar:
            measuring = partial(bar, "measuring clips")
            dataset = open_dataset(folder, format=format, split=name, subset=subset, progress=measuring)
        if ranks.leads:
            clips = f"{len(dataset.select(part))} {part} clips"
            note(f"{folder}: {dataset.format}, split {dataset.split_name} ({dataset.split_hash}): {clips}")
        return dataset

    on_terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    with ExitStack() as files:
        if ranks.leads:
            # Opened before the work, so that a place that cannot be written is found out before it.
            out = files.enter_context(standard_output() if output is None else text_file(str(output)))
            table = None if predictions is None else files.enter_context(text_file(str(predictions)))
        if scores is not None:
            known = truth_of(opened(data), part=part) if data is not None else truth
            if known is None:
                raise UsageError(_NOTHING)
            report = evaluate_scores(scores, truth=known, group=group, against=against, scoring=scoring)
        elif data is not None:
            dataset = opened(data)
            quiet_codecs()
            with ranks.joined(), progress_bar(progress) as bar:
                report = evaluate(
                    dataset,
                    model=model,
                    part=part,
                    protocol=protocol,  # type: ignore[arg-type]  # checked above
                    hop_seconds=hop,
                    tail=tail,  # type: ignore[arg-type]
                    group=group,
                    against=against,
                    perturbations=perturbations,
                    scoring=scoring,
                    device=ranks.device(device),
                    ranks=ranks,
                    progress=partial(bar, "evaluating"),
                )
        else:
            raise UsageError(_NOTHING)
        if not ranks.leads:
            return
        if as_json or (output is not None and output.suffix.lower() == ".json"):
            out.write(valid_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=2)) + "\n")
        elif on_terminal:
            from samptag.cli.table import terminal

            terminal(out).print(as_tables(report))
        else:
            out.write(valid_text(as_tsv(report)))
        if table is not None:
            table.write(valid_text(scores_to_csv(report.scores)))
    for remark in remarks(report):
        note(remark)
    raise typer.Exit(SOME_FAILED if report.failed else 0)


_NOTHING = "nothing to score against: give --data DIR, or --scores FILE with --truth FILE"


def _check_choices(**given: object) -> None:
    """Raise `UsageError` when options exclude each other, or one lacks the other it needs."""
    chosen = {name for name, value in given.items() if value}
    for pair in (("data", "truth"), ("model", "scores")):
        if chosen >= set(pair):
            raise UsageError(f"--{pair[0]} and --{pair[1]} exclude each other")
    if "truth" in chosen and "scores" not in chosen:
        raise UsageError("--truth holds no audio for a model to score: add --scores FILE, or give --data DIR")


def _check_word(option: str, word: str | None, known: tuple[str, ...]) -> None:
    if word is not None and word not in known:
        raise UsageError(f"{option} {word}: choose {', '.join(known)}")


def _parse_split(text: str) -> tuple[str | None, str]:
    """The named split, None for the data set's usual one, and the part."""
    name, _, part = text.rpartition(":")
    if part in _PARTS:
        return name or None, part
    return text, "test"
