"""The network on the CPU as matrix products, one segment at a time; the same numbers as the plain module's.

Kernel and pooling of a body module have the same length m, which makes its convolution m products without any copying:
of activations kept as (time, channels), the m frames that make frame m*t + j of the result are one row of m * channels
numbers, and for a fixed j these rows lie one behind the other. So phase j of the padded input, seen as (time / m,
m * channels), times the filters, (m * channels, out), is frames j, m + j, 2 m + j, ... of the convolution, and the maximum
over the m phases is the pooled result.

One segment at a time, because its activations stay in the cache and a batch's do not; several threads work on several
segments, because products this small lose more by being split than by waiting their turn.

Measured beside the matrix-product peak of the same machine (1 thread, AVX-512, float32, 3^9): this path 0.86 of the
peak, folded Conv2d of height one channels-last 0.73, both with one segment at a time.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.baselines import MelFrontEnd
from samptag.core.blocks import BatchNorm, Convolution, FrameConvolution, PlainBlock, ResidualBlock, SqueezeExcitation
from samptag.core.config import ModelConfig
from samptag.core.folding import folded_filters
from samptag.core.model import SampleCNN

__all__ = ["FilterBank", "ProductNetwork"]

# Frames that go through the front end and the first module together: 2187 of 128 channels are 1.1 MB, about half of the
# 2 MB of second-level cache a core has. 729 measured the same, 6561 3 % slower, all 19 683 at once 8 % slower.
MAX_CHUNK_FRAMES = 2187
# Rows of one product, for the same reason: as many as the chunk's frames make after pooling at m = 3.
MAX_ROWS = 729

Step = Callable[[], object]


class Filters:
    """A layer with its batch normalisation folded in, as the right factor of a product.

    Attributes
    ----------
    weight : Tensor
        Shape (kernel * in, out). A front end's has the bias as a further row: its frames end in a one.
    bias : Tensor or None
        Shape (out,); None for a front end.
    kernel, n_out : int
        Length in frames, number of channels made.
    """

    def __init__(self, layer: Convolution | nn.Linear, norm: BatchNorm | nn.BatchNorm1d) -> None:
        weight, bias = folded_filters(layer, norm)
        weight = weight.reshape(*weight.shape[:2], -1)
        self.n_out, _, self.kernel = weight.shape
        self.weight = weight.permute(2, 1, 0).reshape(-1, self.n_out).contiguous()
        self.bias: Tensor | None = bias
        if isinstance(layer, FrameConvolution):
            self.kernel, self.weight, self.bias = 1, torch.cat([self.weight, bias[None]]), None


class FilterBank:
    """The filters of one network, made once and shared by the threads that use them."""

    def __init__(self) -> None:
        self._filters: dict[nn.Module, Filters] = {}

    def filters(self, layer: Convolution | nn.Linear, norm: BatchNorm | nn.BatchNorm1d) -> Filters:
        """The filters that `layer` and `norm` make together."""
        if layer not in self._filters:
            self._filters[layer] = Filters(layer, norm)
        return self._filters[layer]


class Frames:
    """Activations of one layer, (time, channels), with room for the zeros that a 'same' convolution needs around them.

    Attributes
    ----------
    inside : Tensor
        The frames, (time, channels).
    padded : Tensor
        The frames with the zeros around them, (time + kernel - 1, channels).
    """

    def __init__(self, time: int, channels: int, *, kernel: int) -> None:
        left = (kernel - 1) // 2
        self.padded = torch.zeros(time + kernel - 1, channels)
        self.inside = self.padded[left : left + time]
        self.kernel = kernel

    def phases(self, kernel: int) -> list[Tensor]:
        """For each j below `kernel` (the frames' own, or 1), the rows that make frames j, j + kernel, ... ."""
        if kernel == 1:
            return [self.inside]
        time, channels = self.inside.shape
        rows, width = time // kernel, kernel * channels
        flat = self.padded.view(-1)
        return [flat[j * channels :][: rows * width].view(rows, width) for j in range(kernel)]


class PooledConvolution:
    """Convolution, the maximum of every `kernel` frames, bias, ReLU: `source` to `target`, (time / kernel, out).

    `scratch` holds at least MAX_ROWS * out numbers.
    """

    def __init__(self, source: Frames, filters: Filters, target: Tensor, *, scratch: Tensor) -> None:
        self.filters = filters
        phases = source.phases(filters.kernel)
        self.parts = []
        for start in range(0, len(target), MAX_ROWS):
            part = target[start : start + MAX_ROWS]
            rows = [phase[start : start + MAX_ROWS] for phase in phases]
            self.parts.append((rows[0], rows[1:], part, scratch[: part.numel()].view(part.shape)))

    def __call__(self) -> None:
        weight, bias = self.filters.weight, self.filters.bias
        for first, others, target, scratch in self.parts:
            torch.mm(first, weight, out=target)
            for phase in others:
                torch.mm(phase, weight, out=scratch)
                torch.maximum(target, scratch, out=target)
            if bias is not None:
                target.add_(bias)
            target.clamp_min_(0)


class FullConvolution:
    """Convolution and bias without pooling, from `source` to (or added to) `target`, (time, out); ReLU if asked for."""

    def __init__(
        self, source: Frames, filters: Filters, target: Tensor, *, add: bool = False, relu: bool = False
    ) -> None:
        self.filters, self.target, self.keep, self.relu = filters, target, float(add), relu
        by_phase = target.view(-1, filters.kernel, filters.n_out)
        self.pairs = [(phase, by_phase[:, j]) for j, phase in enumerate(source.phases(filters.kernel))]

    def __call__(self) -> None:
        for phase, frames in self.pairs:
            torch.addmm(frames, phase, self.filters.weight, beta=self.keep, out=frames)
        if self.filters.bias is not None:
            self.target.add_(self.filters.bias)
        if self.relu:
            self.target.clamp_min_(0)


class Framing:
    """The front end's frames of a segment, a row each, with a one behind them that multiplies the bias.

    Rows of zeros stand where the next layer's 'same' convolution, of length `kernel`, needs its zeros: without the one
    they stay zero through the front end.

    Attributes
    ----------
    segment : Tensor
        Where to put the samples, (input_length,).
    padded : Tensor
        The rows, (frames + kernel - 1, first_filter + 1).
    frames : Frames
        The same as frames to convolve with a kernel of 1.
    """

    def __init__(self, config: ModelConfig, *, kernel: int) -> None:
        left, right = config.front_pads
        waveform = torch.zeros(left + config.input_length + right)
        self.segment = waveform[left : left + config.input_length]
        self.frames = Frames(config.frames, config.first_filter + 1, kernel=kernel)
        self.padded = self.frames.padded
        self.frames.inside[:, -1] = 1
        self._target = self.frames.inside[:, :-1]
        self._source = waveform.unfold(0, config.first_filter, config.first_stride)

    def __call__(self) -> None:
        self._target.copy_(self._source)


class Mel:
    """The mel front end, from `segment`, (samples,), to `target`, (frames, bands)."""

    def __init__(self, front: MelFrontEnd, segment: Tensor, target: Tensor) -> None:
        self.front, self.segment, self.target = front, segment, target

    def __call__(self) -> None:
        self.target.copy_(self.front(self.segment[None])[0, :, 0].t())


class Excitation:
    """Squeeze and excitation of `frames`, (time, channels), in place."""

    def __init__(self, layers: SqueezeExcitation, frames: Tensor) -> None:
        self.layers, self.frames = layers, frames

    def __call__(self) -> None:
        hidden = F.relu(self.layers.dense1(self.frames.mean(0)))
        self.frames.mul_(torch.sigmoid(self.layers.dense2(hidden)))


class ProductNetwork:
    """One thread's working memory for a network, and the steps from a segment to its embedding.

    Parameters
    ----------
    model : SampleCNN
        The network; its weights are read once.
    bank : FilterBank
        Where this and other threads' networks of the same `model` find their filters.
    """

    def __init__(self, model: SampleCNN, bank: FilterBank) -> None:
        self._config, self._bank = model.config, bank
        self._steps: list[Step] = []
        self._scratch = torch.empty(MAX_ROWS * max(self._config.channels))
        first, *others = model.body
        frames = self._frames_after(0)
        if isinstance(model.front, PlainBlock) and isinstance(first, PlainBlock):
            self._add_chunks(model.front, first, frames.inside)
        else:
            spectrum = Frames(self._config.frames, self._config.front_channels, kernel=self._config.m)
            self._add_front(model.front, spectrum.inside)
            self._add_block(first, spectrum, frames.inside)
        levels = [frames.inside]
        for depth, block in enumerate(others, start=1):
            source, frames = frames, self._frames_after(depth)
            self._add_block(block, source, frames.inside)
            levels.append(frames.inside)
        self._add_end(model, frames, levels)

    @staticmethod
    def supports(config: ModelConfig) -> bool:
        """Whether the network can be computed this way: frames must come in whole groups of every kernel's length."""
        return config.block != "won-rese" or config.frames % config.first_filter == 0

    def __call__(self, segment: Tensor) -> Tensor:
        """The embedding of one segment, (embedding_size,); the next call overwrites it.

        Parameters
        ----------
        segment : Tensor
            Samples, float32, (input_length,).
        """
        self._segment.copy_(segment)
        for step in self._steps:
            step()
        return self._embedding

    def _frames_after(self, depth: int) -> Frames:
        """Room for the output of body module `depth`, padded for the next."""
        time = self._config.m ** (self._config.n - depth - 1)
        return Frames(time, self._config.channels[depth], kernel=self._config.m if time > 1 else 1)

    def _add_chunks(self, front: PlainBlock, first: PlainBlock, target: Tensor) -> None:
        """The front end and the first module, on as many frames at a time as stay in the cache between the two."""
        m, frames = self._config.m, self._config.frames
        rows = m
        while rows * m <= min(MAX_CHUNK_FRAMES, frames):
            rows *= m
        chunk = Frames(rows, self._config.front_channels, kernel=m)
        framing = Framing(self._config, kernel=m)
        self._segment = framing.segment
        self._steps.append(framing)
        weight = self._bank.filters(front.conv, front.bn).weight
        filters = self._bank.filters(first.conv, first.bn)
        for start in range(0, frames, rows):
            framed = framing.frames.padded[start : start + len(chunk.padded)]
            self._steps.append(partial(torch.mm, framed, weight, out=chunk.padded))
            self._steps.append(partial(chunk.padded.clamp_min_, 0))
            pooled = target[start // m : (start + rows) // m]
            self._steps.append(PooledConvolution(chunk, filters, pooled, scratch=self._scratch))
        self._add_excitation(first.se, target)

    def _add_front(self, front: nn.Module, target: Tensor) -> None:
        """The front end over the whole segment."""
        if isinstance(front, MelFrontEnd):
            self._segment = torch.zeros(self._config.input_length)
            self._steps.append(Mel(front, self._segment, target))
            return
        framing = Framing(self._config, kernel=1)
        self._segment = framing.segment
        self._steps.append(framing)
        self._add_block(front, framing.frames, target)

    def _add_block(self, block: nn.Module, source: Frames, target: Tensor) -> None:
        if isinstance(block, ResidualBlock):
            self._add_residual(block, source, target)
        elif isinstance(block, PlainBlock):
            filters = self._bank.filters(block.conv, block.bn)
            if block.pool_length > 1:
                self._steps.append(PooledConvolution(source, filters, target, scratch=self._scratch))
            else:
                self._steps.append(FullConvolution(source, filters, target, relu=True))
            self._add_excitation(block.se, target)
        else:
            raise TypeError(f"no matrix products are known for a {type(block).__name__}")

    def _add_residual(self, block: ResidualBlock, source: Frames, target: Tensor) -> None:
        time = len(target) * block.pool_length
        first = self._bank.filters(block.conv1, block.bn1)
        second = self._bank.filters(block.conv2, block.bn2)
        between = Frames(time, first.n_out, kernel=second.kernel)
        total = torch.empty(time, second.n_out)
        self._steps.append(FullConvolution(source, first, between.inside, relu=True))
        self._steps.append(FullConvolution(between, second, total))
        self._add_excitation(block.se, total)
        if block.shortcut is None:
            self._steps.append(partial(total.add_, source.inside))
        else:
            beside = self._bank.filters(block.shortcut.conv, block.shortcut.bn)
            self._steps.append(FullConvolution(source, beside, total, add=True))
        pooled = partial(torch.amax, total.view(-1, block.pool_length, second.n_out), 1, out=target)
        self._steps += [pooled, partial(target.clamp_min_, 0)]

    def _add_excitation(self, excitation: SqueezeExcitation | None, target: Tensor) -> None:
        if excitation is not None:
            self._steps.append(Excitation(excitation, target))

    def _add_end(self, model: SampleCNN, last: Frames, levels: list[Tensor]) -> None:
        """From the last module's output to the embedding."""
        vector = torch.empty(1, self._config.embedding_size)
        if model.top is None:
            parts = torch.split(vector[0], [level.shape[1] for level in levels[-3:]])
            self._steps += [
                partial(torch.amax, level, 0, out=part) for level, part in zip(levels[-3:], parts, strict=True)
            ]
        else:
            self._add_block(model.top, last, vector)
        if model.hidden is not None:
            hidden = torch.empty_like(vector)
            filters = self._bank.filters(model.hidden.linear, model.hidden.bn)
            self._steps.append(partial(torch.addmm, filters.bias, vector, filters.weight, out=hidden))
            self._steps.append(partial(hidden.clamp_min_, 0))
            vector = hidden
        self._embedding = vector[0]
