"""Whole processes: wall time, CPU time and peak memory, in rounds of A B C A B C so that a busy minute hits all."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Run:
    """What one process used."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def timed(command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> Run:
    """Wall and CPU seconds and peak resident bytes of `command`, its output thrown away.

    Raises
    ------
    SystemExit
        The command failed: a benchmark of a failing command would flatter it.
    """
    started = time.perf_counter()
    child = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    assert child.stderr is not None
    noise = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nended with {child.returncode}:\n{noise.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def interleaved(contenders: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Median of each contender's figure over `rounds`, every round running each contender once in the given order."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, figure in contenders.items():
            figures[name].append(figure())
    return {name: median(values) for name, values in figures.items()}
