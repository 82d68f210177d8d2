"""Figures kept while they are found: a benchmark that is stopped loses the round it was in, and no more."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.process import Rounds
from samptag.files import atomic_write


@dataclass(frozen=True)
class Finding:
    """What a section knows after a round.

    Attributes
    ----------
    rounds : Rounds
        What was measured.
    figures : dict
        Ratios of medians over these rounds.
    text : str
        The same for people.
    """

    rounds: Rounds
    figures: dict[str, float]
    text: str


class Report:
    """The findings of all sections; `path`, if there is one, always holds those of the rounds that are finished.

    The file is a JSON object: `machine`, `rounds` (per section and contender, all figures in the order they were
    measured), and per section its ratios.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rounds: dict[str, dict[str, dict[str, list[float]]]] = {}
        self._figures: dict[str, object] = {"machine": machine.describe(), "rounds": self._rounds}

    def add(self, name: str, findings: Iterator[Finding]) -> None:
        """Keep what a section finds, and print it when the section ends, in whatever way."""
        finding = None
        try:
            for finding in findings:
                self._figures[name] = finding.figures
                self._rounds[name] = finding.rounds.figures
                self._write()
        finally:
            if finding is not None:
                print(f"\n{finding.text}\n  (finished rounds: {len(finding.rounds)})", flush=True)

    def _write(self) -> None:
        if self._path is None:
            return
        with atomic_write(self._path) as file:
            file.write((json.dumps(self._figures, indent=2) + "\n").encode())
