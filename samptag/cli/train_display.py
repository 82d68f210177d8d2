"""What people see of a training: bars where they are wanted, and a line an epoch in any case."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from samptag.cli.console import new_progress, note, wants_progress
from samptag.ranks import Ranks

if TYPE_CHECKING:
    from samptag.training import Event, Prepared, StepDone
    from samptag.training.splits import Splits

__all__ = ["display", "scores"]


def scores(record: Mapping[str, Any]) -> str:
    """The validation figures of an epoch's record."""
    names = {"loss": "valid_loss", "ROC-AUC": "valid_roc_auc", "PR-AUC": "valid_pr_auc", "agreement": "valid_agreement"}
    return ", ".join(f"{word} {record[key]:.4f}" for word, key in names.items() if math.isfinite(record[key]))


@contextmanager
def display(asked: bool | None) -> Iterator[tuple[Callable[[Event], None], Callable[[str, int, int], None] | None]]:
    """The two callbacks of a training: what is shown of it, and of what is prepared before it."""
    if not Ranks.from_environment().leads:
        logger = logging.getLogger("samptag")
        if not logger.isEnabledFor(logging.DEBUG):
            logger.setLevel(logging.ERROR)  # what there is to warn of, the first process warns of
        yield lambda event: None, None
        return
    with _Display(wants_progress(asked)) as shown:
        yield shown.show, shown.show_preparing


class _Display:
    """Draws bars where they are wanted, and writes a line an epoch in any case."""

    def __init__(self, bars: bool) -> None:
        self._bars = new_progress(*_columns()) if bars else None
        self._task: Any = None

    def __enter__(self) -> _Display:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show_preparing(self, what: str, done: int, total: int) -> None:
        self._advance(what, done, total, "")

    def show(self, event: Event) -> None:
        from samptag.training import Prepared, StepDone

        if isinstance(event, Prepared):
            _introduce(event)
        elif isinstance(event, StepDone):
            self._advance(f"epoch {event.epoch}", event.step, event.steps, _pace(event))
        else:
            r, speed = event.record, event.record["segments_per_second"]
            # An epoch that a resumed run only had to validate has no speed.
            pace = f", {speed:.1f} segments/s" if math.isfinite(speed) else ""
            note(
                f"epoch {r['epoch']}: training loss {r['train_loss']:.4f}, validation {scores(r)}{pace}"
                f"{' *' if r['best'] else ''}"
            )

    def _advance(self, what: str, done: int, total: int, pace: str) -> None:
        if self._bars is None:
            return
        if self._task is None:
            self._task = self._bars.add_task(what, total=total, pace=pace)
        self._bars.update(self._task, description=what, completed=done, total=total, pace=pace)


def _columns() -> list[Any]:
    from rich.progress import MofNCompleteColumn, TextColumn

    return [MofNCompleteColumn(), TextColumn("{task.fields[pace]}")]


def _pace(event: StepDone) -> str:
    text = f"loss {event.loss:.4f}  {event.segments_per_second:.1f} segments/s"
    if event.remaining_seconds is not None:
        minutes = math.ceil(event.remaining_seconds / 60)
        text += f"  {minutes // 60} h {minutes % 60:02d} min in all"
    return text


def _introduce(event: Prepared) -> None:
    """Say what will be trained on what, with the number of clips of every tag."""
    config, splits = event.config, event.splits
    dataset, model = splits.dataset, splits.model
    note(f"{model.name} ({event.parameters:,} parameters), recipe {config.recipe.name}, on {event.device}")
    split = f"{dataset.split_name} ({splits.cache.split_hash})"
    note(
        f"{dataset.root}: {dataset.format}, split {split}: {len(splits.train)} training clips "
        f"({event.segments_per_epoch} segments, {event.steps_per_epoch} steps an epoch), {len(splits.valid)} "
        "validation clips"
    )
    if splits.teachers is not None:
        live = "" if splits.live is None else ", who hear every segment as it is augmented"
        note(f"{len(dataset.tags)} tags, taught by {', '.join(splits.teachers.names)}{live}")
    else:
        _count_clips(splits)
    if splits.left_out:
        note(f"{splits.left_out} listed clips cannot be used; {splits.cache.report_path} says why")
    for caution in splits.cautions:
        note(caution)
    if splits.short_clips:
        note(
            f"{splits.short_clips} training clips are shorter than a segment; zeros fill them up, "
            f"{splits.cache.report_path} names them"
        )
    if event.epoch or event.step:
        note(f"going on after epoch {event.epoch}, step {event.step}")


def _count_clips(splits: Splits) -> None:
    counts = zip(splits.dataset.tags, splits.train_labels.sum(axis=0), splits.valid_labels.sum(axis=0), strict=True)
    note("training/validation clips a tag: " + ", ".join(f"{tag} {train:g}/{valid:g}" for tag, train, valid in counts))
