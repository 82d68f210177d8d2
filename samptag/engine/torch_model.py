"""A model as its torch module, in batches: on GPUs, and on the CPU if it has no NumPy form."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samptag.core.layout import layers, layout
from samptag.core.model import Model, SampleCNN, build_model
from samptag.engine.cpu import folded
from samptag.engine.winograd import Floats

# Segments in one pass. On the CPU one is best, because its activations stay in the cache (Conv2d of height one,
# channels-last, 2 cores: 71 segments/s at 1, 49 at 8). On CUDA 64 segments in half precision take about 1 GB in the
# widest layer, which even small cards have. Not measured on a GPU.
BATCH = {"cpu": 1, "cuda": 64, "mps": 16}

# The largest sample that is computed in half precision. Music decodes to [-1, 1] and a little beyond; files of floats
# may hold anything. At eight times full scale the default weights' scores stay within 1e-3 (docs/benchmarks.md), at
# some thousand times it overflows.
HALF_PEAK = 8.0


class TorchModel:
    """A copy of the module with its batch normalisations folded in, ready to embed batches on one device.

    A segment that is too loud for half precision, or whose embedding overflows in it, is computed again in float32, so
    that every device has a score wherever the CPU has one. `dtype` None is float16 on CUDA (its 11 significant bits
    keep scores within 1e-3 of float32, bfloat16's 8 do not) and float32 elsewhere (on the CPU bfloat16 measured slower
    even with AVX-512, and MPS gains little).
    """

    def __init__(
        self, model: Model, device: str, *, batch_size: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        place = torch.device(device)
        # Spectra in half precision would overflow on loud music.
        half = place.type == "cuda" and isinstance(model, SampleCNN)
        dtype = dtype or (torch.float16 if half else torch.float32)
        self.batch_size = batch_size or BATCH[place.type]
        with memory_errors():
            self._exact = fold(model).to(place)
            self._half = None if dtype == torch.float32 else copy.deepcopy(self._exact).to(dtype)
        self._move: Callable[[Tensor], Tensor] = _Staging(place) if place.type == "cuda" else lambda x: x.to(place)
        self._one_at_a_time = Lock()

    def embed(self, segments: Floats) -> Floats:
        """The embeddings, (k, embedding_size) float32, of segments, (k, input_length) float32; k at least 1."""
        with memory_errors(), self._one_at_a_time, torch.inference_mode():
            embeddings: Floats = self._embed(torch.from_numpy(np.require(segments, requirements=["C", "W"]))).numpy()
            return embeddings

    def _embed(self, waveforms: Tensor) -> Tensor:
        if self._half is None:
            return self._embed_exactly(torch.split(waveforms, self.batch_size))
        half = [self._embed_in_half(self._half, self._move(batch)) for batch in torch.split(waveforms, self.batch_size)]
        embeddings = torch.cat(half).cpu()
        doubtful = ~embeddings.isfinite().all(dim=1)
        if doubtful.any():
            # Numbers take twice the bytes, so there is room for half the segments.
            batches = torch.split(waveforms[doubtful], max(1, self.batch_size // 2))
            embeddings[doubtful] = self._embed_exactly(batches)
        return embeddings

    @staticmethod
    def _embed_in_half(model: Model, batch: Tensor) -> Tensor:
        """Embeddings in float32, NaN for segments that are too loud for half precision."""
        loud = ~(batch.abs().amax(dim=1, keepdim=True) <= HALF_PEAK)
        return model.embed(batch.to(model.head.weight.dtype)).float().masked_fill(loud, torch.nan)

    def _embed_exactly(self, batches: tuple[Tensor, ...]) -> Tensor:
        # CUDA's convolutions would otherwise round float32 to the 11 significant bits of half precision.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([self._exact.embed(self._move(batch)) for batch in batches]).cpu()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what PyTorch raises when memory runs out into a MemoryError."""
    try:
        yield
    except RuntimeError as error:
        # The allocators of the CPU, of MPS and of pinned memory raise a plain RuntimeError.
        words = ("allocate memory", "not enough memory", "out of memory")
        if isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words):
            raise MemoryError(str(error)) from error
        raise


class _Staging:
    """Moves batches to a CUDA device while it computes the one before.

    Two pinned buffers take turns, and a stream apart from the kernels' copies them. The host waits for the last copy
    from a buffer before it overwrites it, the kernels' stream waits for the same copy before it reads the batch, and
    `record_stream` keeps the batch's memory from the copying stream until the kernels have read it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._turns = itertools.cycle([_Buffer(), _Buffer()])

    def __call__(self, batch: Tensor) -> Tensor:
        buffer = next(self._turns)
        buffer.copied.synchronize()
        if buffer.pinned.numel() < batch.numel():
            buffer.pinned = torch.empty(batch.numel(), pin_memory=True)
        staged = buffer.pinned[: batch.numel()].view(batch.shape).copy_(batch)
        with torch.cuda.stream(self._stream):
            moved = staged.to(self._device, non_blocking=True)
            buffer.copied.record(self._stream)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(buffer.copied)
        moved.record_stream(computing)
        return moved


class _Buffer:
    """Pinned memory, and the event at the end of the last copy from it."""

    def __init__(self) -> None:
        self.pinned = torch.empty(0)
        self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]


def folded_filters(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weights, (out, ...), and bias, (out,), of one layer that does what `layer` and its batch `norm` do; float32."""
    parts = (layer.weight, layer.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    weight, bias = folded(*(part.double() for part in parts), epsilon=norm.eps)
    return weight.float().detach(), bias.float().detach()


def fold(model: Model) -> Model:
    """A copy of `model` for evaluation only, on its device, with its batch normalisations folded into other layers."""
    with torch.device("meta"):
        plain = build_model(model.config)
    plain.load_state_dict({name: tensor.detach().clone() for name, tensor in model.state_dict().items()}, assign=True)
    plain.to(model.head.weight.device)
    for each in layers(layout(plain.config)) if isinstance(plain, SampleCNN) else ():
        if each.norm is not None:
            layer: Any = plain.get_submodule(each.name)
            folded_layer = folded_filters(layer, plain.get_submodule(each.norm))
            layer.weight, layer.bias = map(nn.Parameter, folded_layer)
            block, _, name = each.norm.rpartition(".")
            setattr(plain.get_submodule(block), name, nn.Identity())
    return plain.eval().requires_grad_(False)
