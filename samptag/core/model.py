"""The sample-level deep CNN (Lee, Park, Kim, Nam, SMC 2017) and its relatives: waveforms in, one logit per tag out.

The blocks of Kim, Lee, Nam (ICASSP 2018) and of Won, Ferraro, Bogdanov, Serra (SMC 2020) fit into the same plan: a
front end that makes m^n frames of a segment, n modules that each pool m frames into one, a last layer over the single
remaining frame, and a linear classifier.

Between layers, activations have shape (batch, channels, 1, time): images of height one. Channels-last in memory, they
are (batch, time, channels), which CPU and CUDA convolve fastest, and which the front end's matrix product makes without
a transposition. Weights have the shape of a 1-D convolution, (out, in, kernel).
"""

from collections import OrderedDict
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core import layout
from samptag.core.config import Config, ModelConfig, SpectrogramConfig, check_segments, config_from_name
from samptag.core.mel import COMPRESSION, mel_filters, mel_window
from samptag.core.spectrogram_model import SpectrogramModel

__all__ = ["Model", "ModelConfig", "SampleCNN", "build_model", "config_from_name"]


class SampleCNN(nn.Module):
    """A model of the m^n family; (batch, input_length) waveforms -> (batch, n_tags) logits.

    A new one has random weights: he_uniform convolutions, glorot_uniform linear layers, zero biases.

    Attributes
    ----------
    front : nn.Module
        (batch, input_length) -> (batch, 128, 1, m**n).
    body : nn.ModuleList
        The n modules; each divides the time by m.
    top : nn.Module or None
        The last layer, with a kernel of 1; None with multi-level features.
    hidden : nn.Module or None
        The linear layer before the classifier, with multi-level features and in Won 2020's residual model.
    head : nn.Linear
        The classifier.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        layers = layout.layout(config)
        self.front = MelFrontEnd(config) if layers.front is None else _module(layers.front, config)
        self.body = nn.ModuleList(_module(block, config) for block in layers.body)
        self.top = None if layers.top is None else _module(layers.top, config)
        self.hidden, size = None, config.embedding_size
        if layers.hidden is not None:
            norm = nn.BatchNorm1d(size, eps=config.bn_epsilon, momentum=config.bn_momentum)
            self.hidden = nn.Sequential(OrderedDict(linear=_linear(size, size), bn=norm, relu=nn.ReLU()))
        self.dropout = nn.Dropout(config.dropout)
        self.head = _linear(size, config.n_tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The tags' logits, (batch, n_tags), for float32 samples in [-1, 1]; their sigmoid is the score."""
        return self.classify(self.embed(waveforms))

    def embed(self, waveforms: Tensor) -> Tensor:
        """The embeddings, (batch, embedding_size), of segments, (batch, input_length)."""
        check_segments(waveforms.shape, self.config)
        x = self.front(waveforms)
        levels = []
        for block in self.body:
            x = block(x)
            levels.append(x)
        if self.top is None:
            x = torch.cat([level.amax(dim=(2, 3)) for level in levels[-3:]], dim=1)
        else:
            x = self.top(x).flatten(1)
        embedding: Tensor = x if self.hidden is None else self.hidden(x)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """The logits, (batch, n_tags), for embeddings, (batch, embedding_size)."""
        logits: Tensor = self.head(self.dropout(embedding))
        return logits


# A model that samptag can run.
Model: TypeAlias = SampleCNN | SpectrogramModel


def build_model(config: Config) -> Model:
    """The model that `config` describes, with random weights."""
    return SpectrogramModel(config) if isinstance(config, SpectrogramConfig) else SampleCNN(config)


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer as Keras initialises it: glorot_uniform weights, zero biases."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _module(block: layout.Block, config: ModelConfig) -> nn.Module:
    return PlainBlock(block, config=config) if isinstance(block, layout.Plain) else ResidualBlock(block, config=config)


class Convolution(nn.Module):
    """Convolution over time that keeps the length; (batch, in, 1, time) -> (batch, out, 1, time)."""

    def __init__(self, layer: layout.Convolution) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layer.n_out, layer.n_in, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(layer.n_out))
        self.pads = layer.pads
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")  # as in Kim 2018

    def forward(self, x: Tensor) -> Tensor:
        """The convolved activations, as many frames as the input has."""
        left, right = self.pads
        if left != right:
            x, left = F.pad(x, (left, right)), 0
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=(0, left))


class FrameConvolution(Convolution):
    """The strided convolution over the waveform; (batch, samples) -> (batch, out, 1, frames)."""

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

    Its window and bands follow from the config (see `samptag.core.mel`) and are not saved.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.length, self.hop, self.pads = config.first_filter, config.first_stride, config.front_pads
        window, self.n_fft = mel_window(config)
        filters = mel_filters(config.sample_rate, n_fft=self.n_fft, n_bands=config.front_channels)
        # from_numpy makes real tensors even on the meta device, where a model is built before its weights are loaded.
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The compressed mel bands of the waveforms' frames."""
        frames = F.pad(waveforms, self.pads).unfold(1, self.length, self.hop)
        # In float32 whatever the model computes in: half precision has no FFT of such lengths.
        windowed = frames.float() * self.window.float()
        magnitudes = torch.fft.rfft(windowed, n=self.n_fft).abs()  # (batch, frames, bins)
        bands = torch.log1p(COMPRESSION * F.linear(magnitudes, self.filters.float())).to(waveforms.dtype)
        return bands.transpose(1, 2).unsqueeze(2)


def _norm(channels: int, config: ModelConfig) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=config.bn_epsilon, momentum=config.bn_momentum)


def pool(x: Tensor, length: int) -> Tensor:
    """The maximum of every `length` frames; (batch, channels, 1, time) -> (batch, channels, 1, time / length)."""
    return F.max_pool2d(x, (1, length)) if length > 1 else x


def _convolution(layer: layout.Convolution) -> Convolution:
    return FrameConvolution(layer) if layer.of_waveform else Convolution(layer)


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a weight in (0, 1), made from all channels' means over time; keeps the shape."""

    def __init__(self, layers: layout.Excitation) -> None:
        super().__init__()
        self.dense1, self.dense2 = (nn.Linear(each.n_in, each.n_out) for each in layers)
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
        self.bn = _norm(block.convolution.n_out, config)
        self.se = None if block.excitation is None else SqueezeExcitation(block.excitation)
        self.pool_length = block.pool

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        # ReLU keeps the order of values, so it may follow the pooling: the same result, a third of the work at m = 3.
        x = F.relu(pool(self.bn(self.conv(x)), self.pool_length))
        return x if self.se is None else self.se(x)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, then ReLU and max-pooling."""

    def __init__(self, block: layout.Residual, *, config: ModelConfig) -> None:
        super().__init__()
        n_out = block.first.n_out
        self.conv1 = _convolution(block.first)
        self.bn1 = _norm(n_out, config)
        self.dropout = nn.Dropout(block.dropout)
        self.conv2 = _convolution(block.second)
        self.bn2 = _norm(n_out, config)
        self.se = None if block.excitation is None else SqueezeExcitation(block.excitation)
        self.shortcut = None
        if block.shortcut is not None:
            self.shortcut = nn.Sequential(OrderedDict(conv=_convolution(block.shortcut), bn=_norm(n_out, config)))
        self.pool_length = block.pool

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        beside = x if self.shortcut is None else self.shortcut(x)
        x = self.dropout(F.relu(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        if self.se is not None:
            x = self.se(x)
        return F.relu(pool(x + beside, self.pool_length))
