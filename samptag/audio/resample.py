"""Streaming resampler with resampy's ``kaiser_best`` filter.

The samples are those of ``resampy.resample`` (to 1e-4 of full scale; the difference is the rounding of its clock),
but a stream can be given in blocks of any size, and the whole is a matrix product instead of a loop: some hundred times
faster on one core, and with nothing to compile. The result does not depend on how the stream is cut, to the last bit:
products always have the same shape at the same place of the stream.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from samptag.audio.filters import GROUP, INTERPOLATED_PHASES, Ratio, interpolated_bank, polyphase_bank

__all__ = ["Resampler", "resample"]

Samples = NDArray[np.float32]

# Ratios with more phases than this share an interpolated bank: their own would take long to fill and much memory.
MAX_PHASES = 2048

# OpenBLAS spreads a product over threads from 4 * 65 536 multiply-adds on. Its threads wait spinning: beside a busy
# neighbour a threaded product of this size was measured 500 times slower than an unthreaded one, so none gets there.
MAX_PRODUCT = 4 * 65_536

# Rows of a product when its size allows; the stream waits until one is full. From 16 to 32: 10 to 30 % faster.
MAX_ROWS = 32

# Products computed in one call: enough to hide the call, few enough that the copied windows stay in the cache.
STACK = 16

# Output samples computed together by the interpolated bank.
INTERPOLATED_BLOCK = 512


class Resampler:
    """One stream's change of sample rate: push blocks in, take what is ready, finish.

    Parameters
    ----------
    orig_rate, new_rate : int
        In Hz.

    Raises
    ------
    ValueError
        If a rate is not positive, or new_rate is below 1/8192 of orig_rate.
    """

    def __init__(self, orig_rate: int, new_rate: int) -> None:
        if orig_rate <= 0 or new_rate <= 0:
            raise ValueError(f"sample rates must be positive: {orig_rate} -> {new_rate} Hz")
        self._orig_rate, self._new_rate = orig_rate, new_rate
        ratio = Ratio.of(orig_rate, new_rate)
        self._engine: _Polyphase | _Interpolated | None = None
        if orig_rate != new_rate:
            self._engine = _Polyphase(ratio) if ratio.up <= MAX_PHASES else _Interpolated(ratio)
        self._n_in = 0
        self._n_out = 0

    def push(self, block: Samples) -> Samples:
        """The output samples that became ready, float32, (any number,); all are given by the time of `finish`.

        Parameters
        ----------
        block : ndarray of float32, (samples,)
        """
        self._n_in += len(block)
        if self._engine is None:
            self._n_out += len(block)
            return block
        return self._take(self._engine.push(block))

    def finish(self) -> Samples:
        """The remaining output samples, float32; together int(n * new_rate / orig_rate), at least one if n > 0."""
        total = int(self._n_in * float(self._new_rate) / float(self._orig_rate))
        if self._n_in:
            total = max(total, 1)
        if self._engine is None or self._n_out >= total:
            return np.zeros(0, dtype=np.float32)
        rest = self._take(self._engine.flush(total - self._n_out))
        return rest

    def _take(self, samples: Samples) -> Samples:
        self._n_out += len(samples)
        return samples


class _Polyphase:
    """The bank of a ratio applied to whole periods, `rows` of them a product."""

    def __init__(self, ratio: Ratio) -> None:
        self._bank = polyphase_bank(ratio)
        self._rows = min(MAX_ROWS, max(1, MAX_PRODUCT // (self._bank.span * GROUP)))
        # what the last group of a period reads beyond that period's own first sample
        self._reach = self._bank.starts[-1] + self._bank.span
        self._held: Samples = np.zeros(self._bank.half - 1, dtype=np.float32)

    def push(self, block: Samples) -> Samples:
        held = np.concatenate([self._held, block])
        advance = self._rows * self._bank.period_in
        ready = max(0, (len(held) - self._reach + self._bank.period_in) // advance)
        self._held = held[ready * advance :].copy()
        parts = list(self._products(held, ready))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def flush(self, wanted: int) -> Samples:
        per_product = self._rows * self._bank.period_out
        products = -(-wanted // per_product)
        needed = products * self._rows * self._bank.period_in + self._reach
        return self.push(np.zeros(max(0, needed - len(self._held)), dtype=np.float32))[:wanted]

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
    """Weights interpolated between evenly spaced phases, for a ratio with too many of its own."""

    def __init__(self, ratio: Ratio) -> None:
        self._ratio = ratio
        self._half, self._bank = interpolated_bank(ratio)
        self._held: Samples = np.zeros(self._half - 1, dtype=np.float32)
        self._first = 0  # position in the stream of the input sample held[half - 1]
        self._output = 0

    def push(self, block: Samples) -> Samples:
        self._held = np.concatenate([self._held, block])
        # output t reads held samples up to t * down // up - first + 2 * half - 1
        last_whole = self._first + len(self._held) - 2 * self._half
        ready = ((last_whole + 1) * self._ratio.up - 1) // self._ratio.down + 1 - self._output
        parts = []
        while ready >= INTERPOLATED_BLOCK:
            parts.append(self._block())
            ready -= INTERPOLATED_BLOCK
        self._drop_read()
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def flush(self, wanted: int) -> Samples:
        outputs = -(-wanted // INTERPOLATED_BLOCK) * INTERPOLATED_BLOCK
        last_whole = (self._output + outputs - 1) * self._ratio.down // self._ratio.up
        missing = last_whole + 2 * self._half - self._first - len(self._held)
        return self.push(np.zeros(max(0, missing), dtype=np.float32))[:wanted]

    def _block(self) -> Samples:
        """The next `INTERPOLATED_BLOCK` outputs."""
        position = (self._output + np.arange(INTERPOLATED_BLOCK)) * self._ratio.down
        whole, phase = np.divmod(position, self._ratio.up)
        place = phase * (INTERPOLATED_PHASES / self._ratio.up)
        row = np.minimum(place.astype(np.int64), INTERPOLATED_PHASES - 1)
        part = (place - row).astype(np.float32)[:, None]
        weights = self._bank[row] * (1 - part) + self._bank[row + 1] * part
        windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._half)[whole - self._first]
        self._output += INTERPOLATED_BLOCK
        samples: Samples = np.einsum("ij,ij->i", windows, weights)
        return samples

    def _drop_read(self) -> None:
        done = self._output * self._ratio.down // self._ratio.up - self._first
        self._held = self._held[done:].copy()
        self._first += done


def resample(x: Samples, orig_rate: int, new_rate: int) -> Samples:
    """A whole waveform at another rate, float32, (int(n * new_rate / orig_rate),) and at least one sample if n > 0.

    Parameters
    ----------
    x : ndarray of float32, (n,)
    orig_rate, new_rate : int
        In Hz.

    Raises
    ------
    ValueError
        As `Resampler`.
    """
    resampler = Resampler(orig_rate, new_rate)
    return np.concatenate([resampler.push(np.asarray(x, dtype=np.float32)), resampler.finish()])
