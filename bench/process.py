"""Whole processes: wall time, CPU time and peak memory, in rounds of A B C A B C so that a busy minute hits all.

Run as a module it is the small process in between: Linux counts the memory of the process that starts another into the
other's peak, and a benchmark that holds music in memory is a large one.
"""

import json
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


def timed(command: Sequence[str | Path]) -> Run:
    """Wall and CPU seconds and peak resident bytes of `command`, its output thrown away.

    Raises
    ------
    SystemExit
        The command failed: a benchmark of a failing command would flatter it.
    """
    words = [str(part) for part in command]
    done = subprocess.run([sys.executable, "-m", "bench.process", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stderr}")
    return Run(**json.loads(done.stdout))


def interleaved(contenders: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Median of each contender's figure over `rounds`, every round running each contender once in the given order."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, figure in contenders.items():
            figures[name].append(figure())
    return {name: median(values) for name, values in figures.items()}


def main() -> None:
    """Run the command line's command and print what it used as JSON; its errors go where this process's go."""
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(1)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
    used = {"wall_seconds": wall, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * unit}
    sys.stdout.write(json.dumps(used))


if __name__ == "__main__":
    main()
