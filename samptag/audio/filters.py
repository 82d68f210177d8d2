"""resampy's windowed-sinc filters, tabulated once per pair of sample rates.

A filter is a table of one wing of a windowed sinc, 8192 entries a zero crossing, read between its entries by linear
interpolation (Smith, "Digital Audio Resampling Home Page", the algorithm resampy implements). For a rational pair of
rates the fractional positions repeat, so the weights can be computed once and the rest is a matrix product.
"""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FilterTable", "PhaseBank", "Ratio", "filter_table", "interpolated_bank", "polyphase_bank"]

# Output samples one matrix product gives a row. A multiple of the BLAS kernels' width; of 16 to 147 measured for
# 44 100 and 48 000 -> 22 050 Hz, 32 and 64 were the fastest, and 32 pads a period of 147 the least.
GROUP = 32

# Intervals between tabulated phases when a ratio has too many of its own. Linear interpolation between 256 of them
# was measured to add 1e-6 of full scale (64: 1e-5); more would only leave the processor's cache.
INTERPOLATED_PHASES = 256


@dataclass(frozen=True)
class Ratio:
    """new_rate / orig_rate in lowest terms: `up` output samples for every `down` input samples."""

    up: int
    down: int

    @classmethod
    def of(cls, orig_rate: int, new_rate: int) -> "Ratio":
        """The ratio of two rates in Hz."""
        common = gcd(orig_rate, new_rate)
        return cls(up=new_rate // common, down=orig_rate // common)


@dataclass(frozen=True)
class FilterTable:
    """One of resampy's filters, scaled and strided for one ratio.

    Attributes
    ----------
    wing : ndarray of float64, (entries,)
        Right wing of the filter, times min(1, ratio).
    entries_per_sample : float
        Table entries from one input sample to the next, before resampy cuts the fraction off.
    step : int
        The same as resampy walks the table: a whole number.
    half : int
        Taps on each side of an output sample.
    """

    wing: NDArray[np.float64]
    entries_per_sample: float
    step: int
    half: int

    def weights(self, fractions: NDArray[np.float64]) -> NDArray[np.float32]:
        """The taps of output samples that lie `fractions` of an input sample after input sample n.

        Parameters
        ----------
        fractions : ndarray of float64, (outputs,)
            In [0, 1].

        Returns
        -------
        ndarray of float32, (outputs, 2 * half)
            Weights of input samples n - half + 1 ... n + half.
        """
        left = self._wing_weights(fractions * self.entries_per_sample)
        right = self._wing_weights((1.0 - fractions) * self.entries_per_sample)
        return np.concatenate([left[:, ::-1], right], axis=1).astype(np.float32)

    def _wing_weights(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Table values at positions, positions + step, ...: (outputs, half); zero past the table's last whole step."""
        offsets = positions.astype(np.int64)
        eta = positions - offsets
        last = len(self.wing) - 1
        index = offsets[:, None] + self.step * np.arange(self.half)
        inside = np.arange(self.half) < ((last + 1 - offsets) // self.step)[:, None]
        index = np.minimum(index, last)
        here = self.wing[index]
        there = self.wing[np.minimum(index + 1, last)]
        values: NDArray[np.float64] = np.where(inside, here + eta[:, None] * (there - here), 0.0)
        return values


@lru_cache(maxsize=4)
def _published_filter(name: str) -> tuple[NDArray[np.float64], int]:
    """The right wing and the entries per zero crossing of the filter `name` that resampy ships.

    Read from resampy's own data file without importing resampy: importing it compiles with numba and takes seconds,
    and the table is all that is used of it.
    """
    spec = importlib.util.find_spec("resampy")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("resampy is not installed; its filters are needed to resample: pip install resampy")
    path = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.npz"
    with np.load(path) as stored:
        return stored["half_window"].astype(np.float64), int(stored["precision"])


def filter_table(ratio: Ratio, *, name: str = "kaiser_best") -> FilterTable:
    """The filter for one ratio, scaled and strided as ``resampy.resample`` does.

    Raises
    ------
    ValueError
        If the ratio is below one table entry a sample (1/8192 for ``kaiser_best``).
    """
    wing, entries_per_crossing = _published_filter(name)
    scale = min(1.0, ratio.up / ratio.down)
    step = int(scale * entries_per_crossing)
    if step < 1:
        raise ValueError(
            f"cannot resample by {ratio.up}/{ratio.down}: the ratio must be at least 1/{entries_per_crossing}"
        )
    return FilterTable(
        wing=wing * scale,
        entries_per_sample=scale * entries_per_crossing,
        step=step,
        half=len(wing) // step,
    )


@dataclass(frozen=True)
class PhaseBank:
    """The weights of one whole period of output samples, in groups of `GROUP`, each ready for a matrix product.

    Attributes
    ----------
    half : int
        Taps on each side of an output sample.
    period_in, period_out : int
        Input and output samples of one period.
    starts : tuple of int
        First input sample of each group, counted from the period's first input sample less half - 1.
    weights : ndarray of float32, (groups, span, GROUP)
        Column j of group g: the taps of output g * GROUP + j, shifted to where they apply.
    """

    half: int
    period_in: int
    period_out: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @property
    def span(self) -> int:
        """Input samples one group reads."""
        return int(self.weights.shape[1])


@lru_cache(maxsize=8)
def polyphase_bank(ratio: Ratio) -> PhaseBank:
    """The bank of one ratio, computed once; a ratio of few phases is repeated until a group is full."""
    table = filter_table(ratio)
    repeats = -(-GROUP // ratio.up)
    period_out, period_in = ratio.up * repeats, ratio.down * repeats
    groups = -(-period_out // GROUP)
    position = np.arange(groups * GROUP) * ratio.down
    whole, phase = position // ratio.up, position % ratio.up
    taps = table.weights(phase / ratio.up)
    starts = whole[::GROUP]
    span = int((GROUP - 1) * ratio.down // ratio.up + 1 + 2 * table.half)
    weights = np.zeros((groups, span, GROUP), dtype=np.float32)
    rows = np.arange(2 * table.half)
    for output in range(groups * GROUP):
        group, column = divmod(output, GROUP)
        weights[group, whole[output] - starts[group] + rows, column] = taps[output]
    return PhaseBank(
        half=table.half,
        period_in=period_in,
        period_out=period_out,
        starts=tuple(int(start) for start in starts),
        weights=weights,
    )


@lru_cache(maxsize=4)
def interpolated_bank(ratio: Ratio) -> tuple[int, NDArray[np.float32]]:
    """Taps on each side, and the weights at evenly spaced phases, for a ratio with too many phases of its own.

    Returns
    -------
    half : int
    weights : ndarray of float32, (INTERPOLATED_PHASES + 1, 2 * half)
        Row i: the taps at fraction i / INTERPOLATED_PHASES.
    """
    table = filter_table(ratio)
    return table.half, table.weights(np.linspace(0.0, 1.0, INTERPOLATED_PHASES + 1))
