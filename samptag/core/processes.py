"""Networks in processes of their own, so that cores do not wait for each other's interpreter.

A `ProductNetwork` is a thousand short operations a segment, and a thread needs the interpreter's lock to begin each of
them. Two threads that compute 3^9 on two cores were 90 % busy and took 13.5 ms a segment between them, two processes
10.2 ms; more cores meet at the lock more often.
"""

from __future__ import annotations

import mmap
import multiprocessing
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import torch
from torch import Tensor

__all__ = ["Network", "NetworkProcess", "can_fork"]

Network = Callable[[Tensor], Tensor]
"""From a segment's samples to its embedding, as `ProductNetwork` is."""

# Our ends of the pipes to all living processes. A process must close its copies of them: one end that stays open
# somewhere keeps its process waiting for segments after this process is gone.
_our_ends: weakref.WeakSet[Connection] = weakref.WeakSet()


def can_fork() -> bool:
    """Whether this process may go on as two: on Linux, while it has no other threads, whose locks a copy would keep.

    macOS has `fork` too, but its own libraries may break in the copy.
    """
    return sys.platform == "linux" and threading.active_count() == 1


class NetworkProcess:
    """A network that computes in a process forked from this one; one call at a time.

    The process ends with this object or with the process that made it, however that ends.

    Parameters
    ----------
    make : callable
        Makes the network, in the new process; what it refers to is shared with this one and not copied.
    input_length : int
        Samples in a segment.
    embedding_size : int
        Numbers in an embedding.
    """

    def __init__(self, make: Callable[[], Network], *, input_length: int, embedding_size: int) -> None:
        shared = torch.frombuffer(mmap.mmap(-1, 4 * (input_length + embedding_size)), dtype=torch.float32)
        self._segment, self._embedding = shared[:input_length], shared[input_length:]
        fork = multiprocessing.get_context("fork")
        self._ours, theirs = fork.Pipe()
        _our_ends.add(self._ours)
        arguments = (make, self._segment, self._embedding, theirs)
        self._process = fork.Process(target=_serve, args=arguments, name="samptag-net", daemon=True)
        # Ctrl-C reaches every process of the terminal, and the first one decides what becomes of it: the others keep
        # the signal blocked.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def __call__(self, segment: Tensor) -> Tensor:
        """The embedding of one segment, (embedding_size,); the next call overwrites it.

        Parameters
        ----------
        segment : Tensor
            Samples, float32, (input_length,).

        Raises
        ------
        ChildProcessError
            When the process has been killed, as systems do that run out of memory.
        Exception
            What the network raised.
        """
        self._segment.copy_(segment)
        try:
            self._ours.send(None)
            error: Exception | None = self._ours.recv()
        except (EOFError, OSError) as broken:
            self._process.join()
            raise ChildProcessError(f"a process of the net ended with exit code {self._process.exitcode}") from broken
        if error is not None:
            raise error
        return self._embedding


def _serve(make: Callable[[], Network], segment: Tensor, embedding: Tensor, theirs: Connection) -> None:
    """Compute embeddings for as long as there is somebody to ask for them."""
    for end in list(_our_ends):
        end.close()
    torch.set_num_threads(1)
    network: Network | None = None
    with suppress(EOFError, OSError), torch.inference_mode():
        while True:
            theirs.recv()
            try:
                network = network or make()
                embedding.copy_(network(segment))
            except Exception as error:
                theirs.send(error)
            else:
                theirs.send(None)
