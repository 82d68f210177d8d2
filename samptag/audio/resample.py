"""Streaming resampler with resampy's ``kaiser_best`` filter, tabulated once per pair of sample rates.

The samples are those of ``resampy.resample`` (to 1e-4 of full scale; the difference is the rounding of its clock),
but a stream can be given in blocks of any size, and matrix products take the place of a loop: some hundred times faster
on one core, and with nothing to compile. The result does not depend on how the stream is cut, to the last bit: products
always have the same shape at the same place in the stream.

A filter is a table of one wing of a windowed sinc, 8192 entries a zero crossing, read between its entries by linear
interpolation (Smith, "Digital Audio Resampling Home Page", the algorithm resampy implements). For a rational pair of
rates the fractional positions repeat, so the weights can be computed once.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from math import gcd
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Samples = NDArray[np.float32]
_NONE: Samples = np.zeros(0, dtype=np.float32)
# Silence is pushed after the end in pieces of so many samples, until all of the sound has come out.
_SILENCE: Samples = np.zeros(4096, dtype=np.float32)

# Ratios with more phases than this use an interpolated bank: an exact one would take much time and memory.
MAX_PHASES = 2048
# OpenBLAS spreads a product over threads from 4 * 65 536 multiply-adds on. Its threads wait spinning: beside a busy
# neighbour a threaded product of this size was measured 500 times slower than an unthreaded one, so all stay smaller.
MAX_PRODUCT = 4 * 65_536
# Rows of a product if its size allows; the stream waits until they are full. 32 were 10 to 30 % faster than 16.
MAX_ROWS = 32
# Products computed in one call: enough to hide the call, few enough that the copied windows stay in the cache.
STACK = 16
# Output samples computed together by the interpolated bank.
INTERPOLATED_BLOCK = 512
# Output samples in a row of a matrix product. A multiple of the BLAS kernels' width; of 16 to 147 measured for
# 44 100 and 48 000 -> 22 050 Hz, 32 and 64 were the fastest, and 32 pads a period of 147 the least.
GROUP = 32
# Intervals between the tabulated phases of an interpolated bank. Linear interpolation between 256 of them
# was measured to add 1e-6 of full scale (64: 1e-5); more would only leave the processor's cache.
INTERPOLATED_PHASES = 256


@cache
def _published_filter() -> tuple[NDArray[np.float64], int]:
    """The right wing and the entries per zero crossing of ``kaiser_best``, from the file that resampy ships.

    Importing resampy would take seconds: it compiles with numba.
    """
    spec = importlib.util.find_spec("resampy")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("resampy is not installed; its filters are needed to resample: pip install resampy")
    path = Path(spec.submodule_search_locations[0]) / "data" / "kaiser_best.npz"
    with np.load(path) as stored:
        return stored["half_window"].astype(np.float64), int(stored["precision"])


def _taps(up: int, down: int, fractions: NDArray[np.float64]) -> NDArray[np.float32]:
    """The taps, (outputs, 2 * half), of outputs that lie `fractions` (in [0, 1]) of a sample after input sample n.

    They are the weights of the input samples n - half + 1 ... n + half at a ratio of at least 1/8192.
    """
    wing, entries_per_crossing = _published_filter()
    scale = min(1.0, up / down)
    step = int(scale * entries_per_crossing)  # from one input sample to the next; resampy walks in whole entries
    if step < 1:
        raise ValueError(f"cannot resample by {up}/{down}: the ratio must be at least 1/{entries_per_crossing}")
    half, last = len(wing) // step, len(wing) - 1
    scaled = wing * scale

    def wing_weights(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """The filter at distance, distance + 1, ... samples; zero past the table's last whole step."""
        positions = distances * (scale * entries_per_crossing)
        offsets = positions.astype(np.int64)
        eta = positions - offsets
        index = offsets[:, None] + step * np.arange(half)
        inside = np.arange(half) < ((last + 1 - offsets) // step)[:, None]
        index = np.minimum(index, last)
        here = scaled[index]
        there = scaled[np.minimum(index + 1, last)]
        return np.where(inside, here + eta[:, None] * (there - here), 0.0)

    left, right = wing_weights(fractions), wing_weights(1.0 - fractions)
    return np.concatenate([left[:, ::-1], right], axis=1).astype(np.float32)


@dataclass(frozen=True)
class PhaseBank:
    """The weights of one whole period of output samples, in groups of `GROUP`, each ready for a matrix product.

    Column j of group g of `weights`, (groups, span, GROUP), has the taps of output g * GROUP + j, shifted to where they
    apply.
    """

    half: int  # taps on each side of an output sample
    period_in: int  # input samples of one period
    period_out: int  # output samples of one period
    starts: tuple[int, ...]  # first input sample of each group, counted from the period's first less half - 1
    weights: NDArray[np.float32]

    @property
    def span(self) -> int:
        """Input samples one group reads."""
        return int(self.weights.shape[1])


@lru_cache(maxsize=8)
def polyphase_bank(up: int, down: int) -> PhaseBank:
    """The bank for `up` output samples per `down` input samples; one with few phases is repeated to fill a group."""
    repeats = -(-GROUP // up)
    period_out, period_in = up * repeats, down * repeats
    groups = -(-period_out // GROUP)
    whole, phase = np.divmod(np.arange(groups * GROUP) * down, up)
    taps = _taps(up, down, phase / up)
    width = taps.shape[1]
    starts = whole[::GROUP]
    weights = np.zeros((groups, (GROUP - 1) * down // up + 1 + width, GROUP), dtype=np.float32)
    for output in range(groups * GROUP):
        group, column = divmod(output, GROUP)
        weights[group, whole[output] - starts[group] + np.arange(width), column] = taps[output]
    return PhaseBank(width // 2, period_in, period_out, tuple(starts.tolist()), weights)


@lru_cache(maxsize=4)
def interpolated_bank(up: int, down: int) -> NDArray[np.float32]:
    """The taps at evenly spaced phases, for a ratio with too many phases: row i at i / INTERPOLATED_PHASES."""
    return _taps(up, down, np.linspace(0.0, 1.0, INTERPOLATED_PHASES + 1))


class Resampler:
    """One stream's change of sample rate (Hz): push blocks in, take what is ready, finish.

    Raises a ValueError if a rate is not positive, or new_rate is below 1/8192 of orig_rate.
    """

    def __init__(self, orig_rate: int, new_rate: int) -> None:
        if orig_rate <= 0 or new_rate <= 0:
            raise ValueError(f"sample rates must be positive: {orig_rate} -> {new_rate} Hz")
        self._orig_rate, self._new_rate = orig_rate, new_rate
        common = gcd(orig_rate, new_rate)
        up, down = new_rate // common, orig_rate // common
        self._engine: _Polyphase | _Interpolated | None = None
        if orig_rate != new_rate:
            self._engine = _Polyphase(up, down) if up <= MAX_PHASES else _Interpolated(up, down)
        self._n_in = self._n_out = 0

    def push(self, block: Samples) -> Samples:
        """The output samples that became ready, float32, (any number,); `finish` gives the rest."""
        self._n_in += len(block)
        ready = block if self._engine is None else self._engine.push(block)
        self._n_out += len(ready)
        return ready

    def finish(self) -> Samples:
        """The remaining output samples, float32; together int(n * new_rate / orig_rate), at least one if n > 0."""
        total = int(self._n_in * float(self._new_rate) / float(self._orig_rate))
        if self._n_in:
            total = max(total, 1)
        parts = [_NONE]
        while self._engine is not None and self._n_out < total:
            parts.append(self._engine.push(_SILENCE)[: total - self._n_out])
            self._n_out += len(parts[-1])
        return np.concatenate(parts)


class _Polyphase:
    """The bank of a ratio applied to whole periods, `rows` of them in each product."""

    def __init__(self, up: int, down: int) -> None:
        self._bank = polyphase_bank(up, down)
        self._rows = min(MAX_ROWS, max(1, MAX_PRODUCT // (self._bank.span * GROUP)))
        # what the last group of a period reads beyond that period's own first sample
        self._reach = self._bank.starts[-1] + self._bank.span
        self._held: Samples = np.zeros(self._bank.half - 1, dtype=np.float32)

    def push(self, block: Samples) -> Samples:
        held = np.concatenate([self._held, block])
        advance = self._rows * self._bank.period_in
        ready = max(0, (len(held) - self._reach + self._bank.period_in) // advance)
        self._held = held[ready * advance :].copy()
        return np.concatenate([_NONE, *self._products(held, ready)])

    def _products(self, held: Samples, ready: int) -> Iterator[Samples]:
        """Outputs of the first `ready` products of `held`, `STACK` products at a time."""
        bank, rows = self._bank, self._rows
        stride = held.itemsize * bank.period_in
        for first in range(0, ready, STACK):
            stack = min(STACK, ready - first)
            out = np.empty((stack, rows, len(bank.starts), GROUP), dtype=np.float32)
            for group, start in enumerate(bank.starts):
                source = held[first * rows * bank.period_in + start :]
                windows = as_strided(source, (stack, rows, bank.span), (rows * stride, stride, held.itemsize))
                np.matmul(np.ascontiguousarray(windows), bank.weights[group], out=out[:, :, group])
            # stack, rows, groups * GROUP -> outputs: the last group of a period may run over its end
            yield out.reshape(stack * rows, -1)[:, : bank.period_out].reshape(-1)


class _Interpolated:
    """Weights interpolated between evenly spaced phases, for a ratio with too many phases."""

    def __init__(self, up: int, down: int) -> None:
        self._up, self._down = up, down
        self._bank = interpolated_bank(up, down)
        self._half = self._bank.shape[1] // 2
        self._held: Samples = np.zeros(self._half - 1, dtype=np.float32)
        self._first = 0  # position in the stream of the input sample held[half - 1]
        self._output = 0

    def push(self, block: Samples) -> Samples:
        self._held = np.concatenate([self._held, block])
        # output t reads held samples up to t * down // up - first + 2 * half - 1
        last_whole = self._first + len(self._held) - 2 * self._half
        ready = ((last_whole + 1) * self._up - 1) // self._down + 1 - self._output
        parts = [_NONE]
        while ready >= INTERPOLATED_BLOCK:
            parts.append(self._block())
            ready -= INTERPOLATED_BLOCK
        done = self._output * self._down // self._up - self._first
        self._held = self._held[done:].copy()
        self._first += done
        return np.concatenate(parts)

    def _block(self) -> Samples:
        """The next `INTERPOLATED_BLOCK` outputs."""
        position = (self._output + np.arange(INTERPOLATED_BLOCK)) * self._down
        whole, phase = np.divmod(position, self._up)
        place = phase * (INTERPOLATED_PHASES / self._up)
        row = np.minimum(place.astype(np.int64), INTERPOLATED_PHASES - 1)
        part = (place - row).astype(np.float32)[:, None]
        weights = self._bank[row] * (1 - part) + self._bank[row + 1] * part
        windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._half)[whole - self._first]
        self._output += INTERPOLATED_BLOCK
        samples: Samples = np.einsum("ij,ij->i", windows, weights)
        return samples


def resample(x: Samples, orig_rate: int, new_rate: int) -> Samples:
    """A whole waveform (n,) at another rate (Hz), float32: int(n * new_rate / orig_rate), at least one if n > 0."""
    resampler = Resampler(orig_rate, new_rate)
    return np.concatenate([resampler.push(np.asarray(x, dtype=np.float32)), resampler.finish()])
