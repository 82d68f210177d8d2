"""Segments in, scores and embeddings out, as fast as the device computes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from samptag.core.config import Config, ModelConfig, check_segments
from samptag.core.device import available_cores
from samptag.core.layout import layout
from samptag.core.weights import Tensors, Weights, model_tensors
from samptag.engine import winograd
from samptag.engine.blas import one_thread
from samptag.engine.cpu import CpuModel, Filters
from samptag.engine.winograd import Floats

if TYPE_CHECKING:
    from samptag.core.model import Model
    from samptag.engine.torch_model import TorchModel

# Segments a caller should pass at a time on the CPU: at the end of a call, threads wait for each other. Half an hour of
# MP3 on 2 cores took 3 % less time with 24 than with 8, at the cost of 15 MB.
SEGMENTS_PER_THREAD = 4
LEAST_SEGMENTS = 24


def default_threads() -> int:
    """Threads to compute with on the CPU: as many as cores, or fewer if ``OMP_NUM_THREADS`` says so."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available_cores(), int(asked)) if asked.isdecimal() and int(asked) else available_cores()


class Predictor:
    """A copy of a model, ready to score segments on one device.

    On the CPU, each of `threads` (None: `default_threads`) computes its own segments in NumPy. Elsewhere, and for a
    model that has no NumPy form, the torch module runs on batches of `batch_size` (None: what suits the device), on
    CUDA in half precision. Scores differ from the plain module's by at most 1e-5 in float32 and 1e-3 in half precision.
    Many `expected_segments` are worth compiling for. The attribute `batch_size` is how many keep the device busy.
    """

    def __init__(
        self,
        model: Weights | Model,
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int | None = None,
        expected_segments: float | None = None,
    ) -> None:
        if isinstance(model, Weights):
            self._config, tensors = model.card.config, model.tensors
        else:
            self._config, tensors = model.config, model_tensors(model)
        numpy = _numpy_models(self._config, tensors, threads or default_threads()) if device == "cpu" else None
        self._backend: _Threads | TorchModel
        if numpy is not None:
            self._backend = _Threads(numpy, long_job=winograd.worth_compiling(expected_segments))
            self.batch_size = max(SEGMENTS_PER_THREAD * len(numpy), LEAST_SEGMENTS)
        else:
            from samptag.engine import torch_model

            module = model.to_module() if isinstance(model, Weights) else model
            self._backend = torch_model.TorchModel(module, device, batch_size=batch_size)
            # Callers pass two batches at a time, so that the second is queued while the first is computed.
            self.batch_size = 2 * self._backend.batch_size
        # In float64 the scores of a segment do not depend on how many others came with it: a product of another shape
        # rounds differently, but far below what float32 keeps.
        self._head_weight = tensors["head.weight"].astype(np.float64).T.copy()
        self._head_bias = tensors["head.bias"].astype(np.float64)

    def __call__(self, segments: Floats) -> tuple[Floats, Floats]:
        """Scores in [0, 1], (k, n_tags), and embeddings, (k, embedding_size), both float32, of at least one segment.

        `segments` is (k, input_length), float32; a ValueError for any other. A MemoryError when the device is out of
        memory.
        """
        if segments.dtype != np.float32:
            raise ValueError(f"{self._config.name} takes float32 segments, not {segments.dtype}")
        check_segments(segments.shape, self._config)
        # An overflow becomes a score that is not a number, which the Tagger reports.
        with one_thread(), np.errstate(all="ignore"):
            embeddings = self._backend.embed(segments)
            logits = embeddings.astype(np.float64) @ self._head_weight + self._head_bias
            return np.exp(-np.logaddexp(0, -logits)).astype(np.float32), embeddings


def _numpy_models(config: Config, tensors: Tensors, threads: int) -> list[CpuModel] | None:
    """A model for every thread, or None if there is no NumPy form."""
    if not isinstance(config, ModelConfig):
        return None
    try:
        layers = layout(config)
        filters = cache(partial(Filters, tensors=tensors, epsilon=config.bn_epsilon))
        with one_thread():
            return [CpuModel(config, layers, filters) for _ in range(threads)]
    except NotImplementedError:
        return None


class _Threads:
    """As many threads as models, each of which takes one segment after another to whichever model is idle."""

    def __init__(self, models: list[CpuModel], *, long_job: bool) -> None:
        self._models, self._long_job = models, long_job
        self.start()
        _alive.add(self)

    def start(self) -> None:
        """Start the threads; called again in a forked process, which inherits none."""
        self._pool = ThreadPoolExecutor(len(self._models), "samptag-model")
        self._idle: SimpleQueue[CpuModel] = SimpleQueue()
        for model in self._models:
            self._idle.put(model)

    def embed(self, segments: Floats) -> Floats:
        """The embeddings of segments, (k, embedding_size); several threads may call."""
        embeddings = list(self._pool.map(self._embedding, segments))
        if self._models[0].compilable:
            winograd.count_segments(len(segments), long_job=self._long_job)
        return np.stack(embeddings)

    def _embedding(self, segment: Floats) -> Floats:
        model = self._idle.get()
        try:
            with np.errstate(all="ignore"):  # a setting of each thread's own
                embedding: Floats = model(segment).copy()
                return embedding
        finally:
            self._idle.put(model)


_alive: WeakSet[_Threads] = WeakSet()


def _start_again() -> None:
    for threads in _alive:
        threads.start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_again)
