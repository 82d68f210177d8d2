"""The tables of docs/results.md."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from recipes.proof.runs import COMPARISONS, Outcome, Setting, outcomes

__all__ = ["report"]

_TITLES = {
    "recipes": "`paper` against `modern`",
    "labels": "Labels of a teacher",
    "systems": "The paper's three systems",
}


def report(names: Sequence[str], *, work: Path) -> str:
    """Markdown: one table a comparison, and each row's lead over the first one, seed by seed."""
    return "\n\n".join("\n".join(_table(name, work)) for name in names)


def _table(name: str, work: Path) -> Iterator[str]:
    yield f"### {_TITLES[name]}\n"
    yield "| network | recipe | labels | steps | seeds | ROC-AUC | PR-AUC | ROC-AUC over the first row |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    first: tuple[Outcome, ...] = ()
    for position, setting in enumerate(COMPARISONS[name]):
        found = outcomes(setting, work)
        lead = _lead(found, first) if position else ""
        first = first if position else found
        yield f"| {_row(setting, found)} | {lead} |"


def _row(setting: Setting, found: Sequence[Outcome]) -> str:
    figures = [_spread(found, lambda o: o.roc_auc), _spread(found, lambda o: o.pr_auc)]
    what = [setting.model, f"`{setting.recipe}`", setting.labels, str(setting.steps), str(len(found))]
    return " | ".join([*what, *figures])


def _spread(found: Sequence[Outcome], figure: Callable[[Outcome], float]) -> str:
    return _mean_and_deviation([figure(outcome) for outcome in found])


def _lead(found: Iterable[Outcome], first: Iterable[Outcome]) -> str:
    """The difference of the runs that have a seed in common."""
    base = {outcome.run.seed: outcome.roc_auc for outcome in first}
    return _mean_and_deviation([o.roc_auc - base[o.run.seed] for o in found if o.run.seed in base], signed=True)


def _mean_and_deviation(values: Sequence[float], *, signed: bool = False) -> str:
    """Mean and, from two values up, standard deviation between the seeds."""
    if not values:
        return "not run"
    text = f"{mean(values):+.3f}" if signed else f"{mean(values):.3f}"
    return f"{text} ± {stdev(values):.3f}" if len(values) > 1 else text
