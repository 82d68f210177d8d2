"""Segments in, scores and embeddings out: the network as fast as the device computes it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.core.device import inference_dtype
from samptag.core.folding import fold
from samptag.core.model import SampleCNN
from samptag.core.processes import Network, NetworkProcess, can_fork
from samptag.core.products import FilterBank, ProductNetwork

__all__ = ["Predictor", "cpu_batch_size"]

# Segments in one pass of a module that computes batches. On the CPU one is best, because its activations stay in the
# cache (Conv2d of height one, channels-last, 2 cores: 71 segments/s at 1, 49 at 8). On CUDA 64 segments of half
# precision take about 1 GB in the widest layer, which small cards still have. Not measured on a GPU.
BATCH = {"cpu": 1, "cuda": 64, "mps": 16}
# Segments a caller should offer at a time on the CPU: enough that threads which finish early find more to do, because
# at the end of a call they wait for each other. Half an hour of MP3 on 2 cores took 3 % less time with 24 than with 8,
# at the cost of 15 MB.
SEGMENTS_PER_THREAD = 4
LEAST_SEGMENTS = 24
# Each needs three open files, of which systems allow a process 1024 or more.
MOST_PROCESSES = 128

_one_at_a_time = threading.Lock()


def cpu_batch_size(threads: int) -> int:
    """Segments a caller should offer to a CPU's fast path at a time."""
    return max(SEGMENTS_PER_THREAD * threads, LEAST_SEGMENTS)


class Predictor:
    """A network ready to score segments on one device.

    On the CPU every thread (or process) computes segments of its own as matrix products with batch normalisation
    folded in (see `samptag.core.products`); elsewhere, and for the few networks that have no such form, the folded
    module runs on batches, on CUDA in half precision. The plain module's scores are reproduced within 1e-5 in float32
    and 1e-3 in half precision. The weights are read when the predictor is made; later changes to `model` do not reach
    it.

    Parameters
    ----------
    model : SampleCNN
        The network; it is left as it is.
    device : torch.device
        Where to compute.
    fast : bool
        False runs the plain module in float32: the reference the fast paths are tested against.
    threads : int or None
        Threads to compute with on the CPU; None takes as many as torch is set to.
    processes : int or None
        Compute on the CPU in at most this many processes forked from this one, and no more than there would be threads.
        They share no interpreter (see `samptag.core.processes`), but cannot be had everywhere: None, 1, another system
        than Linux, one that allows no more of them, or a process that has begun threads of its own means threads.
    dtype : torch.dtype or None
        Precision of the fast path; None takes `inference_dtype` of the device.

    Attributes
    ----------
    device : torch.device
        As given.
    batch_size : int
        Number of segments per call that keeps the device busy. More is fine too: no memory depends on it but that of
        the arguments and results.
    """

    def __init__(
        self,
        model: SampleCNN,
        *,
        device: torch.device,
        fast: bool = True,
        threads: int | None = None,
        processes: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device = device
        self._config = model.config
        dtype = dtype or inference_dtype(device)
        self._network: _Products | _Module
        exact = device.type == "cpu" and dtype == torch.float32
        if fast and exact and ProductNetwork.supports(model.config):
            with _one_thread_a_product() as available:
                wanted = threads or available
                forked = min(processes or 1, wanted, MOST_PROCESSES) if can_fork() else 1
                networks = _forked(model, forked) or _in_threads(model, wanted)
                self._network = _Products(networks)
            self.batch_size = cpu_batch_size(len(networks))
        else:
            self._network = _Module(model, device, dtype if fast else torch.float32, folded=fast)
            self.batch_size = SEGMENTS_PER_THREAD * BATCH[device.type]
        # In float64 the scores of a segment do not depend on how many others came with it: a product of another shape
        # rounds differently, but far below what float32 keeps. Runs with other batches write the same digits.
        self._head = model.head.weight.detach().double().cpu(), model.head.bias.detach().double().cpu()

    def __call__(self, segments: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and embeddings of segments.

        Parameters
        ----------
        segments : ndarray
            Samples in [-1, 1], float32, shape (k, input_length), k from 0 upwards.

        Returns
        -------
        tuple of ndarray
            Scores in [0, 1], shape (k, n_tags), and embeddings, shape (k, embedding_size), both float32.

        Raises
        ------
        ValueError
            Where the segments are of another length or type.
        """
        if segments.ndim != 2 or segments.shape[1] != self._config.input_length or segments.dtype != np.float32:
            raise ValueError(
                f"{self._config.name} takes float32 segments of shape (k, {self._config.input_length}), "
                f"not {segments.dtype} of shape {segments.shape}"
            )
        embeddings = torch.empty(len(segments), self._config.embedding_size)
        weight, bias = self._head
        scope = _one_thread_a_product() if isinstance(self._network, _Products) else nullcontext()
        with scope, torch.inference_mode():
            if len(segments):
                waveforms = torch.from_numpy(np.require(segments, requirements=["C", "W"]))
                self._network.embed(waveforms, embeddings)
            scores = torch.sigmoid(torch.addmm(bias, embeddings.double(), weight.t())).float()
        return scores.numpy(), embeddings.numpy()


@contextmanager
def _one_thread_a_product() -> Iterator[int]:
    """Keep torch from splitting operations over threads, in this one and in its helpers; gives the number it had.

    Split products measured slower than whole ones side by side, and where other processes want the cores too, threads
    that wait for each other in every operation cost many times the work (making a predictor: 0.03 s, split 0.4 s).
    The number of threads is a setting of the process, so those who change it take turns.
    """
    with _one_at_a_time:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)


def _in_threads(model: SampleCNN, threads: int) -> list[Network]:
    """A network for every thread."""
    bank = FilterBank()
    return [ProductNetwork(model, bank) for _ in range(threads)]


def _forked(model: SampleCNN, processes: int) -> list[Network]:
    """A network for every process; none where there would be only one, or the system allows no more processes."""
    if processes == 1:
        return []
    bank = FilterBank()
    ProductNetwork(model, bank)  # fills the bank, which all processes then share; their working memory is their own
    make = partial(ProductNetwork, model, bank)
    length, size = model.config.input_length, model.config.embedding_size
    try:
        return [NetworkProcess(make, input_length=length, embedding_size=size) for _ in range(processes)]
    except OSError:
        return []


class _Products:
    """The CPU's fast path: networks that take segments as they get done, each called by a thread of its own."""

    def __init__(self, networks: list[Network]) -> None:
        self._networks = networks
        # The calling thread is one of them.
        self._pool = ThreadPoolExecutor(
            max(1, len(networks) - 1), "samptag-net", initializer=torch.set_num_threads, initargs=(1,)
        )

    def embed(self, segments: Tensor, embeddings: Tensor) -> None:
        indices = iter(range(len(segments)))
        helpers = self._networks[1 : len(segments)]
        futures = [self._pool.submit(_drain, network, indices, segments, embeddings) for network in helpers]
        try:
            _drain(self._networks[0], indices, segments, embeddings)
        finally:
            wait(futures)
        for future in futures:
            future.result()


def _drain(network: Network, indices: Iterator[int], segments: Tensor, embeddings: Tensor) -> None:
    """Compute segments as long as `indices`, which all threads share, has more."""
    with torch.inference_mode():
        for i in indices:
            embeddings[i] = network(segments[i])


class _Module:
    """The module itself on any device, in batches."""

    def __init__(self, model: SampleCNN, device: torch.device, dtype: torch.dtype, *, folded: bool) -> None:
        self._model = (fold(model) if folded else deepcopy(model).eval()).to(device, dtype)
        self._device, self._dtype = device, dtype

    def embed(self, segments: Tensor, embeddings: Tensor) -> None:
        on_cuda = self._device.type == "cuda"
        parts = []
        for batch in torch.split(segments, BATCH[self._device.type]):
            # From pinned memory the copy runs beside the computation of the batch before.
            batch = batch.pin_memory() if on_cuda else batch
            parts.append(self._model.embed(batch.to(self._device, self._dtype, non_blocking=on_cuda)).float())
        embeddings.copy_(torch.cat(parts))
