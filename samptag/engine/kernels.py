"""The passes of `samptag.engine.winograd`, which alone imports this, as numba's loops, which round as NumPy does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _mix(padded: Floats, start: int, mixed: Floats) -> None:
    quarter, half, two, four, five = np.float32(0.25), np.float32(0.5), np.float32(2), np.float32(4), np.float32(5)
    a, b, c, d = np.float32(5.25), np.float32(4.25), np.float32(2.5), np.float32(1.25)
    for tile in range(mixed.shape[1]):
        first = start + 6 * tile
        for i in range(mixed.shape[2]):
            # The ReLU that `rectify` leaves to this loop.
            d0, d1 = _relu(padded[first, i]), _relu(padded[first + 1, i])
            d2, d3 = _relu(padded[first + 2, i]), _relu(padded[first + 3, i])
            d4, d5 = _relu(padded[first + 4, i]), _relu(padded[first + 5, i])
            d6, d7 = _relu(padded[first + 6, i]), _relu(padded[first + 7, i])
            mixed[0, tile, i] = (d0 - d6) + (d4 - d2) * a
            mixed[7, tile, i] = (d7 - d1) + (d3 - d5) * a
            even, odd = (d2 + d6) - d4 * b, (d1 + d5) - d3 * b
            mixed[1, tile, i], mixed[2, tile, i] = even + odd, even - odd
            shared = d3 * c
            even, odd = (d6 + d2 * quarter) - d4 * d, (d1 * half + d5 * two) - shared
            mixed[3, tile, i], mixed[4, tile, i] = even + odd, even - odd
            even, odd = (d6 + d2 * four) - d4 * five, (d1 * two + d5 * half) - shared
            mixed[5, tile, i], mixed[6, tile, i] = even + odd, even - odd


def _unmix(products: Floats, bias: Floats, target: Floats) -> None:
    rows = target.shape[0]
    for tile in range((rows + 1) // 2):
        for i in range(target.shape[1]):
            p = products[0, tile, i]
            even_1, odd_1 = products[1, tile, i] + products[2, tile, i], products[1, tile, i] - products[2, tile, i]
            even_2, odd_2 = products[3, tile, i] + products[4, tile, i], products[3, tile, i] - products[4, tile, i]
            even_h, odd_h = products[5, tile, i] + products[6, tile, i], products[5, tile, i] - products[6, tile, i]
            y = ((p + even_1) + even_2) + even_h
            y = _larger(y, (odd_1 + odd_2 * np.float32(2)) + odd_h * np.float32(0.5))
            y = _larger(y, (even_1 + even_2 * np.float32(4)) + even_h * np.float32(0.25))
            target[2 * tile, i] = _relu(y + bias[i])
            if 2 * tile + 1 < rows:
                y = (odd_1 + odd_2 * np.float32(8)) + odd_h * np.float32(0.125)
                y = _larger(y, (even_1 + even_2 * np.float32(16)) + even_h * np.float32(0.0625))
                last = ((odd_1 + odd_2 * np.float32(32)) + odd_h * np.float32(0.03125)) + products[7, tile, i]
                target[2 * tile + 1, i] = _relu(_larger(y, last) + bias[i])


@numba.njit(inline="always")
def _relu(x: Any) -> Any:
    """ReLU; not "x if x > 0 else 0", which would hide a NaN."""
    return np.float32(0) if x < np.float32(0) else x


@numba.njit(inline="always")
def _larger(x: Any, y: Any) -> Any:
    """The larger one, or NaN if one of them is."""
    return x if x >= y or x != x else y


def compile_passes(cache: str | None) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """The fields of `winograd.Passes`, compiled, or read from the folder `cache`, where they are kept unless None."""
    settings: Any = numba.config  # its names come from the environment, which no type checker sees
    if settings.DISABLE_JIT:
        raise RuntimeError("numba is set not to compile; in Python the loops would be hundreds of times slower")
    before, settings.CACHE_DIR = settings.CACHE_DIR, cache or ""
    try:
        return (
            lambda frames: None,  # `mix` rectifies
            _compiled("void(float32[:,::1], int64, float32[:,:,::1])", _mix, kept=cache is not None),
            _compiled("void(float32[:,:,::1], float32[::1], float32[:,::1])", _unmix, kept=cache is not None),
        )
    finally:
        settings.CACHE_DIR = before


def _compiled(signature: str, function: Callable[..., None], *, kept: bool) -> Any:
    try:
        return numba.njit(signature, nogil=True, cache=kept, boundscheck=False)(function)
    except Exception:  # a cache that cannot be written or is damaged, or a source that numba cannot find
        return numba.njit(signature, nogil=True, boundscheck=False)(function)
