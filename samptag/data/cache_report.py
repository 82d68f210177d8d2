"""The report of a cache for one data set: every clip that is not simply there, by name, and what was done about it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samptag.data.cache_build import Entry
from samptag.data.dataset import Clip, Dataset
from samptag.files import atomic_write, os_reason

__all__ = ["Remarks", "write_report"]

_log = logging.getLogger("samptag")

SCHEMA = "samptag.cache-report/1"

_Item = dict[str, str | float]


class Remarks:
    """What there is to say of single clips, an item each.

    Parameters
    ----------
    sample_rate : int
        Hz.
    shortest_seconds : float
        Clips shorter than this are not used.
    segment_length : int
        Samples of a segment; zeros fill shorter clips up to one.

    Attributes
    ----------
    left_out : list of dict
        Clips that are not used: unreadable, or too short.
    padded : list of dict
        Clips that are used although they are shorter than a segment.
    warnings : list of dict
        Clips that are used and decoded with a warning.
    """

    def __init__(self, *, sample_rate: int, shortest_seconds: float, segment_length: int) -> None:
        self._rate, self._shortest, self._segment_length = sample_rate, shortest_seconds, segment_length
        self.left_out: list[_Item] = []
        self.padded: list[_Item] = []
        self.warnings: list[_Item] = []

    def take(self, clip: Clip, entry: Entry) -> bool:
        """Whether `clip` is used; what is to say of it is noted."""
        seconds = entry.length / self._rate
        if entry.length == 0:
            self.left_out.append(_item(clip, seconds, "unreadable", entry.problem or "holds no sound"))
            return False
        if seconds < self._shortest:
            self.left_out.append(_item(clip, seconds, "short", f"{seconds:.3f} s, shorter than {self._shortest:g} s"))
            return False
        if entry.length < self._segment_length:
            segment_seconds = self._segment_length / self._rate
            message = f"{seconds:.3f} s, zeros fill it up to a segment of {segment_seconds:.3f} s"
            self.padded.append(_item(clip, seconds, "short", message))
        self.warnings += [{"path": clip.key, "message": warning} for warning in entry.warnings]
        return True


def _item(clip: Clip, seconds: float, reason: str, message: str) -> _Item:
    return {"path": clip.key, "split": clip.split, "seconds": round(seconds, 3), "reason": reason, "message": message}


def write_report(path: Path, dataset: Dataset, *, summary: Mapping[str, Any], remarks: Remarks) -> None:
    """Write `summary`, `remarks` and the problems of `dataset` as JSON; into the log where `path` cannot be written."""
    report = {
        "schema": SCHEMA,
        "data": str(dataset.root),
        **summary,
        "left_out": remarks.left_out,
        "padded": remarks.padded,
        "warnings": remarks.warnings,
        "problems": [
            {"kind": problem.kind, "path": problem.path, "message": problem.message} for problem in dataset.problems
        ],
    }
    try:
        with atomic_write(path) as file:
            file.write(json.dumps(report, ensure_ascii=False, indent=1).encode("utf-8", "surrogateescape"))
    except OSError as error:
        # A finished cache may lie where this user cannot write.
        _log.warning("%s: no report could be written: %s", path, os_reason(error))
        for done, items in (("left out", remarks.left_out), ("padded", remarks.padded)):
            for item in items:
                _log.warning("%s: %s: %s", item["path"], done, item["message"])
