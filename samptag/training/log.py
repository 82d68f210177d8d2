"""What a training leaves to read: metrics.jsonl, curves.png, TensorBoard events."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samptag.errors import OutputError
from samptag.files import atomic_write

__all__ = ["CURVES", "METRICS", "TrainingLog"]

METRICS, CURVES, EVENTS = "metrics.jsonl", "curves.png", "tensorboard"
_SCALARS = ("train_loss", "valid_loss", "valid_roc_auc", "valid_pr_auc", "learning_rate", "segments_per_second")


class TrainingLog:
    """The log of one training in its folder; every epoch is one record.

    Parameters
    ----------
    folder : Path
    records : sequence of Mapping
        Those of the epochs before, when a training is resumed; the file is brought back to them.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """

    def __init__(self, folder: Path, *, records: Sequence[Mapping[str, Any]] = ()) -> None:
        self.folder = folder
        self.records = [dict(record) for record in records]
        self._write()
        if records:
            _draw(folder / CURVES, self.records)
        self._events = _event_writer(folder / EVENTS, purge_from=len(self.records) + 1)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append the record of one epoch to every log."""
        self.records.append(dict(record))
        self._write()
        if self._events is not None:
            for name in _SCALARS:
                if math.isfinite(record[name]):
                    self._events.add_scalar(name, record[name], record["epoch"])
            self._events.flush()
        _draw(self.folder / CURVES, self.records)

    def close(self) -> None:
        """Let go of the event file."""
        if self._events is not None:
            self._events.close()

    def _write(self) -> None:
        # Written whole each time: a kill between the log and the checkpoint then never leaves an epoch in it twice.
        lines = "".join(json.dumps(_plain(record), ensure_ascii=False) + "\n" for record in self.records)
        try:
            with atomic_write(self.folder / METRICS) as file:
                file.write(lines.encode())
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / METRICS}: {error.strerror or error}") from None


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with null where JSON has no number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }


def _event_writer(folder: Path, *, purge_from: int) -> Any:
    """TensorBoard's writer where it is installed, else None."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_from)


def _draw(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw the learning curves, where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, rankings = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in records]
    for axes, names in ((losses, ("train_loss", "valid_loss")), (rankings, ("valid_roc_auc", "valid_pr_auc"))):
        for name in names:
            axes.plot(epochs, [record[name] for record in records], marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.legend()
    losses.set_title("loss a segment and tag")
    rankings.set_title("validation clips")
    try:
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=110)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
