"""Blocks of samples in, segments out, in memory that does not grow with the stream."""

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samptag.core.protocols import Tail


class Segmenter:
    """Cuts one stream of samples into segments of `length` that start every `hop` samples, whatever its blocks are.

    `tail` is what becomes of samples after the last whole segment: a further segment that ends at the last sample, a
    further segment filled up with zeros, or nothing. A stream shorter than one segment becomes one segment with zeros
    appended, whatever `tail` is; one without samples has no segments. `padded` says whether zeros were appended.
    """

    def __init__(self, length: int, *, hop: int, tail: Tail = "overlap") -> None:
        if length < 1 or hop < 1:
            raise ValueError(f"a segment and its hop must be at least 1 sample, not {length} and {hop}")
        if tail not in get_args(Tail):
            raise ValueError(f"unknown tail {tail!r}: it must be one of {', '.join(get_args(Tail))}")
        self.length, self.hop, self.tail = length, hop, tail
        self.n_samples = 0
        self.padded = False
        self._n_segments = 0
        self._last_start: int | None = None  # of the segment that `finish` makes
        # The last `length` samples are always kept, for the segment that ends at the last one. With room for twice as
        # many, they are moved to the front only once in `length` samples.
        self._buffer = np.zeros(2 * length, np.float32)
        self._filled = 0

    def push(self, block: ArrayLike) -> NDArray[np.float32]:
        """The segments, (k, length), that the stream's next samples, (n,), complete; k and n may be 0."""
        samples = np.asarray(block, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"a block must have one dimension, not shape {samples.shape}")
        total = self.n_samples + len(samples)
        complete = (total - self.length) // self.hop + 1 if total >= self.length else 0
        before = self._n_segments
        segments = np.empty((complete - before, self.length), np.float32)
        for start in range(0, len(samples), self.length):
            self._append(samples[start : start + self.length])
            while self._next_start + self.length <= self.n_samples:
                offset = self._next_start - (self.n_samples - self._filled)
                segments[self._n_segments - before] = self._buffer[offset : offset + self.length]
                self._n_segments += 1
        return segments

    def finish(self) -> NDArray[np.float32]:
        """The segment at the end of the stream, shape (1, length), or none, shape (0, length); to be called once."""
        covered = self._next_start - self.hop + self.length if self._n_segments else 0
        tail = self.tail if self.n_samples >= self.length else "pad"
        start = self._next_start if tail == "pad" else self.n_samples - self.length
        rest = self.n_samples - start
        if covered >= self.n_samples or tail == "drop" or rest <= 0:
            return np.empty((0, self.length), np.float32)
        self._last_start, self.padded = start, tail == "pad"
        segment = np.zeros((1, self.length), np.float32)
        segment[0, :rest] = self._buffer[self._filled - rest : self._filled]
        return segment

    def starts(self) -> NDArray[np.int64]:
        """The first sample of every segment so far, shape (segments,)."""
        starts = np.arange(self._n_segments, dtype=np.int64) * self.hop
        return starts if self._last_start is None else np.append(starts, self._last_start)

    @property
    def _next_start(self) -> int:
        return self._n_segments * self.hop

    def _append(self, piece: NDArray[np.float32]) -> None:
        """Add at most `length` samples to the buffer."""
        if self._filled + len(piece) > len(self._buffer):
            self._buffer[: self.length] = self._buffer[self._filled - self.length : self._filled]
            self._filled = self.length
        self._buffer[self._filled : self._filled + len(piece)] = piece
        self._filled += len(piece)
        self.n_samples += len(piece)
