"""`samptag eval`: how well a model, or anyone's predictions, rank the tags of a data set."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from samptag.cli.console import SOME_FAILED, Bar, note, terminal
from samptag.cli.data import open_data
from samptag.cli.options import Data, Device, Format, Json, Progress, Subset, complete_weights, under
from samptag.cli.output import silence_codecs, standard_output, text_file
from samptag.core.protocols import Protocol, Tail
from samptag.errors import UsageError
from samptag.ranks import Ranks
from samptag.text import counted, first_names, valid_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from samptag.data.dataset import Dataset
    from samptag.evaluation.report import EvaluationReport, Interval, Macro

COLUMNS = (
    *("model", "split", "hash", "clips", "groups", "protocol", "condition", "tag", "positives"),
    *("roc_auc", "roc_auc_low", "roc_auc_high", "pr_auc", "pr_auc_low", "pr_auc_high"),
)
_CLEAN = "clean"
_NAMED = 8  # names that a remark lists before it counts the rest
_NOTHING = "nothing to score against: give --data DIR, or --scores FILE with --truth FILE"
# Options by the panel of the help page that lists them.
_truth = partial(typer.Option, rich_help_panel="What is true")
_scored = partial(typer.Option, rich_help_panel="What is scored")
_figures = partial(typer.Option, rich_help_panel="Figures")
_written = partial(typer.Option, rich_help_panel="Output")


def evaluate_command(
    data: Annotated[Path | None, under("What is true", Data)] = None,
    truth: Path | None = _truth(
        None,
        metavar="FILE",
        help="Labels in [0, 1] as CSV, no audio: path, then one column per tag; a column 'group' names the track.",
    ),
    split: str = _truth(
        "test",
        metavar="[NAME:]PART",
        help="train, valid or test of the data set's usual split, or another named split, alone or with its part: "
        "mtat-pons-2018, mtat-pons-2018:valid.",
    ),
    format: Annotated[str | None, under("What is true", Format)] = None,
    subset: Annotated[str | None, under("What is true", Subset)] = None,
    model: str | None = _scored(
        None,
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="Weights by name or file; by default, of those that samptag comes with, the ones that know most of "
        "the data set's tags (samplecnn-3-9-mtat50 for MagnaTagATune).",
        autocompletion=complete_weights,
    ),
    scores: Path | None = _scored(
        None,
        metavar="FILE",
        help="Any system's predictions as CSV instead of a model: path, then one column per tag, in any order.",
    ),
    against: Path | None = _scored(
        None,
        metavar="FILE",
        help="Another system's predictions: adds the paired bootstrap of the difference, over the choice of tracks, "
        "and whether it means anything. The spread between training runs comes on top.",
    ),
    perturb: list[str] | None = _scored(
        None,
        metavar="WHAT",
        help="Score again under a degradation, and tabulate the loss; may be repeated. noise:20dB (white, "
        "relative to the clip's level), gain:-6 (dB, unclipped), mp3:32k (bit/s, constant), lowpass:4000 (Hz).",
    ),
    protocol: Protocol | None = _scored(
        None,
        metavar="|".join(get_args(Protocol)),
        help="Which segments of a clip are scored: those of Lee 2017 (10 of a 29 s clip for 3^9), the 16 evenly "
        "spaced ones of Won 2020, or all, as in samptag tag. By default that of the weights' published score on "
        "MagnaTagATune, MSD and MTG-Jamendo, else paper; all on other data sets.",
    ),
    hop: float | None = _scored(None, metavar="SECONDS", help="Hop between segments, for --protocol all."),
    tail: Tail | None = _scored(
        None,
        metavar="|".join(get_args(Tail)),
        help="What becomes of the rest of a clip, as in samptag tag, for --protocol all.",
    ),
    device: Annotated[str, under("What is scored", Device)] = "auto",
    group: str = _figures(
        "track",
        metavar="track|clip|FILE",
        help="What the bootstrap draws: the data set's tracks (or artists), single clips, or the groups in a CSV "
        "of path and group.",
    ),
    positive_above: float = _figures(0.0, metavar="LABEL", help="A label above this counts as positive."),
    min_positives: int = _figures(1, metavar="N", min=1, help="Leave out tags with fewer positives."),
    resamples: int = _figures(1000, metavar="N", min=1, help="Bootstrap draws."),
    seed: int = _figures(0, metavar="N", min=0, help="Decides the draws and the noise."),
    predictions: Path | None = _written(
        None, metavar="FILE", help="Also write the model's scores as CSV: path, then one column per tag."
    ),
    as_json: Annotated[bool, under("Output", Json)] = False,
    output: Path | None = _written(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help="Write to this file instead of standard output: JSON with --json or a name ending in .json, else TSV.",
    ),
    progress: Annotated[bool | None, under("Output", Progress)] = None,
) -> None:
    """Score a model on a data set, or predictions against a truth.

    Reports macro and per-tag ROC-AUC and PR-AUC (average precision), with 95 % bootstrap intervals by track.

    $ samptag eval --data mtat/ --perturb mp3:32k
    $ samptag eval --scores est.csv --truth gt.csv --against other.csv
    """
    if data and truth:
        raise UsageError("--data and --truth cannot be combined")
    if model and scores:
        raise UsageError("--model and --scores cannot be combined")
    if truth and not scores:
        raise UsageError("--truth holds no audio for a model to score: add --scores FILE, or give --data DIR")
    if scores is not None:
        needy = {"perturb": perturb, "predictions": predictions, "protocol": protocol, "hop": hop, "tail": tail}
        for option in (name for name, value in needy.items() if value is not None):
            raise UsageError(f"--{option} needs a model and audio; --scores are finished predictions")
    named, _, part = split.rpartition(":")
    name, part = (named or None, part) if part in ("train", "valid", "test") else (split, "test")

    from samptag.evaluation import Scoring, evaluate, evaluate_scores, truth_of
    from samptag.evaluation.perturb import parse_perturbation
    from samptag.evaluation.predictions import scores_to_csv

    ranks = Ranks.from_environment()
    progress = progress if ranks.leads else False
    scoring = Scoring(positive_above=positive_above, min_positives=min_positives, resamples=resamples, seed=seed)
    perturbations = [parse_perturbation(text) for text in perturb or ()]

    def opened(folder: Path) -> Dataset:
        dataset = open_data(folder, format, name, subset, progress)
        if ranks.leads:
            clips = f"{len(dataset.select(part))} {part} clips"
            note(f"{folder}: {dataset.format}, split {dataset.split_name} ({dataset.split_hash}): {clips}")
        return dataset

    on_terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    with ExitStack() as files:
        if ranks.leads:
            # Opened before the work, so that a place that cannot be written is noticed before it.
            out = files.enter_context(standard_output() if output is None else text_file(str(output)))
            table = None if predictions is None else files.enter_context(text_file(str(predictions)))
        if scores is not None:
            known = truth_of(opened(data), part=part) if data is not None else truth
            if known is None:
                raise UsageError(_NOTHING)
            report = evaluate_scores(scores, truth=known, group=group, against=against, scoring=scoring)
        elif data is not None:
            dataset = opened(data)
            silence_codecs()
            with ranks.joined(), Bar(progress) as bar:
                report = evaluate(
                    dataset,
                    model=model,
                    part=part,
                    protocol=protocol,
                    hop_seconds=hop,
                    tail=tail,
                    group=group,
                    against=against,
                    perturbations=perturbations,
                    scoring=scoring,
                    device=ranks.device(device),
                    ranks=ranks,
                    progress=bar,
                )
        else:
            raise UsageError(_NOTHING)
        if not ranks.leads:
            return
        if as_json or (output is not None and output.suffix.lower() == ".json"):
            out.write(valid_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=2)) + "\n")
        elif on_terminal:
            terminal(out).print(_as_tables(report))
        else:
            out.write(valid_text(_as_tsv(report)))
        if table is not None:
            table.write(valid_text(scores_to_csv(report.scores)))
    for remark in _remarks(report):
        note(remark)
    raise typer.Exit(SOME_FAILED if report.failed else 0)


def _as_tsv(report: EvaluationReport) -> str:
    """The report as tab-separated values with a header (`COLUMNS`), one row per condition and tag.

    Names in parentheses are no tags: (macro) is the mean over tags with its 95 % interval, (loss) clean minus degraded,
    (difference) the report's model minus the one it is compared with.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    split = f"{report.split_name}:{report.part}" if report.part else report.split_name
    facts = [split, report.split_hash, report.clips, report.groups, report.protocol]
    for model, condition, tag, positives, *measures in _rows(report):
        numbers = [number for value, interval in measures for number in (value, *(interval or (None, None)))]
        cells = ["" if number is None else f"{number:.6f}" for number in numbers]
        writer.writerow([model, *facts, condition, tag, positives, *cells])
    return text.getvalue()


def _rows(report: EvaluationReport) -> Iterator[Any]:
    """Model, condition, tag, positives, and both measures."""
    name = report.model
    yield name, _CLEAN, "(macro)", "", *_measures(report.macro)
    yield from ((name, _CLEAN, t.tag, t.positives, (t.roc_auc, None), (t.pr_auc, None)) for t in report.tags)
    if (other := report.against) is not None:
        yield other.model, _CLEAN, "(macro)", "", *_measures(other.macro)
        differences = ((each.value, each.ci95) for each in (other.roc_auc, other.pr_auc))
        yield name, f"against {other.model}", "(difference)", "", *differences
    for degraded in report.perturbations:
        condition, losses = degraded.perturbation, (degraded.roc_auc_loss, degraded.pr_auc_loss)
        yield name, condition, "(macro)", "", *_measures(degraded.macro)
        yield name, condition, "(loss)", "", *((loss.value, loss.ci95) for loss in losses)
        yield from ((name, condition, t.tag, t.positives, (t.roc_auc, None), (t.pr_auc, None)) for t in degraded.tags)


def _measures(macro: Macro) -> tuple[tuple[float, Interval | None], ...]:
    """ROC-AUC and PR-AUC, each with its interval."""
    return (macro.roc_auc, macro.roc_auc_ci95), (macro.pr_auc, macro.pr_auc_ci95)


def _as_tables(report: EvaluationReport) -> Group:
    """The report for a terminal: tags, what it is compared with, and what degradations cost."""
    from rich.console import Group
    from rich.text import Text  # names are taken as they are written

    from samptag.evaluation.report import INTERVALS_OF

    tags = _headed(report, "tag", "positives", "ROC-AUC", "PR-AUC")
    tags.caption = f"Intervals are of {INTERVALS_OF}: do not compare a PR-AUC with that of a set of another size."
    tags.caption_justify = "left"
    for tag in report.tags:
        tags.add_row(Text(tag.tag), str(tag.positives), f"{tag.roc_auc:.4f}", f"{tag.pr_auc:.4f}")
    tags.add_section()
    macros = [_shown(*measure) for measure in _measures(report.macro)]
    tags.add_row(Text(f"macro over {len(report.tags)} tags\n95 % interval"), "", *macros, style="bold")
    tables = [tags]
    if (other := report.against) is not None:
        comparison = _headed(report, "system", "ROC-AUC", "PR-AUC")
        for name, macro in ((report.model, report.macro), (other.model, other.macro)):
            comparison.add_row(Text(name), *(_shown(*measure) for measure in _measures(macro)))
        comparison.add_section()
        differences = [_shown(each.value, each.ci95, sign="+") for each in (other.roc_auc, other.pr_auc)]
        comparison.add_row(Text("difference\n95 % interval"), *differences, style="bold")
        tables.append(comparison)
    if report.perturbations:
        losses = _headed(report, "condition", "ROC-AUC", "loss", "PR-AUC", "loss")
        losses.add_row(Text(_CLEAN), f"{report.macro.roc_auc:.4f}", "", f"{report.macro.pr_auc:.4f}", "")
        for degraded in report.perturbations:
            roc, pr = (_shown(d.value, d.ci95, sign="+") for d in (degraded.roc_auc_loss, degraded.pr_auc_loss))
            macro = degraded.macro
            losses.add_row(Text(degraded.perturbation), f"{macro.roc_auc:.4f}", roc, f"{macro.pr_auc:.4f}", pr)
        tables.append(losses)
    return Group(*tables)


def _headed(report: EvaluationReport, first: str, *columns: str) -> Table:
    """An empty table under the name of the split and the number of clips."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    split = f"{report.split_name} {report.part}".strip()
    size = f"{report.clips} clips, {report.groups} groups, protocol {report.protocol or 'not known'}"
    title = Text(f"{report.model} on {split} ({report.split_hash}): {size}")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _shown(value: float, interval: Interval | None, *, sign: str = "") -> str:
    return f"{value:{sign}.4f}" + (f"\n[{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]" if interval else "")


def _remarks(report: EvaluationReport) -> Iterator[str]:
    """What a person should know besides the figures, a line each."""
    if report.missing_tags:
        count = counted(len(report.missing_tags), "tag")
        yield f"{count} that {report.model} does not know: {first_names(report.missing_tags, _NAMED)}"
    if report.excluded_tags:
        need = f"fewer than {counted(report.scoring.min_positives, 'positive')}, or no negative"
        count = counted(len(report.excluded_tags), "tag")
        yield f"{count} left out of every mean ({need}): {first_names(report.excluded_tags, _NAMED)}"
    if report.failed:
        lost = counted(len(report.failed), "clip")
        yield f"{lost} left out of every figure and of the split's hash, because unreadable"
        yield from (clip.error for clip in report.failed[:_NAMED])
    yield from report.warnings
    if report.against is not None:
        yield report.against.verdict
        alike = report.against.agreement
        yield (
            f"agreement with {report.against.model}: mean per-tag correlation {alike.correlation:.3f}, "
            f"top-{alike.top} overlap {alike.top_overlap:.3f}"
        )
