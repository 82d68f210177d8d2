"""A stream of sample blocks in, segments out, in memory that does not grow with the stream."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Tail = Literal["overlap", "pad", "drop"]


class Segmenter:
    """Cuts one stream of samples into segments of `length` that start every `hop` samples, however it is chopped.

    A stream shorter than one segment, whatever `tail` is, comes back as one segment with zeros appended, and `padded`
    says so; one without samples has no segments. `tail` is what becomes of samples after the last whole segment: a
    further segment that ends at the last sample, a further segment filled up with zeros, or nothing.
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
        self._last_start: int | None = None  # of the segment that the end of the stream makes
        self._finished = False
        # The last `length` samples are always kept, for the segment that ends at the last one. Twice the room, so that
        # moving them to the front is paid for by the `length` samples that came in since.
        self._buffer = np.zeros(2 * length, np.float32)
        self._filled = 0

    def push(self, block: ArrayLike) -> NDArray[np.float32]:
        """The segments, a copy of shape (k, length), that the stream's next samples, (n,), complete; any n, any k."""
        samples = np.asarray(block, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"a block must have one dimension, not shape {samples.shape}")
        if self._finished:
            raise ValueError("the stream is finished: take a new Segmenter for the next one")
        total = self.n_samples + len(samples)
        complete = (total - self.length) // self.hop + 1 if total >= self.length else 0
        before = self._n_segments
        segments = np.empty((complete - before, self.length), np.float32)
        for start in range(0, len(samples), self.length):
            self._append(samples[start : start + self.length])
            while self._n_segments < complete and self._next_start + self.length <= self.n_samples:
                offset = self._next_start - (self.n_samples - self._filled)
                segments[self._n_segments - before] = self._buffer[offset : offset + self.length]
                self._n_segments += 1
        return segments

    def finish(self) -> NDArray[np.float32]:
        """The segment the end of the stream makes, shape (1, length), or none, shape (0, length)."""
        covered = self._next_start - self.hop + self.length if self._n_segments else 0
        all_heard = self._finished or covered >= self.n_samples
        self._finished = True
        if not all_heard:
            if self.n_samples < self.length or (self.tail == "pad" and self._next_start < self.n_samples):
                self.padded, self._last_start = True, self._next_start
                rest = self._last(self.n_samples - self._next_start)
                segment = np.zeros((1, self.length), np.float32)
                segment[0, : len(rest)] = rest
                return segment
            if self.tail == "overlap":
                self._last_start = self.n_samples - self.length
                return self._last(self.length)[None]
        return np.empty((0, self.length), np.float32)

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

    def _last(self, count: int) -> NDArray[np.float32]:
        last: NDArray[np.float32] = self._buffer[self._filled - count : self._filled].copy()
        return last
