"""A model on the CPU as NumPy's matrix products on fixed buffers, with the same results as the torch module.

A thread computes one segment at a time, because its activations stay in the cache and a batch's do not; several threads
work on several segments. A segment of 3^9 is some 150 calls, which release the interpreter's lock while they compute.

Kernel and pooling of a body module have the same length m, which makes its convolution m products without any copying:
phase j of the padded input, (time, channels), seen from frame j on as (time / m, m * channels), times the filters,
(m * channels, out), is frames j, m + j, 2 m + j, ... of the convolution. The maximum over the phases is the pooled
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from samptag.core import layout
from samptag.core.config import ModelConfig
from samptag.core.mel import COMPRESSION, mel_filters, mel_window
from samptag.engine import winograd
from samptag.engine.winograd import Floats

Weighted: TypeAlias = layout.Convolution | layout.Dense

# Frames that go through the front end and the first module together: 729 of 128 channels are 0.4 MB, which fits most
# cores' second-level cache beside the filters.
MAX_CHUNK_FRAMES = 729
# Rows of one product, so that its factors and its result stay in the cache: a chunk's frames after pooling at m = 3.
MAX_ROWS = 243
# Tiles (two rows each) of Winograd's mixtures that fit the cache with WINOGRAD_CHANNELS; with more channels, fewer do.
MAX_TILES = 122
WINOGRAD_CHANNELS = 128
# With fewer rows, the passes around Winograd's products cost more than the products save.
WINOGRAD_LEAST_ROWS = 81
# With fewer rows, reading the filters limits a product, so its phases are copied together to read them once.
STACKED_ROWS = 81
# The most frames of the mel front end that are transformed together: 0.7 MB of windows at 729 samples.
MEL_FRAMES = 243
# The rows of all Winograd layers that make compiled passes worth their start. The paper's mel system has 81, a tenth of
# its work: in an hour of music they save less than numba takes to start.
COMPILABLE_ROWS = 729
NO_PADS = (0, 0)


def folded(weight: Any, bias: Any, gain: Any, shift: Any, mean: Any, variance: Any, *, epsilon: float) -> Any:
    """Weights, (out, ...), and bias of one layer that does what a layer and the batch normalisation after it do.

    NumPy arrays or torch tensors, in float64, so that folding adds no error to the layers' float32.
    """
    scale = gain / (variance + epsilon) ** 0.5
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * scale + shift


class Filters:
    """A layer with its batch normalisation folded in, as the right factor of a product.

    `kernel` is its length in frames, `n_in` and `n_out` its channels; `bias` is (out,), float32, zeros for a front end.
    """

    def __init__(self, layer: Weighted, *, tensors: Mapping[str, NDArray[Any]], epsilon: float) -> None:
        weight, bias = (tensors[f"{layer.name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        if layer.norm is not None:
            parts = ("weight", "bias", "running_mean", "running_var")
            norm = (tensors[f"{layer.norm}.{part}"].astype(np.float64) for part in parts)
            weight, bias = folded(weight, bias, *norm, epsilon=epsilon)
        weight = weight.reshape(*weight.shape[:2], -1)
        self.n_out, self.n_in, self.kernel = weight.shape
        self._taps: NDArray[np.float64] = np.ascontiguousarray(weight.transpose(2, 1, 0))
        self.bias: Floats = bias.astype(np.float32)
        if isinstance(layer, layout.Convolution) and layer.of_waveform:
            self.weight = np.concatenate([self._take().reshape(-1, self.n_out), bias[None]]).astype(np.float32)
            self.kernel, self.bias = 1, np.zeros(self.n_out, np.float32)

    @cached_property
    def weight(self) -> Floats:
        """(kernel * in, out), float32. A front end's has the bias as another row, because its frames end in a one."""
        return self._take().reshape(-1, self.n_out).astype(np.float32)

    @cached_property
    def mixed(self) -> Floats:
        """Winograd's mixtures of the taps, (8, in, out), float32; a layer uses either this or `weight`."""
        mixtures = winograd.TAP_MIXTURES @ self._take().reshape(self.kernel, -1)
        return mixtures.astype(np.float32).reshape(-1, self.n_in, self.n_out)

    def _take(self) -> NDArray[np.float64]:
        """The taps in float64, which are not kept."""
        taps = self._taps
        del self._taps
        return taps


class Frames:
    """Activations of one layer, (time, channels), with room for the zeros that a 'same' convolution needs around them.

    `inside` is the frames alone, `padded` includes the zeros, `for_tiles` has enough more to make whole tiles of 6.
    """

    def __init__(self, time: int, channels: int, *, pads: tuple[int, int]) -> None:
        left, right = pads
        self.for_tiles: Floats = np.zeros((left + time + right + 3, channels), np.float32)
        self.padded = self.for_tiles[:-3]
        self.inside = self.padded[left : left + time]

    def phases(self, kernel: int) -> Floats:
        """For each j below `kernel`, the rows that make frames j, j + kernel, ... of the convolution.

        A view of shape (kernel, time / kernel, kernel * channels); `kernel` is the one that the zeros are for, or 1.
        """
        if kernel == 1:
            return self.inside[None]
        (time, channels), (step, size) = self.inside.shape, self.inside.strides
        return as_strided(self.padded, (kernel, time // kernel, kernel * channels), (step, kernel * step, size))


Step: TypeAlias = Callable[[], object]


def pooled_convolution(source: Frames, filters: Filters, target: Floats) -> Iterator[Step]:
    """Convolution, maximum of every `kernel` frames, bias and ReLU, from `source` to `target`, (time / kernel, out)."""
    phases = source.phases(filters.kernel)
    kernel, time, width = phases.shape
    if kernel > 1 and time < STACKED_ROWS:
        stack, products = np.empty(phases.shape, np.float32), np.empty((kernel, time, filters.n_out), np.float32)
        yield partial(np.copyto, stack, phases)
        yield partial(np.matmul, stack.reshape(-1, width), filters.weight, out=products.reshape(-1, filters.n_out))
        yield partial(np.maximum.reduce, products, axis=0, out=target)
        yield from _biased(target, filters, rectify=True)
        return
    scratch = np.empty((min(MAX_ROWS, time), filters.n_out), np.float32)
    for start in range(0, time, MAX_ROWS):
        part = target[start : start + MAX_ROWS]
        first, *others = phases[:, start : start + MAX_ROWS]
        yield partial(np.matmul, first, filters.weight, out=part)
        for phase in others:
            yield partial(np.matmul, phase, filters.weight, out=scratch[: len(part)])
            yield partial(np.maximum, part, scratch[: len(part)], out=part)
        yield from _biased(part, filters, rectify=True)


def convolution(
    source: Frames, filters: Filters, target: Floats, *, add: bool = False, rectify: bool = False
) -> Iterator[Step]:
    """Convolution and bias without pooling, from `source` to (or added to) `target`, (time, out); ReLU if asked for."""
    if len(target) % filters.kernel:
        raise NotImplementedError(f"{len(target)} frames are not whole groups of {filters.kernel}")
    by_phase = target.reshape(-1, filters.kernel, filters.n_out)
    scratch = np.empty((len(by_phase), filters.n_out), np.float32) if add else None
    for j, phase in enumerate(source.phases(filters.kernel)):
        frames = by_phase[:, j]
        yield partial(np.matmul, phase, filters.weight, out=frames if scratch is None else scratch)
        if scratch is not None:
            yield partial(np.add, frames, scratch, out=frames)
    yield from _biased(target, filters, rectify=rectify)


def _biased(target: Floats, filters: Filters, *, rectify: bool) -> Iterator[Step]:
    yield partial(np.add, target, filters.bias, out=target)
    if rectify:
        yield partial(winograd.relu, target)


def _excite(frames: Floats, mean: Floats, squeeze: tuple[Floats, Floats], excite: tuple[Floats, Floats]) -> None:
    """Squeeze and excitation of `frames`, (time, channels), in place, by the weights and biases of two layers."""
    hidden = np.asarray(mean @ frames @ squeeze[0] + squeeze[1], np.float32)
    winograd.relu(hidden)
    logits = hidden @ excite[0] + excite[1]
    np.multiply(frames, np.exp(-np.logaddexp(np.float32(0), -logits)), out=frames)


def winograd_suits(layer: layout.Convolution, target: Floats) -> bool:
    """Whether `winograd_convolution` can compute `target`, and faster than `pooled_convolution`."""
    return layer.kernel == 3 and len(target) >= WINOGRAD_LEAST_ROWS


def winograd_convolution(
    source: Frames, filters: Filters, target: Floats, *, scratch: Floats, rectify: bool = False
) -> Step:
    """The same as `pooled_convolution` for a kernel of 3, with fewer products (see `samptag.engine.winograd`).

    With `rectify`, `source` first goes through ReLU. `scratch` holds at least `winograd_scratch` numbers.
    """
    taps, n_in, n_out, planes = filters.mixed, filters.n_in, filters.n_out, winograd.POINTS + 1
    limit = max(1, MAX_TILES * WINOGRAD_CHANNELS // n_in)
    parts = []
    for start in range(0, len(target), 2 * limit):
        part = target[start : start + 2 * limit]
        tiles = (len(part) + 1) // 2
        mixed, rest = np.split(scratch, [planes * tiles * n_in])
        products = rest[: planes * tiles * n_out].reshape(planes, tiles, n_out)
        parts.append((3 * start, mixed.reshape(planes, tiles, n_in), products, part))

    def compute() -> None:
        passes = winograd.passes  # the compiled ones, once they are there
        if rectify:
            passes.rectify(source.padded)
        for start, mixed, products, part in parts:
            passes.mix(source.for_tiles, start, mixed)
            np.matmul(mixed[:-1], taps, out=products[:-1])
            passes.unmix(products, filters.bias, part)

    return compute


def winograd_scratch(widest: int) -> int:
    """How many numbers of scratch memory Winograd's products take for layers with at most `widest` output channels."""
    return (winograd.POINTS + 1) * MAX_TILES * (WINOGRAD_CHANNELS + widest)


def framing(config: ModelConfig, *, pads: tuple[int, int]) -> tuple[Floats, Frames, Step]:
    """Where to put a segment's samples, (input_length,); the front end's frames of them; and the step between the two.

    A frame is a row of first_filter + 1 numbers, to convolve with a kernel of 1: the last one, a one, multiplies the
    bias. The rows for the zeros of the next layer's 'same' convolution have no one and stay zero through the front end.
    """
    left, right = config.front_pads
    waveform = np.zeros(left + config.input_length + right, np.float32)
    frames = Frames(config.frames, config.first_filter + 1, pads=pads)
    frames.inside[:, -1] = 1
    windows = sliding_window_view(waveform, config.first_filter)[:: config.first_stride][: config.frames]
    return waveform[left : left + config.input_length], frames, partial(np.copyto, frames.inside[:, :-1], windows)


def mel(config: ModelConfig, target: Floats) -> tuple[Floats, Step]:
    """Where to put a segment's samples, (input_length,), and the mel front end from there to `target`, (frames, bands).

    The Fourier transform of p * q samples is two matrix products (Cooley and Tukey 1965): over every q-th sample, and,
    with the factors that turn each of these sums, over the q places where they start. Half of the sums are the
    conjugates of the others and left out. With 729 = 27 * 27 samples the step takes 0.7 of the time of NumPy's FFT.
    """
    left, right = config.front_pads
    hop, length = config.first_stride, config.first_filter
    window, n_fft = mel_window(config)
    n_hops = -(-(left + config.input_length + right) // hop)
    hops, places = np.zeros((n_hops, hop), np.float32), np.zeros((hop, n_hops), np.float32)
    count = len(target)
    while count > MEL_FRAMES and count % config.m == 0:
        count //= config.m

    p = max(divisor for divisor in range(1, math.isqrt(n_fft) + 1) if n_fft % divisor == 0)
    q = n_fft // p
    each = np.arange(p // 2 + 1)
    bins = each[:, None] + p * np.arange(q)
    turned = np.exp(-2j * np.pi / p * np.outer(each, np.arange(p)))
    first = np.stack([turned.real, turned.imag], 1).reshape(-1, p).astype(np.float32)
    turned = np.exp(-2j * np.pi / n_fft * (bins[..., None] * np.arange(q)))
    second = np.block([[turned.real, -turned.imag], [turned.imag, turned.real]]).astype(np.float32)
    # Bins above half the sample rate mirror those below; those that occur twice count half.
    bins = np.minimum(bins, n_fft - bins).reshape(-1)
    bands = mel_filters(config.sample_rate, n_fft=n_fft, n_bands=config.front_channels)
    filters = np.ascontiguousarray((bands[:, bins] * (COMPRESSION / np.bincount(bins)[bins])).T, np.float32)

    samples = np.zeros((n_fft, count), np.float32)
    sums = np.empty((len(each), 2 * q, count), np.float32)
    spectrum = np.empty((len(each), 2, q, count), np.float32)
    magnitudes = np.empty((len(bins), count), np.float32)
    # One product a hop, of the same place in many frames: neighbours in memory once the hops are transposed.
    rows = [slice(row, min(row + hop, length)) for row in range(0, length, hop)]
    windows = [(window[part, None], samples[part]) for part in rows]

    def compute() -> None:
        np.copyto(places, hops.T)
        for start in range(0, len(target), count):
            for place, (factors, windowed) in enumerate(windows, start):
                np.multiply(places[: len(factors), place : place + count], factors, out=windowed)
            np.matmul(first, samples.reshape(p, -1), out=sums.reshape(len(first), -1))
            np.matmul(second, sums, out=spectrum.reshape(sums.shape))
            np.square(spectrum, out=spectrum)
            np.add(spectrum[:, 0], spectrum[:, 1], out=magnitudes.reshape(spectrum[:, 0].shape))
            np.sqrt(magnitudes, out=magnitudes)
            part = target[start : start + count]
            np.matmul(magnitudes.T, filters, out=part)
            np.log1p(part, out=part)

    return hops.reshape(-1)[left : left + config.input_length], compute


class CpuModel:
    """One thread's working memory for a model, and the steps from a segment to its embedding.

    `filters` gives a layer's `Filters`, shared by all threads. A NotImplementedError if the model has no NumPy form.
    """

    def __init__(self, config: ModelConfig, layers: layout.Layout, filters: Callable[[Weighted], Filters]) -> None:
        self._config, self._filters, self._winograd_rows = config, filters, 0
        self._steps: list[Step] = []
        self._scratch = np.empty(winograd_scratch(max(config.channels)), np.float32)
        outputs = [
            Frames(config.m ** (config.n - depth), config.channels[depth - 1], pads=_pads_into(following))
            for depth, following in enumerate((*layers.body[1:], layers.top), start=1)
        ]
        self._add_beginning(layers.front, layers.body[0], outputs[0].inside)
        for block, (source, output) in zip(layers.body[1:], pairwise(outputs), strict=True):
            self._add_block(block, source, output.inside)
        self._add_end(layers, outputs)
        # Whether the passes that numba makes faster are a large enough part of the work.
        self.compilable = self._winograd_rows >= COMPILABLE_ROWS
        del self._filters  # which keeps the tensors of the weights; the steps have what they need of them

    def __call__(self, segment: Floats) -> Floats:
        """The embedding, (embedding_size,), of one segment, (input_length,); the next call overwrites it."""
        np.copyto(self._segment, segment)
        for step in self._steps:
            step()
        return self._embedding

    def _add_beginning(self, front: layout.Block | None, first: layout.Block, target: Floats) -> None:
        """The front end and the first module."""
        if isinstance(front, layout.Plain) and isinstance(first, layout.Plain):
            self._add_chunks(front, first, target)
            return
        spectrum = Frames(self._config.frames, self._config.front_channels, pads=_pads_into(first))
        if front is None:
            self._segment, step = mel(self._config, spectrum.inside)
            self._steps.append(step)
        else:
            self._segment, frames, step = framing(self._config, pads=NO_PADS)
            self._steps.append(step)
            self._add_block(front, frames, spectrum.inside)
        self._add_block(first, spectrum, target)

    def _add_chunks(self, front: layout.Plain, first: layout.Plain, target: Floats) -> None:
        """The front end and the first module, on as many frames at a time as stay in the cache."""
        rows = m = self._config.m
        while rows * m <= min(MAX_CHUNK_FRAMES, self._config.frames):
            rows *= m
        pads = first.convolution.pads
        chunk = Frames(rows, self._config.front_channels, pads=pads)
        self._segment, frames, step = framing(self._config, pads=pads)
        self._steps.append(step)
        weight = self._filters(front.convolution).weight
        for start in range(0, self._config.frames, rows):
            framed = frames.padded[start : start + len(chunk.padded)]
            self._steps.append(partial(np.matmul, framed, weight, out=chunk.padded))
            self._add_pooled(first, chunk, target[start // m : (start + rows) // m], rectify=True)
        self._add_excitation(first.excitation, target)

    def _add_block(self, block: layout.Block, source: Frames, target: Floats) -> None:
        if isinstance(block, layout.Residual):
            self._add_residual(block, source, target)
            return
        if not isinstance(block, layout.Plain):
            raise NotImplementedError(f"no NumPy form is known for {block}")
        if block.pool > 1:
            self._add_pooled(block, source, target)
        else:
            self._steps += convolution(source, self._filters(block.convolution), target, rectify=True)
        self._add_excitation(block.excitation, target)

    def _add_pooled(self, block: layout.Plain, source: Frames, target: Floats, *, rectify: bool = False) -> None:
        """The convolution and pooling of `block`; with `rectify`, after ReLU on its input."""
        if block.pool != block.convolution.kernel:
            raise NotImplementedError(f"pooling of {block.pool} frames has no form beside {block.convolution}")
        filters = self._filters(block.convolution)
        if winograd_suits(block.convolution, target):
            self._steps.append(winograd_convolution(source, filters, target, scratch=self._scratch, rectify=rectify))
            self._winograd_rows += len(target)
        else:
            if rectify:
                self._steps.append(partial(winograd.relu, source.padded))
            self._steps += pooled_convolution(source, filters, target)

    def _add_residual(self, block: layout.Residual, source: Frames, target: Floats) -> None:
        time = len(target) * block.pool
        between = Frames(time, block.first.n_out, pads=block.second.pads)
        total = np.empty((time, block.second.n_out), np.float32)
        self._steps += convolution(source, self._filters(block.first), between.inside, rectify=True)
        self._steps += convolution(between, self._filters(block.second), total)
        self._add_excitation(block.excitation, total)
        if block.shortcut is None:
            self._steps.append(partial(np.add, total, source.inside, out=total))
        else:
            self._steps += convolution(source, self._filters(block.shortcut), total, add=True)
        groups = total.reshape(-1, block.pool, block.second.n_out)
        self._steps += [partial(np.maximum.reduce, groups, axis=1, out=target), partial(winograd.relu, target)]

    def _add_excitation(self, excitation: layout.Excitation | None, target: Floats) -> None:
        if excitation is not None:
            mean = np.full((1, len(target)), 1 / len(target), np.float32)
            layers = ((filters.weight, filters.bias) for filters in map(self._filters, excitation))
            self._steps.append(partial(_excite, target, mean, *layers))

    def _add_end(self, layers: layout.Layout, outputs: list[Frames]) -> None:
        vector = np.empty((1, self._config.embedding_size), np.float32)
        if layers.top is None:
            levels = [frames.inside for frames in outputs[-3:]]
            parts = np.split(vector[0], np.cumsum([level.shape[1] for level in levels[:-1]]))
            for level, part in zip(levels, parts, strict=True):
                self._steps.append(partial(np.maximum.reduce, level, axis=0, out=part))
        else:
            self._add_block(layers.top, outputs[-1], vector)
        if layers.hidden is not None:
            filters, hidden = self._filters(layers.hidden), np.empty_like(vector)
            self._steps.append(partial(np.matmul, vector, filters.weight, out=hidden))
            self._steps += _biased(hidden, filters, rectify=True)
            vector = hidden
        self._embedding: Floats = vector[0]


def _pads_into(block: layout.Block | None) -> tuple[int, int]:
    """The zeros that `block` needs around its input."""
    if isinstance(block, layout.Residual):
        return block.first.pads
    return block.convolution.pads if isinstance(block, layout.Plain) else NO_PADS
