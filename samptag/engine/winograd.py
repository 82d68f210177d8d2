"""Convolution and pooling of length 3 with 5 products in place of 9: Winograd's minimal filtering F(3, 3).

Three neighbouring frames of a convolution with three taps are a polynomial product, and a polynomial is known by its
values at 5 points. So 5 mixtures of the 5 input frames are multiplied, each with one mixture of the 3 taps, and 3
mixtures of the results are the 3 frames; their maximum is what the pooling keeps. The points are 0, 1, -1, 2 and
infinity (Winograd: Arithmetic Complexity of Computations, 1980; Lavin, Gray: Fast Algorithms for Convolutional Neural
Networks, 2016). F(6, 3), with 8 products for 6 frames, was tried: 0.93 of the time, not worth tiles of even length.

The two passes around the products are written twice: here for NumPy, operation by operation, and in
`samptag.engine.kernels` for numba, as one loop. Both round in the same places, so that it does not show in any digit
which of them computed a segment.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["TAP_MIXTURES", "NumpyPasses", "Passes", "current", "use"]

Floats = NDArray[np.float32]

_FINITE_POINTS = (0, 1, -1, 2)


class Passes(Protocol):
    """The element-wise work around the products of one block of rows."""

    def mix(self, padded: Floats, start: int, mixed: Floats) -> None:
        """Write the 5 mixtures of the frames from `start` on to `mixed`.

        Parameters
        ----------
        padded : ndarray
            Frames with zeros around them, (time, n_in).
        start : int
            The first frame.
        mixed : ndarray
            Shape (5, rows, n_in); each row is of 5 frames, 3 further on than those of the row before.
        """

    def unmix(self, products: Floats, bias: Floats, target: Floats) -> None:
        """Write the pooled frames of `products`, (5, rows, n_out), plus `bias`, through ReLU to `target`.

        The products are overwritten.
        """


class NumpyPasses:
    """The passes as NumPy operations: there at once, at a quarter more of the whole net's time."""

    def mix(self, padded: Floats, start: int, mixed: Floats) -> None:
        """See `Passes`."""
        at_0, at_1, at_minus_1, at_2, at_infinity = mixed
        rows = len(at_0)
        d0, d1, d2, d3, d4 = (padded[start + i :: 3][:rows] for i in range(5))
        np.subtract(d3, d1, out=at_2)  # a part of all others, too
        np.subtract(d0, d2, out=at_0)
        np.add(at_0, at_0, out=at_0)
        np.add(at_2, at_0, out=at_0)
        np.add(d1, d2, out=at_1)
        np.subtract(at_2, at_1, out=at_1)
        np.subtract(d1, d2, out=at_minus_1)
        np.multiply(at_minus_1, 3, out=at_minus_1)
        np.add(at_2, at_minus_1, out=at_minus_1)
        np.subtract(d4, d2, out=at_infinity)
        np.subtract(at_infinity, at_2, out=at_infinity)
        np.subtract(at_infinity, at_2, out=at_infinity)

    def unmix(self, products: Floats, bias: Floats, target: Floats) -> None:
        """See `Passes`."""
        first, one, minus, two, last = products
        np.add(one, minus, out=target)
        np.subtract(one, minus, out=one)
        np.add(first, target, out=first)
        np.add(first, two, out=first)
        np.add(two, two, out=two)
        np.add(one, two, out=one)
        np.add(two, two, out=two)
        np.add(target, two, out=target)
        np.add(target, last, out=target)
        np.maximum(target, first, out=target)
        np.maximum(target, one, out=target)
        np.add(target, bias, out=target)
        np.maximum(target, 0, out=target)


_passes: Passes = NumpyPasses()


def current() -> Passes:
    """The passes in use."""
    return _passes


def use(passes: Passes) -> None:
    """Use `passes` from now on, in all threads, in the middle of a segment too."""
    global _passes
    _passes = passes


def _tap_mixtures() -> NDArray[np.float64]:
    rows = []
    for point in _FINITE_POINTS:
        scale = 1.0
        for other in _FINITE_POINTS:
            scale *= point - other if other != point else 1
        rows.append([1 / scale, point / scale, point**2 / scale])
    return np.array([*rows, [0, 0, 1]])


TAP_MIXTURES = _tap_mixtures()
"""What takes three taps to their polynomial's values at the five points, scaled as the frames' mixtures need it."""
