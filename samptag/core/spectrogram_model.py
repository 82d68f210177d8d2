"""Published models over log-mel spectrograms, written from the layer lists of their papers and packages.

musicnn and vgg are those of the package musicnn 0.1.0 (Pons, Serra: musicnn: Pre-trained convolutional neural networks
for music audio tagging, 2019). won-musicnn and won-fcn are those of Won, Ferraro, Bogdanov, Serra: Evaluation of
CNN-based Automatic Music Tagging Models, SMC 2020. Activations have shape (batch, channels, bands, frames).
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.config import SpectrogramConfig, check_segments
from samptag.core.mel import htk_filters, mel_filters

SAMPLE_RATE, N_FFT, HOP, BANDS = 16_000, 512, 256, 96
# Filters of musicnn's front end: _HEIGHTS bands high and 7 frames long, then 1 band high and _LENGTHS frames long.
_TIMBRE_CHANNELS, _TEMPORAL_CHANNELS, _MIDDLE_CHANNELS = 204, 51, 64
_HEIGHTS = {"musicnn": (38, 67), "won-musicnn": (67, 38)}
_LENGTHS = {"musicnn": (128, 64, 32), "won-musicnn": (129, 65, 33)}
# Sizes and strides of the pools, (bands, frames).
_POOLS = {
    "vgg": (((1, 4), (2, 2)), *[((2, 2), (2, 2))] * 3, ((4, 4), (4, 4))),
    "won-fcn": tuple((size, size) for size in ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))),
}
_WIDTHS = {"vgg": (1, 128, 128, 128, 128, 128), "won-fcn": (1, 64, 128, 128, 128, 64)}
# The package's vgg takes one frame fewer than its musicnn.
_VGG_FRAMES = 187


class SpectrogramModel(nn.Module):
    """A published model; (batch, input_length) waveforms at 16 kHz -> (batch, n_tags) logits.

    A new one has random weights. `head` is the classifier.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        self._of_package = config.architecture in ("musicnn", "vgg")
        self.register_buffer("window", torch.hann_window(N_FFT, device="cpu"), persistent=False)
        filters = (mel_filters if self._of_package else htk_filters)(SAMPLE_RATE, n_fft=N_FFT, n_bands=BANDS)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.input_bn = nn.BatchNorm2d(1, eps=self._epsilon)
        body = _Musicnn if config.architecture in _LENGTHS else _Pools
        self.body = body(config.architecture, epsilon=self._epsilon)
        self.head = nn.Linear(config.embedding_size, config.n_tags)

    @property
    def _epsilon(self) -> float:
        return 1e-3 if self._of_package else 1e-5  # TensorFlow's and PyTorch's defaults

    def forward(self, waveforms: Tensor) -> Tensor:
        """The tags' logits, (batch, n_tags), for segments, (batch, input_length); their sigmoid is the score."""
        return self.classify(self.embed(waveforms))

    def embed(self, waveforms: Tensor) -> Tensor:
        """The embeddings, (batch, embedding_size), of segments, (batch, input_length)."""
        check_segments(waveforms.shape, self.config)
        embedding: Tensor = self.body(self.input_bn(self.log_mel(waveforms)[:, None]))
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """The logits, (batch, n_tags), for embeddings, (batch, embedding_size)."""
        logits: Tensor = self.head(embedding)
        return logits

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) -> (batch, 96, frames): log10(1 + 10 000 power), or for won-* decibels, at least -100."""
        ends = "constant" if self._of_package else "reflect"
        spectrum = torch.stft(waveforms, N_FFT, HOP, window=self.window, pad_mode=ends, return_complex=True)
        power = self.filters @ (spectrum.real.square() + spectrum.imag.square())
        if not self._of_package:
            return 10 * torch.log10(power.clamp(min=1e-10))
        frames = _VGG_FRAMES if self.config.architecture == "vgg" else self.config.input_length // HOP
        return torch.log10(1 + 1e4 * power[..., :frames])


class _Layer(nn.Module):
    """A convolution with ReLU and batch normalisation, which comes last in the package and first in Won's models."""

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d, *, epsilon: float, norm_last: bool) -> None:
        super().__init__()
        norm = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
        self.conv, self.bn = convolution, norm(convolution.out_channels, eps=epsilon)
        self._norm_last = norm_last

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        result: Tensor = self.bn(F.relu(x)) if self._norm_last else F.relu(self.bn(x))
        return result


class _Musicnn(nn.Module):
    """Filters for timbre and rhythm, three layers over time, and a hidden layer over the maxima and means of all."""

    def __init__(self, architecture: str, *, epsilon: float) -> None:
        super().__init__()
        self._of_package = package = architecture == "musicnn"
        convolutions: list[nn.Conv1d | nn.Conv2d] = [
            nn.Conv2d(1, _TIMBRE_CHANNELS, (height, 7), padding=(0, 3)) for height in _HEIGHTS[architecture]
        ]
        for length in _LENGTHS[architecture]:
            if package:
                convolutions.append(nn.Conv2d(1, _TEMPORAL_CHANNELS, (1, length)))
            else:
                convolutions.append(nn.Conv1d(1, _TEMPORAL_CHANNELS, length, padding=length // 2))
        front = sum(convolution.out_channels for convolution in convolutions)
        middle = [nn.Conv1d(n_in, _MIDDLE_CHANNELS, 7, padding=3) for n_in in (front, *[_MIDDLE_CHANNELS] * 2)]
        pooled = 2 * (front + 3 * _MIDDLE_CHANNELS)
        self.front, self.middle = (
            nn.ModuleList(_Layer(each, epsilon=epsilon, norm_last=package) for each in part)
            for part in (convolutions, middle)
        )
        self.pooled_bn = nn.BatchNorm1d(pooled, eps=epsilon) if package else None
        self.hidden = nn.Linear(pooled, 200)
        self.hidden_bn = nn.BatchNorm1d(200, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, 96, frames) -> (batch, 200)."""
        timbre = [layer(x).amax(2) for layer in self.front[:2]]
        levels = [torch.cat([*timbre, *(self._temporal(layer, x) for layer in self.front[2:])], 1)]
        levels.append(self.middle[0](levels[-1]))
        levels += [levels[-1] + self.middle[1](levels[-1])]
        levels += [levels[-1] + self.middle[2](levels[-1])]
        x = torch.cat(levels, 1)
        x = torch.cat([x.amax(2), x.mean(2)], 1)
        if self.pooled_bn is not None:
            result: Tensor = self.hidden_bn(F.relu(self.hidden(self.pooled_bn(x))))
            return result
        return F.relu(self.hidden_bn(self.hidden(x)))

    def _temporal(self, layer: Any, x: Tensor) -> Tensor:
        """A filter one band high: the maximum of its output over all bands, or its output for the bands' mean."""
        length = layer.conv.kernel_size[-1]
        y: Tensor = layer(F.pad(x, ((length - 1) // 2, length // 2)) if self._of_package else x.mean(2))
        return y.amax(2) if self._of_package else y


class _Pools(nn.Module):
    """Five layers of 3 x 3 filters, each followed by max-pooling."""

    def __init__(self, architecture: str, *, epsilon: float) -> None:
        super().__init__()
        widths = _WIDTHS[architecture]
        self.layers = nn.ModuleList(
            _Layer(nn.Conv2d(n_in, n_out, 3, padding=1), epsilon=epsilon, norm_last=architecture == "vgg")
            for n_in, n_out in pairwise(widths)
        )
        self._pools = _POOLS[architecture]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, 96, frames) -> (batch, embedding_size)."""
        for layer, (size, stride) in zip(self.layers, self._pools, strict=True):
            x = F.max_pool2d(layer(x), size, stride)
        return x.flatten(1)
