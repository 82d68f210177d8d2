"""What it means that two songs sound alike: the angle between their embeddings, counted from the middle of many songs.

The embeddings of all music point much the same way. What all songs of a collection share says nothing about which two
are alike; taken from their mean, embeddings tell songs apart (figures in docs/results.md).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["directions"]


def directions(embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors from the mean to embeddings; the product of two is the cosine by which songs are compared.

    Parameters
    ----------
    embeddings : ndarray, shape (n, size), float32
    mean : ndarray, shape (size,), float32
        Of the collection.

    Returns
    -------
    ndarray, shape (n, size), float32
        Zero for an embedding that is the mean.
    """
    centred = embeddings - mean
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    return centred
