"""The forward pass of a training step; on the CPU convolution, batch norm, max-pooling and ReLU as one step.

The paper's module is matrix products without any copying, forward and backward, as `samptag.engine.cpu` explains.

Four more things make it fast, with the same values and gradients as the modules one after another (but for rounding):

- work is done in pieces that stay in the cache between the product and everything done to its result;
- pooling comes before the affine map of the batch norm and ReLU, which are monotone once the filter has gamma's sign;
- the convolution's bias, which the batch norm subtracts again, is only added to the running mean; its gradient is zero;
- statistics, affine maps and sums of gradients use PyTorch's batch norm kernels, which read their input once.

In bfloat16 every operation computes in float32 and rounds its results, but statistics, sums of gradients and parameters
stay in float32.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from samptag.core.layout import Block, Plain, layout
from samptag.core.model import Convolution, SampleCNN
from samptag.engine.torch_model import folded_filters
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes, synchronise_norms

T = TypeVar("T")
Reduce = Callable[[Tensor], None]
"""Adds up a float64 tensor over all processes, in place."""
Moments = tuple[int, Tensor, Tensor]
"""Count, mean and sum of squared deviations; the last two are (out,) tensors."""

# Bytes of a piece's result. From 0.5 to 4 MB made no difference on cores with 2 MB of cache of their own (measured).
PIECE_BYTES = 2 << 20


class Buffers:
    """Memory by name, kept from step to step: fetching 300 MB of fresh pages a layer took a tenth of a step."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A contiguous tensor of this shape, with undefined contents."""
        size = math.prod(shape)
        tensor = self._kept.get(name)
        if tensor is None or tensor.numel() < size or tensor.dtype != dtype:
            tensor = self._kept[name] = torch.empty(size, dtype=dtype)
        return tensor[:size].view(shape)


class Workers:
    """As many threads as PyTorch uses for one operation, or `n_threads`."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads or torch.get_num_threads()
        self.scratch = [Buffers() for _ in range(self.n_threads)]
        self._pool = ThreadPoolExecutor(self.n_threads, "samptag-training", lambda: torch.set_num_threads(1))

    def run(self, work: Callable[[int], T], n_parts: int) -> list[T]:
        """``[work(0), ..., work(n_parts - 1)]``, each in a thread, without gradients; at most one part a thread."""
        work = torch.no_grad()(work)
        return [work(0)] if n_parts == 1 else list(self._pool.map(work, range(n_parts)))

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Keep PyTorch from using several threads inside each operation."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


@dataclass(frozen=True)
class Piece:
    """Segments `first` to `last`, pooled rows `start` to `stop` of each."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows, over all its segments."""
        return (self.last - self.first) * (self.stop - self.start)

    def inside(self, tensor: Tensor, pad: int = 0) -> Tensor:
        """Its rows of a (batch, rows, out) tensor with `pad` rows before the first, as a (segments, rows, out) view."""
        return tensor[self.first : self.last, pad + self.start : pad + self.stop]

    def of(self, tensor: Tensor) -> Tensor:
        """Its rows of a contiguous (batch, rows, out) tensor, as a (rows, out) view."""
        return self.inside(tensor).view(-1, tensor.shape[2])


def cut(first: int, last: int, rows: int, limit: int) -> list[Piece]:
    """Segments `first` to `last` in pieces of at most `limit` rows: parts of one segment, or several whole ones."""
    if rows <= limit:
        step = limit // rows
        return [Piece(i, min(i + step, last), 0, rows) for i in range(first, last, step)]
    step = -(-rows // -(-rows // limit))
    return [Piece(i, i + 1, j, min(j + step, rows)) for i in range(first, last) for j in range(0, rows, step)]


def _moments(values: Tensor, dtype: torch.dtype) -> Moments:
    """The moments of the columns of `values`, added up in `dtype`; ``var_mean`` took 60 times as long (measured)."""
    unused = torch.zeros(2, values.shape[1], dtype=dtype)
    mean, variance = torch.batch_norm_update_stats(values, unused[0], unused[1], 0.0)
    return len(values), mean, variance.mul_(len(values))


def _combine(parts: list[Moments], reduce: Reduce | None) -> tuple[Tensor, Tensor, float]:
    """Mean, variance (Chan, Golub, LeVeque 1979) and number of rows, over all pieces and all processes."""
    counts = torch.tensor([count for count, _, _ in parts], dtype=torch.float64)
    means = torch.stack([mean for _, mean, _ in parts]).double()
    squares = torch.stack([square for _, _, square in parts]).double()
    total = counts.sum()
    mean = (counts[:, None] * means).sum(0) / total
    spread = squares.sum(0) + (counts[:, None] * (means - mean) ** 2).sum(0)
    if reduce is not None:
        # E[x^2] - E[x]^2 loses nothing that matters in float64
        sums = torch.cat([total[None], total * mean, spread + total * mean**2])
        reduce(sums)
        total, (mean, second) = sums[0], (sums[1:] / sums[0]).view(2, -1)
        spread = total * (second - mean**2)
    dtype = parts[0][1].dtype
    return mean.to(dtype), (spread / total).to(dtype), float(total)


class FusedLayer:
    """The convolution, batch norm, max-pooling and ReLU of a `block`, trained in place of the modules of `model`.

    Only one backward pass may follow each forward pass, with no other forward pass in between. `pads` are the numbers
    of zero rows before and after the output, for the next layer's 'same' convolution. A `frozen` layer normalises by
    its running statistics and passes no gradient on.
    """

    def __init__(
        self,
        block: Plain,
        model: SampleCNN,
        *,
        pads: tuple[int, int],
        workers: Workers,
        precision: torch.dtype,
        reduce: Reduce | None,
        frozen: bool = False,
    ) -> None:
        convolution = block.convolution
        self.convolution: Any = model.get_submodule(convolution.name)
        self.norm: Any = model.get_submodule(convolution.norm)
        self.workers, self.reduce, self.precision, self.frozen = workers, reduce, precision, frozen
        self.kernel, self.hop = convolution.kernel, convolution.stride  # in rows of the input
        self.phases, self.pads = block.pool, pads  # frames for each maximum, and zeros around the maxima
        self.buffers = Buffers()

    def __call__(self, x: Tensor) -> Tensor:
        """(batch, rows, in), contiguous -> (batch, pad + frames / phases + pad, out), zeros in the pads."""
        x = x.to(self.precision)
        if self.frozen:
            return self._frozen(x)
        weight, gamma, beta = self.convolution.weight, self.norm.weight, self.norm.bias
        result: Tensor = _Fused.apply(x, weight, gamma, beta, self)  # type: ignore[no-untyped-call]
        return result

    def _frozen(self, x: Tensor) -> Tensor:
        """The output with the running statistics, without keeping what a backward pass would need."""
        filters, bias = folded_filters(self.convolution, self.norm)
        bias = bias.to(x.dtype)
        columns = filters.transpose(1, 2).reshape(len(filters), -1).t().contiguous().to(x.dtype)
        out, shares = self.output(x, len(filters)), self.shares(x, len(filters))

        def compute(part: int) -> None:
            scratch = self.workers.scratch[part]
            for piece in shares[part]:
                best, other = (scratch.get(name, piece.rows, len(filters), dtype=x.dtype) for name in ("best", "other"))
                for phase in range(self.phases):
                    torch.mm(self.matrix(x, phase, piece).flatten(0, 1), columns, out=other if phase else best)
                    if phase:
                        torch.maximum(best, other, out=best)
                inner = piece.inside(out, self.pads[0])
                inner.copy_(best.add_(bias).relu_().view(inner.shape))

        self.workers.run(compute, len(shares))
        return out

    def pooled_rows(self, x: Tensor) -> int:
        """Rows of the output, without pads, for the input `x`."""
        return ((x.shape[1] - self.kernel) // self.hop + 1) // self.phases

    def output(self, x: Tensor, n_out: int) -> Tensor:
        """The buffer of the output for the input `x`, with zeros in its pads."""
        left, right = self.pads
        end = left + self.pooled_rows(x)
        out = self.buffers.get("out", len(x), end + right, n_out, dtype=x.dtype)
        out[:, :left] = 0
        out[:, end:] = 0
        return out

    def matrix(self, x: Tensor, phase: int, piece: Piece) -> Tensor:
        """The input rows of one phase's product, (segments, rows, kernel * channels): a view of `x`."""
        rows, channels = x.shape[1:]
        step = self.phases * self.hop * channels
        return x.as_strided(
            (piece.last - piece.first, piece.stop - piece.start, self.kernel * channels),
            (rows * channels, step, 1),
            piece.first * rows * channels + phase * self.hop * channels + piece.start * step,
        )

    def shares(self, x: Tensor, n_out: int) -> list[list[Piece]]:
        """The pieces of every worker: whole segments, so that no two of them write to the same row."""
        n = min(self.workers.n_threads, len(x))
        bounds = [len(x) * i // n for i in range(n + 1)]
        limit = max(1, PIECE_BYTES // (self.precision.itemsize * n_out * self.phases))
        return [cut(first, last, self.pooled_rows(x), limit) for first, last in pairwise(bounds)]


class _Fused(torch.autograd.Function):
    """`_Pass` as PyTorch's autograd calls it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, layer: FusedLayer) -> Tensor:
        ctx.passed = _Pass(layer, x, weight, gamma, beta)
        out: Tensor = ctx.passed.out
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        passed: _Pass = ctx.passed
        ctx.passed = None
        return *passed.backward(grad, of_input=ctx.needs_input_grad[0]), None


class _Pass:
    """The arithmetic of `FusedLayer`: a forward pass, whose output is `out`, and the backward pass that follows it."""

    def __init__(self, layer: FusedLayer, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> None:
        n_out, rows = len(weight), layer.pooled_rows(x)
        self.layer, self.x, self.norm = layer, x, layer.norm
        self.sign, self.gamma, self.beta = torch.where(gamma < 0, -1.0, 1.0), gamma.abs(), beta
        # (out, kernel * in), with gamma's sign
        self.filters = (weight * self.sign[:, None, None]).transpose(1, 2).reshape(n_out, -1)
        # (rows of all pieces one after another, in each piece phase by phase; out)
        self.results = layer.buffers.get("results", layer.phases * len(x) * rows, n_out, dtype=x.dtype)
        self.pooled = self.results.view(len(x), -1, n_out)
        if layer.phases > 1:
            self.pooled = layer.buffers.get("pooled", len(x), rows, n_out, dtype=x.dtype)
        self.out, self.shares = layer.output(x, n_out), layer.shares(x, n_out)
        found = self._run(self._convolve)
        self.mean, self.variance, self.count = _combine([m for share in found for m in share], layer.reduce)
        self._update_running()
        self._run(self._activate)

    def backward(self, grad: Tensor, *, of_input: bool) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """The gradients of the input, if asked for, the weights, gamma and beta."""
        buffers, dtype = self.layer.buffers, self.mean.dtype
        active = buffers.get("active", *self.pooled.shape, dtype=grad.dtype)
        sums = torch.stack(self._run(partial(self._sums, grad, active))).sum(0)
        grad_gamma, grad_beta = (sums[1] * self.sign).to(dtype), sums[0].to(dtype)
        if self.layer.reduce is not None:
            self.layer.reduce(sums)
        # the batch norm's own gradient: for every frame, scale * (gradient - mean of it - x^ * mean of x^ gradient);
        # the filters do the scaling
        scale = self.gamma * torch.rsqrt(self.variance + self.norm.eps)
        bias, weight = (sums / -self.count).to(dtype)
        grad_x = buffers.get("grad_x", *self.x.shape, dtype=grad.dtype) if of_input else None
        filters = (self.filters * scale[:, None]).to(grad.dtype)
        found = self._run(partial(self._backpropagate, active, (weight, bias), filters, grad_x))
        grad_filters = torch.stack(found).sum(0).mul_((scale * self.sign)[:, None])
        grad_weight = grad_filters.view(len(filters), self.layer.kernel, -1).transpose(1, 2)
        return grad_x, grad_weight, grad_gamma, grad_beta

    def _run(self, work: Callable[[int], T]) -> list[T]:
        return self.layer.workers.run(work, len(self.shares))

    def _result(self, piece: Piece) -> Tensor:
        """The convolution's result for a piece, (phases, rows, out)."""
        phases = self.layer.phases
        first = phases * (piece.first * self.pooled.shape[1] + piece.start)
        return self.results[first : first + phases * piece.rows].view(phases, piece.rows, -1)

    def _normalise(self, x: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> None:
        """``(x - mean) * inverse deviation * weight + bias``, computed in the precision of the statistics."""
        unused = weight.new_empty(0)
        torch.ops.aten.native_batch_norm.out(
            x, weight, bias, self.mean, self.variance, False, 0.0, self.norm.eps,
            out=out, save_mean=unused, save_invstd=unused,
        )  # fmt: skip

    def _convolve(self, part: int) -> list[Moments]:
        """Fill in the convolution and its pooled values for one worker's segments; return the moments of each piece."""
        found = []
        columns = self.filters.to(self.x.dtype).t()
        for piece in self.shares[part]:
            result = self._result(piece)
            for phase, values in enumerate(result):
                torch.mm(self.layer.matrix(self.x, phase, piece).flatten(0, 1), columns, out=values)
            found.append(_moments(result.view(-1, result.shape[2]), self.filters.dtype))
            best = piece.of(self.pooled)
            for phase in range(1, len(result)):
                torch.maximum(result[0] if phase == 1 else best, result[phase], out=best)
        return found

    def _update_running(self) -> None:
        """Move the running statistics as PyTorch's batch norm does, with the bias that the products left out."""
        norm = self.norm
        with torch.no_grad():
            norm.running_mean.lerp_(self.mean * self.sign + self.layer.convolution.bias, norm.momentum)
            norm.running_var.lerp_(self.variance * (self.count / max(self.count - 1, 1)), norm.momentum)
            norm.num_batches_tracked += 1

    def _activate(self, part: int) -> None:
        """Fill in the normalised, rectified output for one worker's segments."""
        for piece in self.shares[part]:
            best = piece.of(self.pooled)
            normalised = self.layer.workers.scratch[part].get("scratch", *best.shape, dtype=best.dtype)
            self._normalise(best, self.gamma, self.beta, out=normalised)
            inner = piece.inside(self.out, self.layer.pads[0])
            torch.clamp_min(normalised.view(inner.shape), 0, out=inner)

    def _sums(self, grad: Tensor, active: Tensor, part: int) -> Tensor:
        """Fill in the gradient behind ReLU; return its sum and that of it times normalised values, (2, out) float64."""
        left, epsilon = self.layer.pads[0], self.norm.eps
        sums = torch.zeros(2, grad.shape[2], dtype=torch.float64)
        inverse_deviation = torch.rsqrt(self.variance + epsilon)
        for piece in self.shares[part]:
            where = piece.inside(grad, left), piece.inside(self.out, left)
            torch.ops.aten.threshold_backward.grad_input(*where, 0, grad_input=piece.inside(active))
            _, products, plain = torch.ops.aten.native_batch_norm_backward(
                piece.of(active), piece.of(self.pooled), inverse_deviation, None, None,
                self.mean, inverse_deviation, True, epsilon, [False, True, True],
            )  # fmt: skip
            sums += torch.stack([plain, products])
        return sums

    def _backpropagate(
        self, active: Tensor, line: tuple[Tensor, Tensor], filters: Tensor, grad_x: Tensor | None, part: int
    ) -> Tensor:
        """Fill in the input's gradient for one worker's segments; return the filters'. Overwrites the results."""
        scratch, pieces = self.layer.workers.scratch[part], self.shares[part]
        grad_filters = torch.zeros_like(self.filters)
        product = scratch.get("product", *filters.shape, dtype=filters.dtype)
        if grad_x is not None:
            grad_x[pieces[0].first : pieces[-1].last].zero_()
        for piece in pieces:
            result = self._result(piece)
            _route(piece.of(active), result, lambda frames: self._normalise(frames, *line, out=frames), scratch)
            for phase, gradient in enumerate(result):
                torch.mm(gradient.t(), self.layer.matrix(self.x, phase, piece).flatten(0, 1), out=product)
                grad_filters.add_(product)
                if grad_x is not None:
                    _add_product(self.layer.matrix(grad_x, phase, piece), gradient, filters)
        return grad_filters


def _route(grad: Tensor, result: Tensor, background: Callable[[Tensor], None], buffers: Buffers) -> None:
    """Replace the phases' values by their gradients: `background` of them, plus `grad` at the first largest value.

    `grad` is overwritten: the first phase's share is left in it.
    """
    best = [result[0]]
    for phase in range(1, len(result) - 1):
        buffer = buffers.get(f"max{phase}", *grad.shape, dtype=grad.dtype)
        best.append(torch.maximum(best[-1], result[phase], out=buffer))
    for phase in range(len(result) - 1, 0, -1):
        frames = result[phase]
        larger = torch.gt(frames, best[phase - 1], out=buffers.get("scratch", *grad.shape, dtype=grad.dtype))
        background(frames)
        frames.addcmul_(grad, larger)
        grad.addcmul_(grad, larger, value=-1)
    background(result[0])
    result[0].add_(grad)


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to a (segments, rows, columns) view whose rows follow one another in memory."""
    if len(target) == 1 and target.stride(1) >= target.shape[2]:
        target[0].addmm_(left, right)
    else:
        target.add_((left @ right).view(target.shape))


def training_forward(
    model: SampleCNN, config: TrainConfig, *, device: torch.device, processes: Processes, workers: Workers
) -> Callable[[Tensor], Tensor]:
    """Waveforms (batch, input_length), or embeddings of a frozen encoder, -> logits (batch, n_tags), for training.

    The model's batch norms are replaced where several processes share a batch, and its filters laid out anew on CUDA.
    """
    if device.type == "cuda":
        _lay_out_channels_last(model)
    if config.freeze_encoder:
        return model.classify
    synchronise_norms(model, processes, device=device)
    if device.type != "cpu":
        return model
    precision = torch.bfloat16 if config.recipe.mixed_precision and _multiplies_bfloat16() else None
    frozen = config.freeze_modules
    try:
        return FusedForward(model, processes=processes, workers=workers, frozen_modules=frozen, precision=precision)
    except NotImplementedError:
        return model


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has Intel's AMX; docs/training.md says what that gains."""
    supported: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return supported()


def _lay_out_channels_last(model: SampleCNN) -> None:
    """Store the filters in the activations' layout, so that no step has to rearrange them; shapes and values stay.

    ``Module.to(memory_format=...)`` skips them, because it handles filters of four dimensions only.
    """
    for module in model.modules():
        if isinstance(module, Convolution):
            filters = module.weight.data.unsqueeze(2)
            module.weight.data = filters.contiguous(memory_format=torch.channels_last).squeeze(2)


class FusedForward:
    """The forward pass of a model by fused layers, on the CPU.

    The front end and the lowest `frozen_modules` of the body are kept as they are; None: nothing is. A model with
    blocks that have no fused form is a NotImplementedError.
    """

    def __init__(
        self,
        model: SampleCNN,
        *,
        processes: Processes,
        workers: Workers,
        frozen_modules: int | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        self.model, dtype = model, model.head.weight.dtype
        parts = layout(model.config)
        reduce = processes.add if processes.world_size > 1 else None

        def fuse(block: Block, pads: tuple[int, int] = (0, 0), **settings: Any) -> FusedLayer:
            if not isinstance(block, Plain):
                raise NotImplementedError(f"a {type(block).__name__} block has no fused form")
            settings = {"precision": precision or dtype, **settings}
            return FusedLayer(block, model, pads=pads, workers=workers, reduce=reduce, **settings)

        self.pads = model.config.same_pads(model.config.m)  # of the body's convolutions
        self.front = None if parts.front is None else fuse(parts.front, self.pads, frozen=frozen_modules is not None)
        self.body: list[tuple[FusedLayer, nn.Module | None]] = []
        for number, block in enumerate(parts.body):
            # The input of squeeze and excitation must not be padded yet, nor the body's output.
            padded = block.excitation is None and number + 1 < len(parts.body)
            layer = fuse(block, self.pads if padded else (0, 0), frozen=number < (frozen_modules or 0))
            excitation = block.excitation and model.get_submodule(block.excitation[0].name.rpartition(".")[0])
            self.body.append((layer, excitation))
        self.top = None if parts.top is None else fuse(parts.top, precision=dtype)

    def __call__(self, waveforms: Tensor) -> Tensor:
        """The logits, (batch, n_tags)."""
        model = self.model
        x = self._front(waveforms)
        maxima, dtype = [], model.head.weight.dtype
        for number, (layer, excitation) in enumerate(self.body):
            x = layer(x)
            if excitation is not None:
                x = excitation(x.to(dtype).transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
                if number + 1 < len(self.body):
                    x = F.pad(x, (0, 0, *self.pads))
            if self.top is None and number + 3 >= len(self.body):
                # pads are zeros, which a maximum over rectified values does not see
                maxima.append(x.amax(1).to(dtype))
        embedding = torch.cat(maxima, dim=1) if self.top is None else self.top(x).flatten(1)
        if model.hidden is not None:
            embedding = model.hidden(embedding)
        return model.classify(embedding)

    def _front(self, waveforms: Tensor) -> Tensor:
        """The front end's frames with the first module's pads, (batch, pad + m**n + pad, 128)."""
        if self.front is None:
            frames = self.model.front(waveforms).squeeze(2).transpose(1, 2)
            return F.pad(frames, (0, 0, *self.pads))
        pads = self.model.config.front_pads
        return self.front((F.pad(waveforms, pads) if any(pads) else waveforms).unsqueeze(2))
