"""Which songs of a report sound most like each: nearest embeddings."""

import numpy as np
from numpy.typing import NDArray

from samptag.tagging.alike import directions

__all__ = ["nearest"]

ROWS_AT_ONCE = 256


def nearest(embeddings: NDArray[np.float32], *, count: int) -> NDArray[np.intp]:
    """The nearest other rows of each row, by the cosine of embeddings from which their mean has been taken.

    Parameters
    ----------
    embeddings : ndarray, shape (n, embedding_size), float32
    count : int
        How many, at least 1 and below n.

    Returns
    -------
    ndarray, shape (n, count), int
        Row numbers, nearest first; a row is never among its own.
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
