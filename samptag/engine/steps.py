"""The layers of a network as matrix products on buffers of their own: the parts of a `CpuModel`.

Kernel and pooling of a body module have the same length m, which makes its convolution m products without any
copying: of activations kept as (time, channels), the m frames that make frame m*t + j of the result are one row of
m * channels numbers, and for a fixed j these rows lie one behind the other. So phase j of the padded input, seen as
(time / m, m * channels), times the filters, (m * channels, out), is frames j, m + j, 2 m + j, ... of the convolution,
and the maximum over the m phases is the pooled result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from samptag.core.config import ModelConfig
from samptag.core.layout import Convolution, Dense
from samptag.core.layout import Excitation as ExcitationLayout
from samptag.core.mel import COMPRESSION, mel_filters, mel_window
from samptag.engine import winograd

Floats = NDArray[np.float32]

# Rows of one product, so that its factors and its result stay in the cache: as many as a chunk's frames make after
# pooling at m = 3 (see `samptag.engine.cpu`).
MAX_ROWS = 243
# Tiles (two rows each) of Winograd's mixtures that fit the cache with this many channels; wider ones take fewer.
MAX_TILES = 122
WINOGRAD_CHANNELS = 128
# With fewer rows the passes around Winograd's products cost more than the products save.
WINOGRAD_LEAST_ROWS = 81
# With fewer rows the product is bound by reading its filters, so its phases are copied together to read them once.
STACKED_ROWS = 81
# Frames of the mel front end that are transformed together, at most: 0.7 MB of windows at 729 samples.
MEL_FRAMES = 243


def folded(weight: Any, bias: Any, gain: Any, shift: Any, mean: Any, variance: Any, *, epsilon: float) -> Any:
    """Weights, (out, ...), and bias of one layer that does what a layer and the batch normalisation behind it do.

    NumPy's arrays or torch's tensors, in float64, so that folding adds no error of its own to the layers' float32.
    """
    scale = gain / (variance + epsilon) ** 0.5
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * scale + shift


class Filters:
    """A layer with its batch normalisation folded in, as the right factor of a product.

    Attributes
    ----------
    weight : ndarray
        Shape (kernel * in, out), float32. A front end's has the bias as a further row: its frames end in a one.
    bias : ndarray
        Shape (out,), float32; zeros for a front end.
    kernel, n_in, n_out : int
        Length in frames, numbers of channels.
    """

    def __init__(self, layer: Convolution | Dense, tensors: Mapping[str, NDArray[Any]], *, epsilon: float) -> None:
        weight = tensors[f"{layer.name}.weight"].astype(np.float64)
        bias = tensors[f"{layer.name}.bias"].astype(np.float64)
        if layer.norm is not None:
            parts = ("weight", "bias", "running_mean", "running_var")
            norm = (tensors[f"{layer.norm}.{part}"].astype(np.float64) for part in parts)
            weight, bias = folded(weight, bias, *norm, epsilon=epsilon)
        weight = weight.reshape(*weight.shape[:2], -1)
        self.n_out, self.n_in, self.kernel = weight.shape
        taps = np.ascontiguousarray(weight.transpose(2, 1, 0))
        self._taps: NDArray[np.float64] | None = taps
        self._weight: Floats | None = None
        self._mixed: Floats | None = None
        self.bias: Floats = bias.astype(np.float32)
        if isinstance(layer, Convolution) and layer.of_waveform:
            self._weight = np.concatenate([taps.reshape(-1, self.n_out), bias[None]]).astype(np.float32)
            self.kernel, self.bias = 1, np.zeros(self.n_out, np.float32)

    @property
    def weight(self) -> Floats:
        """The right factor of the layer's product."""
        if self._weight is None:
            self._weight = self._take().reshape(-1, self.n_out).astype(np.float32)
        return self._weight

    @property
    def mixed(self) -> Floats:
        """Winograd's mixtures of the taps, (8, in, out), float32; only this or `weight` is used of a layer."""
        if self._mixed is None:
            mixtures = winograd.TAP_MIXTURES @ self._take().reshape(self.kernel, -1)
            self._mixed = mixtures.astype(np.float32).reshape(-1, self.n_in, self.n_out)
        return self._mixed

    def _take(self) -> NDArray[np.float64]:
        """The taps in float64, which are then forgotten."""
        taps, self._taps = self._taps, None
        if taps is None:
            raise RuntimeError("a layer is computed by Winograd's products or by its own, not by both")
        return taps


class FilterBank:
    """The filters of one network, made once, layer by layer, and shared by the threads that use them."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._epsilon, self._tensors = config.bn_epsilon, tensors
        self._filters: dict[str, Filters] = {}

    def filters(self, layer: Convolution | Dense) -> Filters:
        """The filters of `layer` and its batch normalisation."""
        if layer.name not in self._filters:
            self._filters[layer.name] = Filters(layer, self._tensors, epsilon=self._epsilon)
        return self._filters[layer.name]


def relu(x: Floats) -> None:
    """Put zeros in the place of negative numbers."""
    np.maximum(x, 0, out=x)


class Frames:
    """Activations of one layer, (time, channels), with room for the zeros that a 'same' convolution needs around them.

    Attributes
    ----------
    inside : ndarray
        The frames, (time, channels).
    padded : ndarray
        The frames with the zeros around them, (left + time + right, channels).
    for_tiles : ndarray
        The same with as many zeros more as make whole tiles of 6 frames.
    """

    def __init__(self, time: int, channels: int, *, pads: tuple[int, int]) -> None:
        left, right = pads
        length = left + time + right
        self.for_tiles: Floats = np.zeros((length + 3, channels), np.float32)
        self.padded = self.for_tiles[:length]
        self.inside = self.padded[left : left + time]

    def phases(self, kernel: int) -> Floats:
        """The rows that make frames j, j + kernel, ..., for each j below `kernel` (the frames' own, or 1).

        A view of shape (kernel, time / kernel, kernel * channels).
        """
        if kernel == 1:
            return self.inside[None]
        time, channels = self.inside.shape
        step, size = channels * self.padded.itemsize, self.padded.itemsize
        shape = (kernel, time // kernel, kernel * channels)
        return as_strided(self.padded, shape, (step, kernel * step, size))


class PooledConvolution:
    """Convolution, the maximum of every `kernel` frames, bias, ReLU: `source` to `target`, (time / kernel, out)."""

    def __init__(self, source: Frames, filters: Filters, target: Floats) -> None:
        self.weight, self.bias, self.target = filters.weight, filters.bias, target
        phases = source.phases(filters.kernel)
        kernel, time, width = phases.shape
        self.stack: Floats | None = None
        if kernel > 1 and time < STACKED_ROWS:
            self.phases = phases
            self.stack = np.empty(phases.shape, np.float32)
            self.products = np.empty((kernel, time, filters.n_out), np.float32)
            self.rows = self.stack.reshape(-1, width), self.products.reshape(-1, filters.n_out)
            return
        scratch = np.empty((min(MAX_ROWS, time), filters.n_out), np.float32)
        self.parts = []
        for start in range(0, time, MAX_ROWS):
            part = target[start : start + MAX_ROWS]
            rows = phases[:, start : start + MAX_ROWS]
            self.parts.append((rows[0], rows[1:], part, scratch[: len(part)]))

    def __call__(self) -> None:
        """Compute `target` from `source`."""
        if self.stack is not None:
            np.copyto(self.stack, self.phases)
            np.matmul(self.rows[0], self.weight, out=self.rows[1])
            np.maximum.reduce(self.products, axis=0, out=self.target)
            self._finish(self.target)
            return
        for first, others, target, scratch in self.parts:
            np.matmul(first, self.weight, out=target)
            for phase in others:
                np.matmul(phase, self.weight, out=scratch)
                np.maximum(target, scratch, out=target)
            self._finish(target)

    def _finish(self, target: Floats) -> None:
        np.add(target, self.bias, out=target)
        relu(target)


class WinogradConvolution:
    """The same as `PooledConvolution` for a kernel of 3, with fewer products (see `samptag.engine.winograd`).

    With `rectify`, `source` first goes through ReLU. `scratch` holds at least `winograd_scratch` numbers.
    """

    def __init__(
        self, source: Frames, filters: Filters, target: Floats, *, scratch: Floats, rectify: bool = False
    ) -> None:
        self.taps, self.bias, self.source = filters.mixed, filters.bias, source
        self.rectify = rectify
        n_in, n_out = filters.n_in, filters.n_out
        limit = max(1, MAX_TILES * WINOGRAD_CHANNELS // n_in)
        self.parts = []
        for start in range(0, len(target), 2 * limit):
            part = target[start : start + 2 * limit]
            tiles = (len(part) + 1) // 2
            planes = winograd.POINTS + 1
            mixed = scratch[: planes * tiles * n_in].reshape(planes, tiles, n_in)
            products = scratch[planes * tiles * n_in :][: planes * tiles * n_out].reshape(planes, tiles, n_out)
            self.parts.append((3 * start, mixed, products, part))

    @staticmethod
    def suits(layer: Convolution, target: Floats) -> bool:
        """Whether this is a way to compute `target`, and a faster one than `PooledConvolution`."""
        return layer.kernel == 3 and len(target) >= WINOGRAD_LEAST_ROWS

    def __call__(self) -> None:
        """Compute `target` from `source`."""
        passes = winograd.current()
        if self.rectify:
            passes.rectify(self.source.padded)
        for start, mixed, products, target in self.parts:
            passes.mix(self.source.for_tiles, start, mixed)
            np.matmul(mixed[:-1], self.taps, out=products[:-1])
            passes.unmix(products, self.bias, target)


def winograd_scratch(widest: int) -> int:
    """Numbers of scratch memory that Winograd's products of layers with at most `widest` output channels take."""
    return (winograd.POINTS + 1) * MAX_TILES * (WINOGRAD_CHANNELS + widest)


class FullConvolution:
    """Convolution and bias without pooling, from `source` to (or added to) `target`, (time, out); ReLU if asked for."""

    def __init__(
        self, source: Frames, filters: Filters, target: Floats, *, add: bool = False, rectify: bool = False
    ) -> None:
        self.weight, self.bias, self.target, self.rectify = filters.weight, filters.bias, target, rectify
        if len(target) % filters.kernel:
            raise NotImplementedError(f"{len(target)} frames are not whole groups of {filters.kernel}")
        by_phase = target.reshape(-1, filters.kernel, filters.n_out)
        phases = source.phases(filters.kernel)
        self.pairs = [(phase, by_phase[:, j]) for j, phase in enumerate(phases)]
        self.scratch = np.empty((len(by_phase), filters.n_out), np.float32) if add else None

    def __call__(self) -> None:
        """Compute `target` from `source`."""
        for phase, frames in self.pairs:
            if self.scratch is None:
                np.matmul(phase, self.weight, out=frames)
            else:
                np.matmul(phase, self.weight, out=self.scratch)
                np.add(frames, self.scratch, out=frames)
        np.add(self.target, self.bias, out=self.target)
        if self.rectify:
            relu(self.target)


class Framing:
    """The front end's frames of a segment, a row each, with a one behind them that multiplies the bias.

    Rows of zeros stand where the next layer's 'same' convolution needs its zeros: without the one they stay zero
    through the front end.

    Attributes
    ----------
    segment : ndarray
        Where to put the samples, (input_length,).
    padded : ndarray
        The rows, (left + frames + right, first_filter + 1).
    frames : Frames
        The same as frames to convolve with a kernel of 1.
    """

    def __init__(self, config: ModelConfig, *, pads: tuple[int, int]) -> None:
        left, right = config.front_pads
        waveform = np.zeros(left + config.input_length + right, np.float32)
        self.segment = waveform[left : left + config.input_length]
        self.frames = Frames(config.frames, config.first_filter + 1, pads=pads)
        self.padded = self.frames.padded
        self.frames.inside[:, -1] = 1
        self._target = self.frames.inside[:, :-1]
        self._source = sliding_window_view(waveform, config.first_filter)[:: config.first_stride][: config.frames]

    def __call__(self) -> None:
        """Frame the samples in `segment`."""
        np.copyto(self._target, self._source)


class Mel:
    """The mel front end, from `segment`, (samples,), to `target`, (frames, bands).

    The Fourier transform of p * q samples is two matrix products (Cooley and Tukey 1965): over every q-th sample, and,
    with the factors that turn each of these sums, over the q places they start at. Both are real: sine and cosine stand
    one below the other. Half of the sums are the conjugates of the others and left out. With 729 = 27 * 27 samples the
    whole step takes 0.7 of the time that it takes with NumPy's transform.
    """

    def __init__(self, config: ModelConfig, target: Floats) -> None:
        left, right = config.front_pads
        hop, length = config.first_stride, config.first_filter
        window, n_fft = mel_window(config)
        hops = -(-(left + config.input_length + right) // hop)
        self.hops = np.zeros((hops, hop), np.float32)
        self.segment = self.hops.reshape(-1)[left : left + config.input_length]
        self.places = np.zeros((hop, hops), np.float32)
        count = len(target)
        while count > MEL_FRAMES and count % config.m == 0:
            count //= config.m

        p = max(divisor for divisor in range(1, math.isqrt(n_fft) + 1) if n_fft % divisor == 0)
        q = n_fft // p
        sums = np.arange(p // 2 + 1)
        bins = sums[:, None] + p * np.arange(q)
        first = np.exp(-2j * np.pi / p * np.outer(sums, np.arange(p)))
        second = np.exp(-2j * np.pi / n_fft * (bins[..., None] * np.arange(q)))
        self.first = np.stack([first.real, first.imag], 1).reshape(-1, p).astype(np.float32)
        self.second = np.block([[second.real, -second.imag], [second.imag, second.real]]).astype(np.float32)
        # Bins above half the sample rate mirror those below; what comes twice counts by half.
        bins = np.minimum(bins, n_fft - bins).reshape(-1)
        filters = mel_filters(config.sample_rate, n_fft=n_fft, n_bands=config.front_channels)
        self.filters = np.ascontiguousarray((filters[:, bins] * (COMPRESSION / np.bincount(bins)[bins])).T, np.float32)

        self.windowed = np.zeros((n_fft, count), np.float32)
        self.sums = np.empty((len(sums), 2 * q, count), np.float32)
        self.spectrum = np.empty((len(sums), 2, q, count), np.float32)
        self.magnitudes = np.empty((len(bins), count), np.float32)
        # One product a hop, of the same place of many frames: neighbours in memory once the hops are turned.
        rows = [slice(row, min(row + hop, length)) for row in range(0, length, hop)]
        self.windows = [(window[part, None], self.windowed[part]) for part in rows]
        self.parts = [target[start : start + count] for start in range(0, len(target), count)]

    def __call__(self) -> None:
        """Compute `target` from `segment`."""
        np.copyto(self.places, self.hops.T)
        spectrum, magnitudes = self.spectrum, self.magnitudes
        for number, target in enumerate(self.parts):
            for hop, (window, windowed) in enumerate(self.windows, start=number * len(target)):
                np.multiply(self.places[: len(window), hop : hop + len(target)], window, out=windowed)
            samples = self.windowed.reshape(self.first.shape[1], -1)
            np.matmul(self.first, samples, out=self.sums.reshape(len(self.first), -1))
            np.matmul(self.second, self.sums, out=spectrum.reshape(self.sums.shape))
            np.square(spectrum, out=spectrum)
            np.add(spectrum[:, 0], spectrum[:, 1], out=magnitudes.reshape(spectrum[:, 0].shape))
            np.sqrt(magnitudes, out=magnitudes)
            np.matmul(magnitudes.T, self.filters, out=target)
            np.log1p(target, out=target)


class Excitation:
    """Squeeze and excitation of `frames`, (time, channels), in place."""

    def __init__(self, layers: ExcitationLayout, bank: FilterBank, frames: Floats) -> None:
        squeeze, excite = bank.filters(layers.squeeze), bank.filters(layers.excite)
        self.squeeze, self.excite = (squeeze.weight, squeeze.bias), (excite.weight, excite.bias)
        self.frames = frames
        self.mean: Floats = np.full((1, len(frames)), 1 / len(frames), np.float32)

    def __call__(self) -> None:
        """Weight the channels of `frames`."""
        weight, bias = self.squeeze
        hidden = np.asarray(self.mean @ self.frames @ weight + bias, np.float32)
        relu(hidden)
        weight, bias = self.excite
        logits = hidden @ weight + bias
        np.multiply(self.frames, np.exp(-np.logaddexp(np.float32(0), -logits)), out=self.frames)
