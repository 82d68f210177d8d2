"""The outline of a waveform of any length, in a fixed number of points and a fixed amount of memory."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outline"]

FIRST_WIDTH = 64


class Outline:
    """Takes the blocks of a waveform one by one, and keeps the peak and the power of ever longer bins.

    Parameters
    ----------
    points : int
        How many points it is to be drawn with, at least 1.
    """

    def __init__(self, points: int) -> None:
        self._points = points
        # An even number, so that the bins can be paired off whenever there is no room for more.
        self._room = 4 * points
        self._width = FIRST_WIDTH
        self._rest = np.zeros(0, dtype=np.float32)
        self._peaks = np.zeros(0, dtype=np.float32)
        self._powers = np.zeros(0, dtype=np.float32)

    def push(self, block: NDArray[np.float32]) -> None:
        """Take in the next samples, shape (n,), of a waveform in [-1, 1]."""
        samples = np.concatenate([self._rest, block])
        while len(samples) >= self._width:
            count = min(len(samples) // self._width, self._room - len(self._peaks))
            self._append(samples[: count * self._width].reshape(count, self._width))
            samples = samples[count * self._width :]
            if len(self._peaks) == self._room:
                self._peaks = self._peaks.reshape(-1, 2).max(axis=1)
                self._powers = self._powers.reshape(-1, 2).mean(axis=1)
                self._width *= 2
        self._rest = samples.copy()

    def finish(self) -> NDArray[np.uint8]:
        """The whole outline.

        Returns
        -------
        ndarray, shape (2, points), uint8
            Peak and root mean square of each equal part, where 255 is the highest peak of the waveform.
        """
        if len(self._rest):
            self._append(self._rest[None])
        count = len(self._peaks)
        if not count:
            return np.zeros((2, self._points), dtype=np.uint8)
        firsts = np.arange(self._points) * count // self._points
        # A part without a bin of its own shows the bin it lies in.
        sizes = np.maximum(np.diff(firsts, append=count), 1)
        peaks = np.maximum.reduceat(self._peaks, firsts)
        powers = np.add.reduceat(self._powers, firsts) / sizes
        rows = np.stack([peaks, np.sqrt(powers)]) * (255 / max(float(peaks.max()), 1e-9))
        return np.round(rows).astype(np.uint8)

    def _append(self, bins: NDArray[np.float32]) -> None:
        self._peaks = np.concatenate([self._peaks, np.abs(bins).max(axis=1)])
        self._powers = np.concatenate([self._powers, np.square(bins).mean(axis=1)])
