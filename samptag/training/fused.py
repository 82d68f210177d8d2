"""Convolution, batch normalisation, max-pooling and ReLU as one step, for training on the CPU.

The paper's module has a kernel as long as its pool, m, and that makes it matrix products without any copying. In
memory (time, channels), frame t of the convolution's input is the m * channels numbers that start at frame t. The
frames m apart, t = p, p + m, p + 2m, ..., lie end to end: the input read from frame p on *is* the matrix of phase p.
One product a phase gives the outputs of every m-th frame, and the pooled value is the maximum over the phases, element
by element. The backward pass uses the same m matrices.

What else makes it fast, with the same values and gradients as the modules one after another (but for rounding):

- work goes through in pieces that stay in the cache between the product and everything done to its result;
- pooling before the affine map of the batch norm and ReLU, which are monotone once the filter's sign is that of gamma;
- the convolution's bias, which the batch norm subtracts again, is only added to the running mean; its gradient is zero;
- buffers are kept from step to step, so that no pages are fetched and cleared anew.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from samptag.training.moments import Moments, combine, moments
from samptag.training.pieces import Geometry, Piece, cut
from samptag.training.workers import Buffers, Reduce, Workers

__all__ = ["FusedLayer"]

# Bytes of a piece's result. From 0.5 to 4 MB made no difference on cores with 2 MB of cache of their own (measured).
PIECE_BYTES = 2 << 20


class FusedLayer:
    """One convolution + batch norm + max-pooling + ReLU, trained in place of the modules that own the parameters.

    Only one backward pass may follow each forward pass, and no second forward pass may come between them.

    Parameters
    ----------
    convolution : nn.Module
        Has ``weight`` (out, in, kernel) and ``bias`` (out,).
    norm : nn.Module
        Its batch norm; running statistics are updated as PyTorch does.
    geometry : Geometry
    workers : Workers
    reduce : Reduce or None
        Makes the batch statistics those of all processes together.
    """

    def __init__(
        self, convolution: Any, norm: Any, *, geometry: Geometry, workers: Workers, reduce: Reduce | None = None
    ) -> None:
        self.convolution, self.norm, self.geometry = convolution, norm, geometry
        self.workers, self.reduce = workers, reduce
        self.buffers = Buffers()

    def __call__(self, x: Tensor) -> Tensor:
        """(batch, rows, in) float32, contiguous -> (batch, pad + frames / phases + pad, out), zeros in the pads."""
        weight, gamma, beta = self.convolution.weight, self.norm.weight, self.norm.bias
        result: Tensor = _Fused.apply(x, weight, gamma, beta, self)  # type: ignore[no-untyped-call]
        return result

    def pooled_rows(self, rows: int) -> int:
        """Rows of the output, without pads, for `rows` rows of input."""
        g = self.geometry
        return ((rows - g.kernel) // g.hop + 1) // g.phases

    def matrix(self, x: Tensor, phase: int, piece: Piece) -> Tensor:
        """The input rows of one phase's product, (segments, rows, kernel * channels): a view of `x`."""
        g = self.geometry
        rows, channels = x.shape[1:]
        step = g.phases * g.hop * channels
        return x.as_strided(
            (piece.last - piece.first, piece.stop - piece.start, g.kernel * channels),
            (rows * channels, step, 1),
            piece.first * rows * channels + phase * g.hop * channels + piece.start * step,
        )

    def shares(self, batch: int, rows: int, n_out: int) -> list[list[Piece]]:
        """The pieces of every worker: whole segments, so that no two of them write to the same row."""
        n = min(self.workers.n_threads, batch)
        bounds = [batch * i // n for i in range(n + 1)]
        limit = max(1, PIECE_BYTES // (4 * n_out * self.geometry.phases))
        return [cut(first, last, rows, limit) for first, last in pairwise(bounds)]


@dataclass
class _Saved:
    """What the backward pass needs of the forward pass."""

    x: Tensor
    filters: Tensor  # (out, kernel * in), with gamma's sign
    sign: Tensor
    results: Tensor  # (rows of all pieces one after another; in each piece phase by phase, out)
    pooled: Tensor  # (batch, rows, out)
    out: Tensor
    shares: list[list[Piece]]
    mean: Tensor
    inverse_deviation: Tensor
    scale: Tensor
    count: float

    def result(self, piece: Piece) -> Tensor:
        """What the convolution gave for a piece, (phases, rows, out)."""
        rows = self.pooled.shape[1]
        phases = len(self.results) // (len(self.pooled) * rows)
        first = phases * (piece.first * rows + piece.start)
        return self.results[first : first + phases * piece.rows].view(phases, piece.rows, -1)


class _Fused(torch.autograd.Function):
    """The arithmetic of `FusedLayer`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, layer: FusedLayer) -> Tensor:
        g, buffers = layer.geometry, layer.buffers
        batch, n_out, rows = len(x), len(weight), layer.pooled_rows(x.shape[1])
        sign = torch.where(gamma < 0, -1.0, 1.0)
        left, right = g.out_pads
        results = buffers.get("results", g.phases * batch * rows, n_out, dtype=x.dtype)
        saved = _Saved(
            x=x,
            filters=(weight * sign[:, None, None]).transpose(1, 2).reshape(n_out, -1),
            sign=sign,
            results=results,
            pooled=buffers.get("pooled", batch, rows, n_out, dtype=x.dtype)
            if g.phases > 1
            else results.view(batch, rows, n_out),
            out=buffers.zeros_at_first("out", batch, left + rows + right, n_out, dtype=x.dtype),
            shares=layer.shares(batch, rows, n_out),
            mean=beta,
            inverse_deviation=beta,
            scale=beta,
            count=0.0,
        )
        found = layer.workers.run(lambda part: _convolve(layer, saved, part), len(saved.shares))
        saved.mean, variance, saved.count = combine([m for share in found for m in share], layer.reduce)
        _update_running(layer, saved.mean * sign, variance, saved.count)
        saved.inverse_deviation = torch.rsqrt(variance + layer.norm.eps)
        saved.scale = gamma.abs() * saved.inverse_deviation
        shift = beta - saved.mean * saved.scale
        layer.workers.run(lambda part: _activate(layer, saved, shift, part), len(saved.shares))
        ctx.layer, ctx.saved = layer, saved
        return saved.out.view_as(saved.out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layer: FusedLayer = ctx.layer
        saved: _Saved = ctx.saved
        ctx.saved = None
        buffers, n_parts, n_out = layer.buffers, len(saved.shares), grad.shape[2]
        active = buffers.get("active", *saved.pooled.shape, dtype=grad.dtype)
        sums = torch.stack(layer.workers.run(lambda part: _sums(layer, saved, grad, active, part), n_parts)).sum(0)
        sums[1] *= saved.inverse_deviation
        grad_gamma, grad_beta = (sums[1] * saved.sign).to(grad.dtype), sums[0].to(grad.dtype)
        if layer.reduce is not None:
            layer.reduce(sums)
        # the batch norm's own gradient: for every frame, scale * (gradient - mean of it - x^ * mean of x^ gradient)
        slope = (-saved.scale * saved.inverse_deviation * sums[1] / saved.count).to(grad.dtype)
        offset = (-saved.scale * sums[0] / saved.count - slope * saved.mean).to(grad.dtype)
        grad_x = buffers.get("grad_x", *saved.x.shape, dtype=grad.dtype) if ctx.needs_input_grad[0] else None
        filters = layer.workers.run(
            lambda part: _backpropagate(layer, saved, active, (slope, offset), grad_x, part), n_parts
        )
        grad_filters = torch.stack(filters).sum(0).view(n_out, layer.geometry.kernel, -1)
        return grad_x, grad_filters.transpose(1, 2) * saved.sign[:, None, None], grad_gamma, grad_beta, None


def _convolve(layer: FusedLayer, saved: _Saved, part: int) -> list[Moments]:
    """Fill in the convolution and its pooled values for one worker's segments; the moments of each piece."""
    scratch = layer.workers.scratch[part]
    found = []
    for piece in saved.shares[part]:
        result = saved.result(piece)
        for phase in range(layer.geometry.phases):
            a = layer.matrix(saved.x, phase, piece)
            torch.mm(a.reshape(-1, a.shape[2]), saved.filters.t(), out=result[phase])
        found.append(moments(result.view(-1, result.shape[2]), scratch))
        best = piece.of(saved.pooled)
        for phase in range(1, layer.geometry.phases):
            torch.maximum(result[0] if phase == 1 else best, result[phase], out=best)
    return found


def _activate(layer: FusedLayer, saved: _Saved, shift: Tensor, part: int) -> None:
    """Fill in the normalised, rectified output for one worker's segments."""
    left = layer.geometry.out_pads[0]
    segments = slice(saved.shares[part][0].first, saved.shares[part][-1].last)
    inner = saved.out[segments, left : left + saved.pooled.shape[1]]
    torch.addcmul(shift, saved.pooled[segments], saved.scale, out=inner)
    inner.relu_()


def _sums(layer: FusedLayer, saved: _Saved, grad: Tensor, active: Tensor, part: int) -> Tensor:
    """Fill in the gradient where ReLU let through; its sum and its sum times the centred values, (2, out) float64."""
    left = layer.geometry.out_pads[0]
    sums = torch.zeros(2, grad.shape[2], dtype=torch.float64)
    for piece in saved.shares[part]:
        where = slice(piece.first, piece.last), slice(left + piece.start, left + piece.stop)
        inside = active[piece.first : piece.last, piece.start : piece.stop]
        torch.ops.aten.threshold_backward.grad_input(grad[where], saved.out[where], 0, grad_input=inside)
        gradient, best = piece.of(active), piece.of(saved.pooled)
        centred = layer.workers.scratch[part].get("centred", *best.shape, dtype=best.dtype)
        torch.sub(best, saved.mean, out=centred).mul_(gradient)
        sums[0] += gradient.sum(0)
        sums[1] += centred.sum(0)
    return sums


def _backpropagate(
    layer: FusedLayer,
    saved: _Saved,
    active: Tensor,
    line: tuple[Tensor, Tensor],
    grad_x: Tensor | None,
    part: int,
) -> Tensor:
    """The gradient of the filters from one worker's segments; fill in the input's gradient. Uses up the results."""
    slope, offset = line
    scratch, pieces = layer.workers.scratch[part], saved.shares[part]
    grad_filters = torch.zeros_like(saved.filters)
    if grad_x is not None:
        grad_x[pieces[0].first : pieces[-1].last].zero_()
    for piece in pieces:
        result = saved.result(piece)
        routed = _route(piece.of(active).mul_(saved.scale), result, scratch)
        result.mul_(slope).add_(offset)
        for phase, share in enumerate(routed):
            result[phase].add_(share)
            a = layer.matrix(saved.x, phase, piece)
            grad_filters.addmm_(result[phase].t(), a.reshape(-1, a.shape[2]))
            if grad_x is not None:
                _add_product(layer.matrix(grad_x, phase, piece), result[phase], saved.filters)
    return grad_filters


def _update_running(layer: FusedLayer, mean: Tensor, variance: Tensor, count: float) -> None:
    """Move the running statistics as PyTorch's batch norm does, with the bias that the products left out."""
    norm = layer.norm
    with torch.no_grad():
        norm.running_mean.lerp_(mean + layer.convolution.bias, norm.momentum)
        norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum)
        norm.num_batches_tracked += 1


def _route(grad: Tensor, result: Tensor, buffers: Buffers) -> list[Tensor]:
    """The gradient of each phase: all of it where the phase holds the first of the largest values, zero elsewhere.

    `grad` is used up: it becomes the share of the first phase.
    """
    shares = []
    running = [result[0]]
    for phase in range(1, len(result) - 1):
        running.append(
            torch.maximum(running[-1], result[phase], out=buffers.get(f"max{phase}", *grad.shape, dtype=grad.dtype))
        )
    for phase in range(len(result) - 1, 0, -1):
        ahead = torch.sub(result[phase], running[phase - 1], out=buffers.get("scratch", *grad.shape, dtype=grad.dtype))
        share = buffers.get(f"share{phase}", *grad.shape, dtype=grad.dtype)
        torch.ops.aten.threshold_backward.grad_input(grad, ahead, 0, grad_input=share)
        grad.sub_(share)
        shares.append(share)
    return [grad, *reversed(shares)]


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to a (segments, rows, columns) view whose rows follow one another in memory."""
    if len(target) == 1 and target.stride(1) >= target.shape[2]:
        target[0].addmm_(left, right)
    else:
        target.add_((left @ right).view(target.shape))
