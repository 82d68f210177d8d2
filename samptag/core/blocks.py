"""The layers of the m^n family: both front ends, the paper's module, and those of Kim 2018 and Won 2020.

Between layers, activations have shape (batch, channels, 1, time): pictures of height one. Kept channels-last in memory
they are (batch, time, channels), which is what CPU and CUDA convolve fastest, and what the front end's matrix product
makes without a transposition. Weights keep the shape of a 1-D convolution, (out, in, kernel).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core import layout
from samptag.core.config import Config, ModelConfig
from samptag.core.mel import COMPRESSION, mel_filters, mel_window


def check_segments(waveforms: Tensor, config: Config) -> None:
    """Refuse waveforms that are not segments, (batch, input_length), of the network that `config` describes.

    Raises
    ------
    ValueError
        Naming both shapes.
    """
    if waveforms.ndim != 2 or waveforms.shape[1] != config.input_length:
        raise ValueError(
            f"{config.name} takes waveforms of shape (batch, {config.input_length}), not {tuple(waveforms.shape)}"
        )


class Convolution(nn.Module):
    """Convolution over time that keeps the length; (batch, in, 1, time) -> (batch, out, 1, time).

    Parameters
    ----------
    layer : layout.Convolution
        Numbers of channels, filter length and zeros around the input.
    """

    def __init__(self, layer: layout.Convolution) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layer.n_out, layer.n_in, layer.kernel))
        self.bias = nn.Parameter(torch.empty(layer.n_out))
        self.pads = layer.pads
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as Kim 2018 does: he_uniform, biases zero."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The convolved activations, as many frames as came in."""
        left, right = self.pads
        if left != right:
            x = F.pad(x, (left, right))
            left = 0
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=(0, left))


class FrameConvolution(Convolution):
    """The strided convolution over the waveform; (batch, samples) -> (batch, out, 1, frames).

    It is computed as a matrix product of the frames, (batch, frames, kernel), with the filters.
    """

    def __init__(self, layer: layout.Convolution) -> None:
        super().__init__(layer)
        self.kernel, self.stride = layer.kernel, layer.stride

    def forward(self, waveforms: Tensor) -> Tensor:
        """The filtered frames of the waveforms."""
        if any(self.pads):
            waveforms = F.pad(waveforms, self.pads)
        frames = waveforms.unfold(1, self.kernel, self.stride)
        x = F.linear(frames, self.weight.squeeze(1), self.bias)  # (batch, frames, out)
        return x.transpose(1, 2).unsqueeze(2)


class MelFrontEnd(nn.Module):
    """The front end of the paper's mel system: (batch, samples) -> (batch, 128, 1, m**n), log(1 + 10 |A|).

    Hann window (periodic) of `first_filter` samples, hop of `first_stride`, bands from 0 Hz to half the sample rate on
    Slaney's scale with equal areas. It has no parameters, and its tables follow from the config, so neither is saved.
    The paper's frame-level system on raw samples is the strided front end with long filters.

    Parameters
    ----------
    config : ModelConfig
        Gives window, hop, padding, number of bands (its front channels) and sample rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.length, self.hop, self.pads = config.first_filter, config.first_stride, config.front_pads
        window, self.n_fft = mel_window(config)
        filters = mel_filters(config.sample_rate, n_fft=self.n_fft, n_bands=config.front_channels)
        # from_numpy makes real tensors even where a model file's reader builds the network without memory.
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The compressed mel bands of the waveforms' frames."""
        frames = F.pad(waveforms, self.pads).unfold(1, self.length, self.hop)
        # In float32 whatever the network computes in: half precision has no FFT of such lengths.
        windowed = frames.float() * self.window.float()
        magnitudes = torch.fft.rfft(windowed, n=self.n_fft).abs()  # (batch, frames, bins)
        bands = torch.log1p(COMPRESSION * F.linear(magnitudes, self.filters.float())).to(waveforms.dtype)
        return bands.transpose(1, 2).unsqueeze(2)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the config's momentum and epsilon."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__(channels, eps=config.bn_epsilon, momentum=config.bn_momentum)


def pool(x: Tensor, length: int) -> Tensor:
    """The maximum of every `length` frames; (batch, channels, 1, time) -> (batch, channels, 1, time / length)."""
    return F.max_pool2d(x, (1, length)) if length > 1 else x


def _convolution(layer: layout.Convolution) -> Convolution:
    return FrameConvolution(layer) if layer.of_waveform else Convolution(layer)


class SqueezeExcitation(nn.Module):
    """Weights in (0, 1) for each channel from the channels' means over time, multiplied in; shape is kept."""

    def __init__(self, layers: layout.Excitation) -> None:
        super().__init__()
        self.dense1 = nn.Linear(layers.squeeze.n_in, layers.squeeze.n_out)
        self.dense2 = nn.Linear(layers.excite.n_in, layers.excite.n_out)
        for dense in (self.dense1, self.dense2):
            nn.init.xavier_uniform_(dense.weight)  # glorot_uniform in the authors' code
            nn.init.zeros_(dense.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x` with its channels weighted."""
        weights = torch.sigmoid(self.dense2(F.relu(self.dense1(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


class PlainBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, max-pooling; then squeeze and excitation where the layout has it."""

    def __init__(self, block: layout.Plain, *, config: ModelConfig) -> None:
        super().__init__()
        self.conv = _convolution(block.convolution)
        self.bn = BatchNorm(block.convolution.n_out, config)
        self.se = None if block.excitation is None else SqueezeExcitation(block.excitation)
        self.pool_length = block.pool

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        # ReLU never changes which of several values is the largest, so it may follow the pooling: the same result for
        # a third of the work at m = 3.
        x = F.relu(pool(self.bn(self.conv(x)), self.pool_length))
        return x if self.se is None else self.se(x)


class Shortcut(nn.Module):
    """Convolution and batch normalisation beside a residual block whose input has another shape than its output."""

    def __init__(self, layer: layout.Convolution, *, config: ModelConfig) -> None:
        super().__init__()
        self.conv = _convolution(layer)
        self.bn = BatchNorm(layer.n_out, config)

    def forward(self, x: Tensor) -> Tensor:
        """`x` in the shape of the block's output."""
        x = self.bn(self.conv(x))
        return x


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, then ReLU and max-pooling."""

    def __init__(self, block: layout.Residual, *, config: ModelConfig) -> None:
        super().__init__()
        n_out = block.first.n_out
        self.conv1 = _convolution(block.first)
        self.bn1 = BatchNorm(n_out, config)
        self.dropout = nn.Dropout(block.dropout)
        self.conv2 = _convolution(block.second)
        self.bn2 = BatchNorm(n_out, config)
        self.se = None if block.excitation is None else SqueezeExcitation(block.excitation)
        self.shortcut = None if block.shortcut is None else Shortcut(block.shortcut, config=config)
        self.pool_length = block.pool

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        beside = x if self.shortcut is None else self.shortcut(x)
        x = self.dropout(F.relu(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        if self.se is not None:
            x = self.se(x)
        return F.relu(pool(x + beside, self.pool_length))
