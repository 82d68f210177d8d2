"""Whole processes: wall time, CPU time and peak memory, in rounds of A B C A B C so that a busy minute hits all.

Run as a module it is the small process in between: Linux counts the memory of the process that starts another into the
other's peak, and a benchmark that holds music in memory is a large one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

Figures = dict[str, float]


def timed(command: Sequence[str | Path]) -> Figures:
    """`wall_seconds`, `cpu_seconds` and `peak_bytes` (resident) of `command`, its output thrown away.

    Raises
    ------
    SystemExit
        The command failed: a benchmark of a failing command would flatter it.
    """
    words = [str(part) for part in command]
    between = [sys.executable, "-m", "bench.process", *words]
    with subprocess.Popen(
        between, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            told, errors = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # both processes: nothing may compute on beside what comes next
            raise
    if child.returncode:
        sys.exit(f"{' '.join(words)}\nended with {child.returncode}:\n{errors}")
    used: Figures = json.loads(told)
    return used


class Rounds:
    """What contenders used in the rounds that are finished: `figures[contender][figure]` is a list, a value a round."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, list[float]]] = {}

    def add(self, found: Mapping[str, Figures]) -> None:
        """Take in one round."""
        for name, figures in found.items():
            lists = self.figures.setdefault(name, {})
            for figure, value in figures.items():
                lists.setdefault(figure, []).append(value)

    def median(self, name: str, figure: str = "wall_seconds") -> float:
        """The middle of one contender's figure."""
        return median(self.figures[name][figure])

    def __len__(self) -> int:
        return max((len(values) for lists in self.figures.values() for values in lists.values()), default=0)


def interleaved(contenders: Mapping[str, Callable[[], Figures]], *, rounds: int) -> Iterator[Rounds]:
    """The rounds so far, after each; every round runs each contender once in the given order.

    A run's figures are told on standard error as soon as they are there.
    """
    done = Rounds()
    for number in range(1, rounds + 1):
        found = {}
        for name, work in contenders.items():
            found[name] = work()
            told = ", ".join(f"{figure} {value:.5g}" for figure, value in found[name].items())
            sys.stderr.write(f"round {number} of {rounds}, {name}: {told}\n")
        done.add(found)
        yield done


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
