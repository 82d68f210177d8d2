"""The layers of a network as matrix products on buffers of their own: the parts of a `ProductNetwork`.

Kernel and pooling of a body module have the same length m, which makes its convolution m products without any
copying: of activations kept as (time, channels), the m frames that make frame m*t + j of the result are one row of
m * channels numbers, and for a fixed j these rows lie one behind the other. So phase j of the padded input, seen as
(time / m, m * channels), times the filters, (m * channels, out), is frames j, m + j, 2 m + j, ... of the convolution,
and the maximum over the m phases is the pooled result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.baselines import MelFrontEnd
from samptag.core.blocks import BatchNorm, Convolution, FrameConvolution, SqueezeExcitation
from samptag.core.config import ModelConfig
from samptag.core.folding import folded_filters

__all__ = [
    "MAX_ROWS",
    "Excitation",
    "FilterBank",
    "Filters",
    "Frames",
    "Framing",
    "FullConvolution",
    "Mel",
    "PooledConvolution",
]

# Rows of one product, so that its factors and its result stay in the cache: as many as a chunk's frames make after
# pooling at m = 3 (see `samptag.core.products`).
MAX_ROWS = 243


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
        self._mixed: Tensor | None = None

    def mixed(self, mixtures: Tensor) -> Tensor:
        """Mixtures of the taps, (k, in, out), float32; computed at the first call.

        Parameters
        ----------
        mixtures : Tensor
            Shape (k, kernel), float64: each row makes one.
        """
        if self._mixed is None:
            taps = self.weight.view(self.kernel, -1).double()
            self._mixed = (mixtures @ taps).float().view(len(mixtures), -1, self.n_out)
        return self._mixed


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
        """Compute `target` from `source`."""
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
        """Compute `target` from `source`."""
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
        """Frame the samples in `segment`."""
        self._target.copy_(self._source)


class Mel:
    """The mel front end, from `segment`, (samples,), to `target`, (frames, bands)."""

    def __init__(self, front: MelFrontEnd, segment: Tensor, target: Tensor) -> None:
        self.front, self.segment, self.target = front, segment, target

    def __call__(self) -> None:
        """Compute `target` from `segment`."""
        self.target.copy_(self.front(self.segment[None])[0, :, 0].t())


class Excitation:
    """Squeeze and excitation of `frames`, (time, channels), in place."""

    def __init__(self, layers: SqueezeExcitation, frames: Tensor) -> None:
        self.layers, self.frames = layers, frames

    def __call__(self) -> None:
        """Weight the channels of `frames`."""
        hidden = F.relu(self.layers.dense1(self.frames.mean(0)))
        self.frames.mul_(torch.sigmoid(self.layers.dense2(hidden)))
