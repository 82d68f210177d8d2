"""Convolution and pooling of length 3 with 4 products instead of 9: Winograd's minimal filtering F(6, 3).

Six neighbouring frames of a convolution with three taps are a polynomial product, and the polynomial is determined by
its values at 8 points. So 8 mixtures of the 8 input frames are multiplied, each with one mixture of the 3 taps, and 6
mixtures of the results are the 6 frames; the pooling keeps the maxima of the first three and of the last three. The
points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity (Lavin, Gray: Fast Algorithms for Convolutional Neural
Networks, 2016). F(3, 3), with 5 products for three frames, took 1.1 times as long on 3^9.

The passes around the products are written twice: here for NumPy, operation by operation, and in
`samptag.engine.kernels` for numba, as one loop. Both round in the same places, so no digit depends on which of them
computed a segment. Long jobs compile numba's in a thread while the first segments are computed with NumPy's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samptag.files import cache_folder

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_ROWS = [[90, 0, 0], [-20, -20, -20], [-20, 20, -20], [1, 2, 4], [1, -2, 4], [64, 32, 16], [64, -32, 16], [0, 0, 90]]
TAP_MIXTURES = np.array(_ROWS) / 90
"""The matrix, (8, 3), from three taps to their polynomial's values at the 8 points, scaled for the frames' mixtures."""
POINTS = len(TAP_MIXTURES)
# numba and the kernels take 0.4 to 0.6 s of one core from the cache and 1.3 s the first time; they save half of the
# 35 ms that a segment takes with two threads. A job that has come this far has about as much left to save.
AFTER_SEGMENTS = 96


class Passes(NamedTuple):
    """The element-wise work around the products of one block of tiles; a tile is 6 frames that become 2."""

    # (frames) -> ReLU in place, or nothing if `mix` does it; only numbers that are not negative are mixed.
    rectify: Callable[[Floats], None]
    # (padded, start, mixed) -> the 8 mixtures of the tiles in `padded`, (time, n_in), from frame `start` on, 8 frames
    # long and 6 apart, written to `mixed`, (9, tiles, n_in), whose last plane is a spare.
    mix: Callable[[Floats, int, Floats], None]
    # (products, bias, target) -> the pooled frames of `products`, (9, tiles, n_out), which is overwritten, plus `bias`,
    # (n_out,), through ReLU, written to `target`, (time, n_out); time is twice the number of tiles, or one less.
    unmix: Callable[[Floats, Floats, Floats], None]


def relu(frames: Floats) -> None:
    """Replace negative numbers by zeros, in place."""
    np.maximum(frames, 0, out=frames)


def _mix(padded: Floats, start: int, mixed: Floats) -> None:
    m0, m1, m2, m3, m4, m5, m6, m7, spare = mixed
    d0, d1, d2, d3, d4, d5, d6, d7 = (padded[start + i :: 6][: len(m0)] for i in range(8))
    np.subtract(d4, d2, out=m1)
    np.multiply(m1, 5.25, out=m1)
    np.subtract(d0, d6, out=m0)
    np.add(m0, m1, out=m0)
    np.subtract(d3, d5, out=m1)
    np.multiply(m1, 5.25, out=m1)
    np.subtract(d7, d1, out=m7)
    np.add(m7, m1, out=m7)
    # The other points come in pairs of opposite sign: their mixtures are the even terms plus and minus the odd ones.
    np.multiply(d4, 4.25, out=spare)
    np.add(d2, d6, out=m2)
    np.subtract(m2, spare, out=m2)
    np.multiply(d3, 4.25, out=spare)
    np.add(d1, d5, out=m3)
    np.subtract(m3, spare, out=m3)
    np.add(m2, m3, out=m1)
    np.subtract(m2, m3, out=m2)
    np.multiply(d3, 2.5, out=spare)  # of both pairs below
    np.multiply(d2, 0.25, out=m4)
    np.add(d6, m4, out=m4)
    np.multiply(d4, 1.25, out=m5)
    np.subtract(m4, m5, out=m4)
    np.multiply(d1, 0.5, out=m5)
    np.multiply(d5, 2, out=m6)
    np.add(m5, m6, out=m5)
    np.subtract(m5, spare, out=m5)
    np.add(m4, m5, out=m3)
    np.subtract(m4, m5, out=m4)
    np.multiply(d1, 2, out=m5)
    np.multiply(d5, 0.5, out=m6)
    np.add(m5, m6, out=m5)
    np.subtract(m5, spare, out=spare)
    np.multiply(d2, 4, out=m6)
    np.add(d6, m6, out=m6)
    np.multiply(d4, 5, out=m5)
    np.subtract(m6, m5, out=m6)
    np.add(m6, spare, out=m5)
    np.subtract(m6, spare, out=m6)


def _unmix(products: Floats, bias: Floats, target: Floats) -> None:
    p0, p1, p2, p3, p4, p5, p6, p7, even_1 = products
    np.add(p1, p2, out=even_1)
    odd_1 = np.subtract(p1, p2, out=p2)
    even_2 = np.add(p3, p4, out=p1)
    odd_2 = np.subtract(p3, p4, out=p4)
    even_half = np.add(p5, p6, out=p3)
    odd_half = np.subtract(p5, p6, out=p6)
    np.add(p0, even_1, out=p0)
    np.add(p0, even_2, out=p0)
    np.add(p0, even_half, out=p0)
    # Powers of two scale without rounding.
    _scaled_sum(odd_1, (odd_2, 2), (odd_half, 0.5), out=p5)
    np.maximum(p0, p5, out=p0)
    _scaled_sum(even_1, (even_2, 4), (even_half, 0.25), out=p5)
    np.maximum(p0, p5, out=p0)
    np.add(p0, bias, out=target[::2])
    _scaled_sum(odd_1, (odd_2, 4), (odd_half, 0.25), out=p5)
    _scaled_sum(even_1, (even_2, 4), (even_half, 0.25), out=p0)
    np.maximum(p5, p0, out=p5)
    _scaled_sum(odd_1, (odd_2, 4), (odd_half, 0.25), out=p0)
    np.add(p0, p7, out=p0)
    np.maximum(p5, p0, out=p5)
    second = target[1::2]
    np.add(p5[: len(second)], bias, out=second)
    relu(target)


def _scaled_sum(first: Floats, *others: tuple[Floats, float], out: Floats) -> None:
    """Scale `others` in place, each by its number, and add them to `first`, one after the other, in `out`."""
    for other, factor in others:
        np.multiply(other, factor, out=other)
        first = np.add(first, other, out=out)


NUMPY = Passes(relu, _mix, _unmix)
"""The passes as NumPy operations: ready at once, but the whole model takes half as long again with them."""

passes = NUMPY  # those in use
_lock = threading.Lock()
_seen = 0
_begun = False


def worth_compiling(segments: float | None) -> bool:
    """Whether a job of so many segments is long enough for the compiled passes; None: unknown, so False."""
    return segments is not None and segments > 2 * AFTER_SEGMENTS


def count_segments(segments: int, *, long_job: bool) -> None:
    """Count computed segments, and get the compiled passes once they are worth it; in a `long_job`, at once."""
    global _seen, _begun
    with _lock:
        _seen += segments
        if _begun or (_seen < AFTER_SEGMENTS and not long_job):
            return
        _begun = True
    # A daemon, so that a finished command does not wait for it.
    threading.Thread(target=fetch_compiled, name="samptag-compile", daemon=True).start()


def fetch_compiled() -> None:
    """Use the compiled passes from now on, in all threads, even in the middle of a segment; unless numba fails."""
    global passes
    try:
        from samptag.engine.kernels import compile_passes

        folder = cache_folder("numba")
        passes = Passes(*compile_passes(str(folder) if _ours_alone(folder) else None))
    except Exception as error:
        logger.debug("no compiled passes: %s: %s", type(error).__name__, error)


def _ours_alone(folder: Path) -> bool:
    """Whether only this user can write to `folder`, which is made if need be: reading numba's pickles runs code."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)
