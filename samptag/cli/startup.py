"""What makes a short command short: no garbage collection over the modules it imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector still for the time of a with block, and away from what was made in it for good.

    For imports and networks, which live as long as the process. Looking through the objects that importing torch makes
    again and again, and once more at an end that took the interpreter down, took 0.6 s of CPU of a command that tags
    one clip in 0.3 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
