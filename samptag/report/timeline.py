"""A song over time: the stretch that each row of a taggram represents, and the outline of the waveform."""

import numpy as np
from numpy.typing import NDArray

FIRST_WIDTH = 64


def segment_edges(starts: NDArray[np.float64], *, duration: float, segment_seconds: float) -> NDArray[np.float64]:
    """The borders of the stretches that segments represent, which cover the song without gaps or overlaps.

    A border lies halfway between the centres of neighbouring segments; where segments touch, that is where they touch.
    `starts` are the seconds at which segments start, (segments,), as in `TrackResult.starts`; `duration` is the length
    of the song and `segment_seconds` that of a segment, in seconds. The borders are seconds, (segments + 1,),
    non-decreasing, from 0 to `duration`.

    Examples
    --------
    >>> segment_edges(np.array([0.0, 2.0, 3.0]), duration=5.0, segment_seconds=2.0)
    array([0. , 2. , 3.5, 5. ])
    """
    between = (starts[1:] + starts[:-1] + segment_seconds) / 2
    return np.concatenate([[0.0], np.clip(between, 0.0, duration), [duration]])


def column_means(taggram: NDArray[np.float32], edges: NDArray[np.float64], *, columns: int) -> NDArray[np.float64]:
    """The mean score in [0, 1] of every tag in each of `columns` (at least 1) equal parts of the song.

    From a taggram (segments, n_tags) and its `segment_edges`, (segments + 1,), it makes an array (n_tags, columns).
    """
    areas = np.zeros((len(edges), taggram.shape[1]))
    np.cumsum(np.diff(edges)[:, None] * taggram, axis=0, out=areas[1:])
    borders = np.linspace(0.0, edges[-1], columns + 1)
    cut = np.stack([np.interp(borders, edges, area) for area in areas.T])
    means: NDArray[np.float64] = np.diff(cut, axis=1) * (columns / edges[-1])
    return means


def stretches(heard: NDArray[np.bool_], edges: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Where a tag is heard, as starts and ends in seconds, in order; neighbouring segments are merged.

    `heard` is (segments,), and `edges` are the `segment_edges`, (segments + 1,).

    Examples
    --------
    >>> stretches(np.array([True, True, False, True]), np.arange(5.0))
    [(0.0, 2.0), (3.0, 4.0)]
    """
    changes = np.flatnonzero(np.diff(np.concatenate([[False], heard, [False]])))
    return [(float(edges[first]), float(edges[last])) for first, last in zip(changes[::2], changes[1::2], strict=True)]


class Outline:
    """The outline of a waveform of any length, in a fixed amount of memory.

    It takes the blocks of a waveform one by one, and keeps the peak and the power of ever longer bins. `points` is the
    number of parts that the outline will have, at least 1.
    """

    def __init__(self, points: int) -> None:
        self._points = points
        # An even number, so that bins can be merged in pairs whenever there is no room for more.
        self._room = 4 * points
        self._width = FIRST_WIDTH
        self._rest = np.zeros(0, dtype=np.float32)
        self._peaks = np.zeros(0, dtype=np.float32)
        self._powers = np.zeros(0, dtype=np.float32)

    def push(self, block: NDArray[np.float32]) -> None:
        """Add the next samples, shape (n,), of a waveform in [-1, 1]."""
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
        """Peak and root mean square of each equal part, (2, points), where 255 is the highest peak of the waveform."""
        if len(self._rest):
            self._append(self._rest[None])
        count = len(self._peaks)
        if not count:
            return np.zeros((2, self._points), dtype=np.uint8)
        firsts = np.arange(self._points) * count // self._points
        # A part in which no bin begins shows the bin it lies in.
        sizes = np.maximum(np.diff(firsts, append=count), 1)
        peaks = np.maximum.reduceat(self._peaks, firsts)
        powers = np.add.reduceat(self._powers, firsts) / sizes
        rows = np.stack([peaks, np.sqrt(powers)]) * (255 / max(float(peaks.max()), 1e-9))
        return np.round(rows).astype(np.uint8)

    def _append(self, bins: NDArray[np.float32]) -> None:
        self._peaks = np.concatenate([self._peaks, np.abs(bins).max(axis=1)])
        self._powers = np.concatenate([self._powers, np.square(bins).mean(axis=1)])
