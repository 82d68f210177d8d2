"""The interface of all readers of sound files, and their words for what is wrong with a file."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]


class SourceError(Exception):
    """The reader does not know the format, or finds no sound in the file; the message is the reason in a few words."""


class Source(Protocol):
    """One open file, read forward once, all channels at the file's own rate."""

    native_rate: int  # Hz
    warnings: list[str]  # what was wrong; complete when `blocks` has ended

    def blocks(self) -> Iterator[Block]:
        """Blocks of float32, (frames, channels), each valid until the next one is asked for."""

    def close(self) -> None:
        """Free the decoder; the file object stays the caller's."""


def partly_decoded(flaw: str, seconds: float, expected: float | None = None) -> str:
    """The warning for a file that is "truncated" or "damaged" (parts before its end could not be decoded)."""
    if expected is not None:
        return f"{flaw}: {seconds:.2f} s of {expected:.2f} s decoded"
    reasons = {"truncated": "truncated: the file breaks off", "damaged": "damaged: parts could not be decoded"}
    return f"{reasons[flaw]}; {seconds:.2f} s decoded"
