"""What it means that two songs sound alike: a small angle between their embeddings, seen from the mean of many songs.

The embeddings of all music point much the same way. What all songs of a collection share says nothing about which two
are alike; once their mean is subtracted, embeddings tell songs apart (figures in docs/results.md).
"""

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 256


def directions(embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors, (n, size), from the collection's mean, (size,), to embeddings, (n, size), all float32.

    The dot product of two is the cosine by which songs are compared; an embedding equal to the mean gives zeros.
    """
    centred = embeddings - mean
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    return centred


def nearest(embeddings: NDArray[np.float32], *, count: int) -> NDArray[np.intp]:
    """The `count` nearest other rows of each row, by the cosine of embeddings after their mean is subtracted.

    For embeddings (n, size), float32, row numbers (n, count), nearest first; `count` is at least 1 and less than n.
    """
    units = directions(embeddings, embeddings.mean(axis=0))
    found = np.empty((len(units), count), dtype=np.intp)
    for first in range(0, len(units), ROWS_AT_ONCE):
        cosines = units[first : first + ROWS_AT_ONCE] @ units.T
        rows = np.arange(len(cosines))
        cosines[rows, first + rows] = -np.inf
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
        found[first : first + len(cosines)] = np.take_along_axis(best, order, axis=1)
    return found
