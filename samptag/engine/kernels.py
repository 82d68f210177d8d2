"""The passes of `samptag.engine.winograd` as compiled loops; importing this compiles them or takes them from a cache.

Only `samptag.engine.compiled` imports it, in a thread: numba alone takes half a second. The loops release the
interpreter's lock. Without fast-math they round as NumPy does, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from samptag.engine.winograd import Floats

__all__ = ["CompiledPasses", "compile_passes"]


def _mix(padded: Floats, start: int, mixed: Floats) -> None:
    rows, channels = mixed.shape[1], mixed.shape[2]
    for row in range(rows):
        first = start + 3 * row
        for c in range(channels):
            d1, d2 = padded[first + 1, c], padded[first + 2, c]
            at_2 = padded[first + 3, c] - d1
            even = padded[first, c] - d2
            mixed[0, row, c] = at_2 + (even + even)
            mixed[1, row, c] = at_2 - (d1 + d2)
            mixed[2, row, c] = at_2 + (d1 - d2) * np.float32(3)
            mixed[3, row, c] = at_2
            mixed[4, row, c] = ((padded[first + 4, c] - d2) - at_2) - at_2


def _unmix(products: Floats, bias: Floats, target: Floats) -> None:
    for row in range(target.shape[0]):
        for c in range(target.shape[1]):
            one, minus, two = products[1, row, c], products[2, row, c], products[3, row, c]
            total = one + minus
            twice = two + two
            a = (products[0, row, c] + total) + two
            b = (one - minus) + twice
            y = (total + (twice + twice)) + products[4, row, c]
            y = a if a > y else y
            y = b if b > y else y
            y = y + bias[c]
            # Not "y if y > 0", which would hide a NaN.
            target[row, c] = np.float32(0) if y < np.float32(0) else y


class CompiledPasses:
    """The compiled loops as `samptag.engine.winograd.Passes`."""

    def __init__(self, mix: Callable[..., None], unmix: Callable[..., None]) -> None:
        self.mix, self.unmix = mix, unmix


def compile_passes(cache: str) -> CompiledPasses:
    """The passes, compiled or read from the folder `cache`, where they are kept for the next process."""
    settings: Any = numba.config  # it has its names from the environment, which no type checker sees
    before, settings.CACHE_DIR = settings.CACHE_DIR, cache
    try:
        return CompiledPasses(
            _compiled("void(float32[:,::1], int64, float32[:,:,::1])", _mix),
            _compiled("void(float32[:,:,::1], float32[::1], float32[:,::1])", _unmix),
        )
    finally:
        settings.CACHE_DIR = before


def _compiled(signature: str, function: Callable[..., None]) -> Any:
    try:
        return numba.njit(signature, nogil=True, cache=True, boundscheck=False)(function)
    except (OSError, RuntimeError):  # a cache that cannot be written, or a source that numba cannot find
        return numba.njit(signature, nogil=True, boundscheck=False)(function)
