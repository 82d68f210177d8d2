"""Threads that each work on their own segments of a batch, and the memory they keep from step to step.

PyTorch shares every single operation out among threads and waits for the slowest at its end. A training step on the
CPU is hundreds of operations of a millisecond, so a core that is busy elsewhere for a moment holds up all of them.
Here each thread takes some segments through a whole layer by itself, one operation after another out of its own cache.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Buffers", "Reduce", "Workers"]

T = TypeVar("T")
Reduce = Callable[[Tensor], None]
"""Adds up a float64 tensor over all processes, in place."""


@dataclass
class Buffers:
    """Memory kept from step to step, by name: fetching 300 MB of fresh pages a layer took a tenth of a step."""

    _kept: dict[str, Tensor] = field(default_factory=dict)

    def get(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A contiguous tensor of this shape; what it holds is left over from anything."""
        size = math.prod(shape)
        tensor = self._kept.get(name)
        if tensor is None or tensor.numel() < size or tensor.dtype != dtype:
            tensor = self._kept[name] = torch.empty(size, dtype=dtype)
        return tensor[:size].view(shape)

    def zeros_at_first(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor of this shape: zeros, or what was last written to it if it had the same shape."""
        tensor = self._kept.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
            tensor = self._kept[name] = torch.zeros(shape, dtype=dtype)
        return tensor


class Workers:
    """A fixed number of threads.

    Parameters
    ----------
    n_threads : int or None
        None: as many as PyTorch uses for one operation.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or torch.get_num_threads()
        self.scratch = [Buffers() for _ in range(self.n_threads)]
        self._pool = ThreadPoolExecutor(self.n_threads, "samptag-training", lambda: torch.set_num_threads(1))

    def run(self, work: Callable[[int], T], n_parts: int) -> list[T]:
        """``[work(0), ..., work(n_parts - 1)]``, each in a thread, without gradients; at most one part a thread."""
        if n_parts == 1:
            return [self._quietly(work, 0)]
        return list(self._pool.map(lambda part: self._quietly(work, part), range(n_parts)))

    @staticmethod
    def _quietly(work: Callable[[int], T], part: int) -> T:
        with torch.no_grad():
            return work(part)

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Keep PyTorch from starting threads of its own inside each operation."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
