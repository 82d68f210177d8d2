"""From segments to a time axis: which stretch of the sound each row of a taggram stands for."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["column_means", "segment_edges", "stretches"]


def segment_edges(starts: NDArray[np.float64], *, duration: float, segment_seconds: float) -> NDArray[np.float64]:
    """The borders of the stretches that segments stand for, which cover the sound without gap or overlap.

    A border lies halfway between the centres of two neighbours: where segments touch, it is where they touch.

    Parameters
    ----------
    starts : ndarray, shape (segments,), float64
        Second at which each segment starts, as in `TrackResult.starts`.
    duration : float
        Length of the sound in seconds.
    segment_seconds : float
        Length of a segment in seconds.

    Returns
    -------
    ndarray, shape (segments + 1,), float64
        Seconds, never falling, from 0 to `duration`.

    Examples
    --------
    >>> segment_edges(np.array([0.0, 2.0, 3.0]), duration=5.0, segment_seconds=2.0)
    array([0. , 2. , 3.5, 5. ])
    """
    between = (starts[1:] + starts[:-1] + segment_seconds) / 2
    return np.concatenate([[0.0], np.clip(between, 0.0, duration), [duration]])


def column_means(taggram: NDArray[np.float32], edges: NDArray[np.float64], *, columns: int) -> NDArray[np.float64]:
    """The mean score of every tag in each of `columns` equal parts of the sound.

    Parameters
    ----------
    taggram : ndarray, shape (segments, n_tags), float32
    edges : ndarray, shape (segments + 1,), float64
        As `segment_edges` gives them.
    columns : int
        At least 1.

    Returns
    -------
    ndarray, shape (n_tags, columns), float64
        In [0, 1].
    """
    areas = np.zeros((len(edges), taggram.shape[1]))
    np.cumsum(np.diff(edges)[:, None] * taggram, axis=0, out=areas[1:])
    borders = np.linspace(0.0, edges[-1], columns + 1)
    cut = np.stack([np.interp(borders, edges, area) for area in areas.T])
    means: NDArray[np.float64] = np.diff(cut, axis=1) * (columns / edges[-1])
    return means


def stretches(heard: NDArray[np.bool_], edges: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Where a tag is heard: neighbouring segments put together.

    Parameters
    ----------
    heard : ndarray, shape (segments,), bool
    edges : ndarray, shape (segments + 1,), float64
        As `segment_edges` gives them.

    Returns
    -------
    list of tuple
        Start and end in seconds, in order.

    Examples
    --------
    >>> stretches(np.array([True, True, False, True]), np.arange(5.0))
    [(0.0, 2.0), (3.0, 4.0)]
    """
    changes = np.flatnonzero(np.diff(np.concatenate([[False], heard, [False]])))
    return [(float(edges[first]), float(edges[last])) for first, last in zip(changes[::2], changes[1::2], strict=True)]
