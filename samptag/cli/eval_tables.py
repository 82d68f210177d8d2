"""An evaluation report as tab-separated values, as Rich tables, and as lines for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from samptag.evaluation.report import INTERVALS_OF
from samptag.text import counted, first_names

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from samptag.evaluation.report import Difference, EvaluationReport, Interval, Macro, TagMeasures

COLUMNS = (
    "model",
    "split",
    "hash",
    "clips",
    "groups",
    "protocol",
    "condition",
    "tag",
    "positives",
    "roc_auc",
    "roc_auc_low",
    "roc_auc_high",
    "pr_auc",
    "pr_auc_low",
    "pr_auc_high",
)
_CLEAN = "clean"
_NAMED = 8  # names a remark lists before it counts the rest


def as_tsv(report: EvaluationReport) -> str:
    """The report as tab-separated values with a header (`COLUMNS`), one row a condition and tag.

    The rows that are no tag stand in parentheses: (macro) is the mean over tags with its 95 % interval, (loss) clean
    minus degraded, (difference) the report's model minus the one it is compared with.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    split = f"{report.split_name}:{report.part}" if report.part else report.split_name
    facts = [split, report.split_hash, report.clips, report.groups, report.protocol]
    for model, *figures in _rows(report):
        writer.writerow([model, *facts, *figures])
    return text.getvalue()


def _rows(report: EvaluationReport) -> Iterator[list[str]]:
    name = report.model
    yield [name, _CLEAN, "(macro)", "", *_macro_cells(report.macro)]
    yield from ([name, _CLEAN, *_tag_cells(tag)] for tag in report.tags)
    if (other := report.against) is not None:
        yield [other.model, _CLEAN, "(macro)", "", *_macro_cells(other.macro)]
        yield [name, f"against {other.model}", "(difference)", "", *_cells(other.roc_auc), *_cells(other.pr_auc)]
    for degraded in report.perturbations:
        condition = degraded.perturbation
        yield [name, condition, "(macro)", "", *_macro_cells(degraded.macro)]
        yield [name, condition, "(loss)", "", *_cells(degraded.roc_auc_loss), *_cells(degraded.pr_auc_loss)]
        yield from ([name, condition, *_tag_cells(tag)] for tag in degraded.tags)


def _macro_cells(macro: Macro) -> list[str]:
    return [
        *(_number(macro.roc_auc), *_ends(macro.roc_auc_ci95)),
        *(_number(macro.pr_auc), *_ends(macro.pr_auc_ci95)),
    ]


def _cells(difference: Difference) -> list[str]:
    return [_number(difference.value), *_ends(difference.ci95)]


def _tag_cells(tag: TagMeasures) -> list[str]:
    return [tag.tag, str(tag.positives), _number(tag.roc_auc), "", "", _number(tag.pr_auc), "", ""]


def _ends(interval: Interval | None) -> list[str]:
    return ["", ""] if interval is None else [_number(end) for end in interval]


def _number(value: float) -> str:
    return f"{value:.6f}"


def as_tables(report: EvaluationReport) -> Group:
    """The report for a terminal: tags, what it is compared with, and what degradations cost."""
    from rich.console import Group

    tables = [_tag_table(report)]
    if report.against is not None:
        tables.append(_comparison_table(report))
    if report.perturbations:
        tables.append(_loss_table(report))
    return Group(*tables)


def _headed(report: EvaluationReport, first: str, *columns: str) -> Table:
    """An empty table under the name of the split and the number of clips."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    split = f"{report.split_name} {report.part}".strip()
    title = (
        f"{report.model} on {split} ({report.split_hash}): {report.clips} clips, {report.groups} groups, "
        f"protocol {report.protocol or 'not known'}"
    )
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _tag_table(report: EvaluationReport) -> Table:
    from rich.text import Text

    table = _headed(report, "tag", "positives", "ROC-AUC", "PR-AUC")
    table.caption = f"Intervals are of {INTERVALS_OF}: compare no PR-AUC with that of a set of another size."
    table.caption_justify = "left"
    for tag in report.tags:
        table.add_row(Text(tag.tag), str(tag.positives), f"{tag.roc_auc:.4f}", f"{tag.pr_auc:.4f}")
    table.add_section()
    macro = report.macro
    table.add_row(
        f"macro over {len(report.tags)} tags\n95 % interval",
        "",
        _spanned(macro.roc_auc, macro.roc_auc_ci95),
        _spanned(macro.pr_auc, macro.pr_auc_ci95),
        style="bold",
    )
    return table


def _comparison_table(report: EvaluationReport) -> Table:
    from rich.text import Text

    table = _headed(report, "system", "ROC-AUC", "PR-AUC")
    other = report.against
    if other is not None:
        for name, macro in ((report.model, report.macro), (other.model, other.macro)):
            table.add_row(
                Text(name), _spanned(macro.roc_auc, macro.roc_auc_ci95), _spanned(macro.pr_auc, macro.pr_auc_ci95)
            )
        table.add_section()
        table.add_row("difference\n95 % interval", _signed(other.roc_auc), _signed(other.pr_auc), style="bold")
    return table


def _loss_table(report: EvaluationReport) -> Table:
    from rich.text import Text

    table = _headed(report, "condition", "ROC-AUC", "loss", "PR-AUC", "loss")
    table.add_row(_CLEAN, f"{report.macro.roc_auc:.4f}", "", f"{report.macro.pr_auc:.4f}", "")
    for degraded in report.perturbations:
        table.add_row(
            Text(degraded.perturbation),
            f"{degraded.macro.roc_auc:.4f}",
            _signed(degraded.roc_auc_loss),
            f"{degraded.macro.pr_auc:.4f}",
            _signed(degraded.pr_auc_loss),
        )
    return table


def _spanned(value: float, interval: Interval | None) -> str:
    return f"{value:.4f}" + (f"\n[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _signed(difference: Difference) -> str:
    ends = difference.ci95
    return f"{difference.value:+.4f}" + (f"\n[{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else "")


def remarks(report: EvaluationReport) -> Iterator[str]:
    """What a person should know beside the figures, a line each."""
    if report.missing_tags:
        count = counted(len(report.missing_tags), "tag")
        yield f"{count} that {report.model} does not know: {first_names(report.missing_tags, _NAMED)}"
    if report.excluded_tags:
        need = f"fewer than {counted(report.min_positives, 'positive')}, or no negative"
        count = counted(len(report.excluded_tags), "tag")
        yield f"{count} in no mean ({need}): {first_names(report.excluded_tags, _NAMED)}"
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
