"""Networks in processes of their own, so that cores do not wait for each other's interpreter.

A `ProductNetwork` is a thousand short operations a segment, and a thread needs the interpreter's lock to begin each of
them. Two threads that compute 3^9 on two cores were 90 % busy and took 13.5 ms a segment between them, two processes
10.2 ms; more cores meet at the lock more often.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor

__all__ = ["Network", "NetworkProcess", "can_fork"]

Network = Callable[[Tensor], Tensor]
"""From a segment's samples to its embedding, as `ProductNetwork` is."""

# Our ends of the pipes to all living processes. Whatever is forked from here must close its copies of them: one end
# that stays open somewhere keeps its process waiting for segments after this process is gone.
_our_ends: weakref.WeakSet[Connection] = weakref.WeakSet()


def can_fork() -> bool:
    """Whether this process may go on as two: on Linux, while it has no other threads, whose locks a copy would keep.

    macOS has `fork` too, but its own libraries may break in the copy. A daemon of `multiprocessing`, such as a worker
    of its pools, may have no processes of its own.
    """
    alone = threading.active_count() == 1 and not multiprocessing.current_process().daemon
    return sys.platform == "linux" and alone


class NetworkProcess:
    """A network that computes in a process forked from this one.

    The process ends with this object or with the process that made it, however that ends. Only the process that made it
    can use it, not another one forked from that.

    Parameters
    ----------
    make : callable
        Makes the network, in the new process; what it refers to is shared with this one and not copied.
    input_length : int
        Samples in a segment.
    embedding_size : int
        Numbers in an embedding.

    Raises
    ------
    OSError
        When the system allows no further process.
    """

    def __init__(self, make: Callable[[], Network], *, input_length: int, embedding_size: int) -> None:
        shared = torch.frombuffer(mmap.mmap(-1, 4 * (input_length + embedding_size)), dtype=torch.float32)
        self._segment, self._embedding = shared[:input_length], shared[input_length:]
        fork = multiprocessing.get_context("fork")
        self._ours, theirs = fork.Pipe()
        _our_ends.add(self._ours)
        self._one_at_a_time = threading.Lock()
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
        weakref.finalize(self, _end, self._ours, self._process, os.getpid())

    def __call__(self, segment: Tensor) -> Tensor:
        """The embedding of one segment, (embedding_size,); the next call overwrites it.

        Parameters
        ----------
        segment : Tensor
            Samples, float32, (input_length,).

        Raises
        ------
        ChildProcessError
            When the process has been killed, as systems do that run out of memory; when an earlier call was
            interrupted; or in a copy of the process that made this one.
        Exception
            What the network raised.
        """
        with self._one_at_a_time:
            if self._ours.closed:
                raise ChildProcessError("a process of the net is gone: a call was interrupted, or this is a fork")
            self._segment.copy_(segment)
            try:
                self._ours.send(None)
                answer: tuple[Exception, str] | None = self._ours.recv()
            except (EOFError, OSError) as broken:
                self._process.join()
                code = self._process.exitcode
                raise ChildProcessError(f"a process of the net ended with exit code {code}") from broken
            except BaseException:
                self._ours.close()  # or the next call would take this one's answer for its own
                raise
        if answer is not None:
            error, where = answer
            raise error from RuntimeError(f"in a process of the net:\n{where}")
        return self._embedding


def _serve(make: Callable[[], Network], segment: Tensor, embedding: Tensor, theirs: Connection) -> None:
    """Compute embeddings for as long as there is somebody to ask for them."""
    torch.set_num_threads(1)
    network: Network | None = None
    with suppress(EOFError, OSError), torch.inference_mode():
        while True:
            theirs.recv()
            try:
                network = network or make()
                embedding.copy_(network(segment))
            except Exception as error:
                theirs.send((_portable(error), traceback.format_exc()))
            else:
                theirs.send(None)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same if it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return error


def _end(ours: Connection, process: BaseProcess, owner: int) -> None:
    """Let the process end, and wait for it, in the process that made it."""
    ours.close()
    if os.getpid() == owner:
        process.join()


def _forget() -> None:
    """Close what belongs to the process that this one was forked from."""
    for end in list(_our_ends):
        end.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
