"""Reports of a training: events for its caller, and metrics.jsonl, curves.png and TensorBoard events as files."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samptag.errors import OutputError
from samptag.files import atomic_write, os_errors_as
from samptag.training.batches import Parts
from samptag.training.config import TrainConfig

logger = logging.getLogger(__name__)

METRICS, CURVES, EVENTS = "metrics.jsonl", "curves.png", "tensorboard"
_FIGURES = ("valid_roc_auc", "valid_pr_auc", "valid_agreement")
_SCALARS = ("train_loss", "valid_loss", *_FIGURES, "learning_rate", "segments_per_second")
# The curves are drawn at most this often, and at the end: with a frozen encoder an epoch is shorter than a drawing.
DRAW_SECONDS = 15.0
# A run that spends more than this share of its time waiting for segments says so; its first steps always wait.
WAIT_SHARE, LEAST_SECONDS = 0.15, 2.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything is ready; the first step comes next."""

    config: TrainConfig  # with the model and recipe that were chosen
    parts: Parts  # the clips to train and validate on
    device: str
    parameters: int
    fast_path: bool  # whether the fused CPU layers train
    segments_per_epoch: int
    steps_per_epoch: int
    epoch: int  # where the training starts or goes on: epochs done
    step: int  # and steps done in the open epoch


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step is done."""

    epoch: int  # from 1
    step: int  # in the epoch, from 1
    steps: int  # in the whole epoch
    loss: float  # mean of the epoch so far
    learning_rate: float  # the classifier's
    segments_per_second: float  # of the epoch so far, in this run, over all processes
    progress: float | None  # share of the budget spent; None without a budget
    remaining_seconds: float | None  # until the budget is spent; None while that is unknown


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """One epoch is trained and validated; `record` is its line in metrics.jsonl."""

    record: Mapping[str, Any]


Event = Prepared | StepDone | EpochDone
Callback = Callable[[Event], None]


class TrainingLog:
    """The log of one training in its folder, a record an epoch; a resumed training starts from its `records`."""

    def __init__(self, folder: Path, *, records: Sequence[Mapping[str, Any]] = ()) -> None:
        self.folder, self.records = folder, list(records)
        self._write()
        self._drawn, self._drawn_at = 0, -math.inf
        self._draw()
        self._events: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(folder / EVENTS), purge_step=len(self.records) + 1)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append the record of one epoch to every log."""
        self.records.append(record)
        self._write()
        if self._events is not None:
            for name in _SCALARS:
                if math.isfinite(record[name]):
                    self._events.add_scalar(name, record[name], record["epoch"])
            self._events.flush()
        if time.monotonic() - self._drawn_at > DRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        """Draw what has not been drawn, and close the event file."""
        if self._events is not None:
            self._events.close()
        self._draw()

    def _draw(self) -> None:
        """Draw the learning curves where they have changed and matplotlib is installed."""
        if self._drawn == len(self.records) or find_spec("matplotlib") is None:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        losses, rankings = figure.subplots(1, 2)
        epochs = [record["epoch"] for record in self.records]
        for axes, names in ((losses, ("train_loss", "valid_loss")), (rankings, _FIGURES)):
            for name in (name for name in names if math.isfinite(self.records[-1][name])):
                values = [record[name] for record in self.records]
                axes.plot(epochs, values, marker=".", label=name.replace("_", " "))
            axes.set_xlabel("epoch")
            if axes.has_data():  # a validation of one clip ranks nothing
                axes.legend()
        losses.set_title("loss a segment and tag")
        rankings.set_title("validation clips")
        path = self.folder / CURVES
        with os_errors_as(OutputError, f"cannot write {path}"), atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=110)
        self._drawn, self._drawn_at = len(self.records), time.monotonic()

    def _write(self) -> None:
        # The whole file each time: a kill between log and checkpoint then never leaves an epoch in it twice.
        lines = "".join(json.dumps(json_record(record), ensure_ascii=False) + "\n" for record in self.records)
        path = self.folder / METRICS
        with os_errors_as(OutputError, f"cannot write {path}"), atomic_write(path) as file:
            file.write(lines.encode())


def json_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with None for numbers that JSON cannot hold."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in record.items()}


class Pace:
    """The speed of the open epoch in this run, over all processes, and the share of its time spent on waiting."""

    def __init__(self) -> None:
        self.segments_per_second, self.wait_share = math.nan, 0.0  # NaN before the first step
        self._seconds, self._warned = 0.0, False

    def measure(self, segments: int, *, waited: float, seconds: float) -> None:
        """Note how many segments the epoch has done, its seconds so far, and how many of those were spent waiting."""
        self.segments_per_second, self.wait_share = segments / seconds, waited / seconds
        self._seconds = seconds

    def warn_of_waiting(self, share: float) -> None:
        """Warn once that the audio does not keep up with the training; `share` is the largest of all processes."""
        if share > WAIT_SHARE and self._seconds > LEAST_SECONDS and not self._warned:
            self._warned = True
            advice = "a faster disk for --cache, or a GPU with room for the audio (--resident), would help"
            logger.warning("%.0f %% of the time was spent waiting for audio from the cache: %s", 100 * share, advice)
