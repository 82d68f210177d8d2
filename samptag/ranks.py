"""Several processes on one job, started by torchrun: who am I, which part is mine, what do the others have.

A process on its own is rank 0 of 1, so that callers need no special case; it does not import torch.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from samptag.errors import SamptagError, UsageError

# What torchrun sets for each process.
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")
R = TypeVar("R")
Place = TypeVar("Place", bound="Ranks")

# Results a process gathers before it exchanges them: few enough that a killed run loses only minutes and memory stays
# small; enough that no process waits long for one that has a long file.
_ROUND = 64
# A process that dies is noticed at once, by its closed connections; one with a file of ten hours is worth waiting for.
_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of a process among those that torchrun started, on all machines; rank 0 writes the result."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls: type[Place]) -> Place:
        """The place that torchrun's variables give; rank 0 of 1 without them, a UsageError if they are not numbers."""
        try:
            world_size = int(os.environ.get("WORLD_SIZE", "1"))
            rank = int(os.environ.get("RANK", "0"))
            local_rank = int(os.environ.get("LOCAL_RANK", rank))
        except ValueError as error:
            raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from None
        return cls(rank=rank, world_size=world_size, local_rank=local_rank) if world_size > 1 else cls()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device `name` for this process: for "auto" or "cuda", each local rank takes a CUDA device of its own."""
        if self.world_size > 1 and name in ("auto", "cuda"):
            import torch

            if torch.cuda.is_available():
                return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    @contextmanager
    def joined(
        self, *, backend: str = "gloo", timeout: timedelta = _TIMEOUT, advice: str = "its own message says why"
    ) -> Iterator[None]:
        """Connect the processes, so that `collect` and `spread` may be called inside the with block.

        They stay connected until they end: a process that closes its connections while the others do the same may
        abort although all its work is done. If another one has ended, a SamptagError says so and gives the `advice`.
        """
        if self.world_size == 1:
            yield
            return
        import torch.distributed as dist

        connected = dist.is_initialized()
        try:
            if not connected:
                dist.init_process_group(backend, timeout=timeout)
                atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
                connected = True
            yield
        except RuntimeError as error:
            words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe", "Timed out")
            lost = isinstance(error, dist.DistError) or any(word in str(error) for word in words)
            # Another may end while this one is connecting to it; PyTorch reports all else that fails before.
            if not (lost if connected else "connectFullMesh" in str(error)):
                raise
            raise SamptagError(f"another of the {self.world_size} processes has ended; {advice}") from error

    def collect(self, value: T) -> list[T]:
        """Every process's `value`, by rank; it is pickled on its way."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def rows(self, first: int, last: int) -> slice:
        """The rows from `first` up to `last` that are this process's share; shares differ by at most one row."""
        n = last - first
        return slice(first + n * self.rank // self.world_size, first + n * (self.rank + 1) // self.world_size)

    def spread(
        self, items: Sequence[T], work: Callable[[Iterable[T]], Generator[R, None, None]], *, size: Callable[[T], float]
    ) -> Generator[R, None, None]:
        """The results of `work` on all items of rank 0, in order, in every process; each works on its share of them.

        `work` turns an iterable of items into their results, one for each, in order; `size` says what an item costs, in
        any unit. Items are dealt in rounds of a few dozen per process; after each round the results are exchanged.
        """
        if self.world_size == 1:
            yield from work(items)
            return
        plan = (items, deal([size(item) for item in items], self.world_size)) if self.leads else None
        items, owners = next(plan for plan in self.collect(plan) if plan is not None)
        with closing(work(item for item, owner in zip(items, owners, strict=True) if owner == self.rank)) as own:
            step = _ROUND * self.world_size
            for first in range(0, len(items), step):
                turn = owners[first : first + step]
                parts = [iter(part) for part in self.collect(list(islice(own, turn.count(self.rank))))]
                for owner in turn:
                    yield next(parts[owner])


def deal(sizes: Sequence[float], world_size: int) -> list[int]:
    """Which process gets each item: round by round, the largest item first, to the process with the least so far."""
    load = [0.0] * world_size
    owners = [0] * len(sizes)
    step = _ROUND * world_size
    for first in range(0, len(sizes), step):
        turn = range(first, min(first + step, len(sizes)))
        for item in sorted(turn, key=lambda item: -sizes[item]):
            owners[item] = min(range(world_size), key=load.__getitem__)
            load[owners[item]] += sizes[item]
    return owners
