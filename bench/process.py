"""Whole processes: wall time, CPU time and memory, in rounds of A B C A B C so that a busy minute hits all."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

Figures = dict[str, float]

LOOK_SECONDS = 0.005


def timed(command: Sequence[str | Path], *, codes: Sequence[int] = (0,)) -> Figures:
    """`wall_seconds`, `cpu_seconds` and `peak_bytes` of `command`, its output thrown away.

    The processor time is that of all processes it starts, the memory that of itself, looked at often.

    Raises
    ------
    SystemExit
        It ended with none of `codes`: a benchmark of a failing command would flatter it.
    """
    words = [str(part) for part in command]
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        # A user's second run finds compiled modules, whatever the environment of the benchmark forbids.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        child = subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )
        try:
            peak = 0
            while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
                peak = max(peak, _peak_bytes(child.pid))
                time.sleep(LOOK_SECONDS)
            wall = time.perf_counter() - started
            _, status, usage = ended
            child.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            if child.returncode is None:
                # With all it has started: nothing may compute on beside what follows.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            raise
        if child.returncode not in codes:
            errors.seek(0)
            told = errors.read().decode(errors="replace")
            sys.exit(f"{' '.join(words)}\nended with {child.returncode}:\n{told}")
    return {"wall_seconds": wall, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": peak}


def _peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far; 0 where only Linux could tell, and once it has ended.

    Not what wait4 tells: that is never less than what this process had when it started the other.
    """
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


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
