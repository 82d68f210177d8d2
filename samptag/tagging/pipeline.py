"""Decode workers that feed one model through a bounded queue; results come in the order of the inputs.

::

    inputs --claim--> [decode worker] --segments--> queue --batches--> [model thread] --> finished tracks, in order
                      [decode worker]

Three things are bounded, so that memory depends neither on the length nor on the number of inputs: segments in the
queue, inputs begun ahead of the one whose result is due, and bytes kept by tracks that are finished but not yet due.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from samptag.core.card import ModelCard
from samptag.engine.blas import one_thread
from samptag.errors import AudioError, SamptagError
from samptag.tagging.files import Input
from samptag.tagging.result import TagScore, TrackError, TrackResult

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Predict = Callable[[Floats], tuple[Floats, Floats]]
Decode = Callable[["Track"], Generator[Floats, None, None]]

# How far decoding may run ahead of the result that is due: a file of ten hours (13 440 segments) takes as long as some
# 120 songs, so nothing needs to wait for it. A waiting track without its taggram is a few kilobytes.
AHEAD_TRACKS = 1024
AHEAD_BYTES = 64 * 2**20
# Waits end now and then, so that Ctrl-C works on systems where a lock cannot be interrupted.
PATIENCE_SECONDS = 0.5
JOIN_SECONDS = 5.0


@dataclass(eq=False)
class Track:
    """One input on its way to a result, filled in by one decode worker and by the thread that scores."""

    input: Input
    _: KW_ONLY
    keep_taggram: bool  # the scores of every segment are kept, not only their sum
    duration: float = 0.0
    sample_rate: int = 0
    padded: bool = False
    warnings: list[str] = field(default_factory=list)
    starts: NDArray[np.float64] | None = None
    error: Exception | None = None
    decoded: bool = False
    pushed: int = 0
    scored: int = 0
    _score_sum: NDArray[np.float64] | None = None
    _embedding_sum: NDArray[np.float64] | None = None
    _rows: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.error = self.input.error

    @property
    def complete(self) -> bool:
        """Whether the input is decoded and all its segments are scored."""
        return self.decoded and self.scored == self.pushed

    @property
    def kept_bytes(self) -> int:
        """Size in bytes of what is kept until it is the track's turn."""
        return sum(rows.nbytes for rows in self._rows)

    def add(self, scores: Floats, embeddings: Floats) -> None:
        """Add the scores, (k, n_tags), and the embeddings, (k, embedding_size), of the next segments."""
        if self._score_sum is None or self._embedding_sum is None:
            self._score_sum = np.zeros(scores.shape[1])
            self._embedding_sum = np.zeros(embeddings.shape[1])
        # Row by row, because a sum over an axis rounds differently for different numbers of rows.
        for row, embedding in zip(scores, embeddings, strict=True):
            self._score_sum += row
            self._embedding_sum += embedding
        if self.keep_taggram:
            self._rows.append(scores.copy())
        self.scored += len(scores)

    def result(self, *, card: ModelCard, weights_sha256: str | None = None) -> TrackResult:
        """The result of the finished track; with `error` if decoding failed or a score is not a number."""
        if self.error is None and self._score_sum is not None and not np.isfinite(self._score_sum).all():
            self.error = AudioError(f"{self.input.path}: the weights {card.name!r} gave scores that are not numbers")
        result = partial(
            TrackResult,
            path=self.input.path,
            duration=self.duration,
            sample_rate=self.sample_rate,
            model=card.name,
            weights_sha256=weights_sha256,
            warnings=tuple(self.warnings),
        )
        if self.error is not None or self._score_sum is None or self._embedding_sum is None:
            problem = self.error or AudioError(f"{self.input.path}: no sound in it")
            return result(error=_describe(problem, self.input.path))
        mean = self._score_sum / self.scored
        categories, cutoffs = card.tag_categories or (None,) * len(card.tags), card.cutoffs or {}
        return result(
            segments=self.scored,
            padded=self.padded,
            scores=tuple(
                TagScore(tag, float(score), category, cutoffs.get(tag))
                for tag, score, category in zip(card.tags, mean, categories, strict=True)
            ),
            taggram=np.concatenate(self._rows) if self.keep_taggram else None,
            starts=self.starts,
            embedding=(self._embedding_sum / self.scored).astype(np.float32),
        )


def _describe(error: Exception, path: str) -> TrackError:
    """The error as a record; an unexpected one keeps its own type, and its traceback is logged."""
    if isinstance(error, SamptagError):
        return TrackError(type(error).__name__, str(error))
    if isinstance(error, MemoryError):
        return TrackError("MemoryError", f"{path}: out of memory while decoding; use fewer --jobs")
    logger.debug("traceback of the error in %s", path, exc_info=error)
    return TrackError(type(error).__name__, f"{path}: {error or 'unexpected error'} (samptag --debug shows where)")


@dataclass(eq=False)
class Pipeline:
    """Runs inputs through decode workers and one thread that scores; used once, by iterating over `tracks`.

    `decode` turns a track into an iterator over its segments, each item of shape (k, input_length), and fills in the
    track's fields; the decode workers call it. `predict` turns segments (k, input_length) into scores (k, n_tags) and
    embeddings (k, embedding_size).
    """

    inputs: Iterable[Input]  # the decode workers take one at a time, as they become free
    _: KW_ONLY
    decode: Decode
    predict: Predict
    jobs: int  # number of decode workers
    batch_size: int  # the most segments in one call of `predict`
    fill_batches: bool  # wait for full batches while anything is being decoded: for devices slow on small ones
    keep_taggram: bool  # tracks keep the scores of every segment

    def __post_init__(self) -> None:
        self._inputs = iter(self.inputs)
        # Room for the batch being gathered and the next one; a worker may exceed it by the segments of one block.
        self._queue_limit = 2 * self.batch_size
        self._claim_lock = threading.Lock()
        self._changed = threading.Condition()  # guards everything below
        self._queue: deque[tuple[Track, Floats]] = deque()
        self._queued = 0
        self._decoding = 0
        self._workers = self.jobs
        self._begun: deque[Track] = deque()  # the first of them is due
        self._kept_bytes = 0  # by those that are complete
        self._stopped = False
        self._failure: BaseException | None = None

    def tracks(self) -> Generator[Track, None, None]:
        """The finished tracks in the order of the inputs; raises what `predict` or the inputs raise."""
        work = [("model", self._score_all), *((f"decode-{n}", self._decode_all) for n in range(self.jobs))]
        threads = [threading.Thread(target=target, name=f"samptag-{name}", daemon=True) for name, target in work]
        try:
            for thread in threads:
                thread.start()
            while (track := self._next_due()) is not None:
                yield track
        finally:
            self._stop()
            deadline = time.monotonic() + JOIN_SECONDS
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))

    def _next_due(self) -> Track | None:
        with self._changed:
            while not (self._begun and self._begun[0].complete) and self._failure is None:
                if self._workers == 0 and not self._begun:
                    return None
                self._changed.wait(PATIENCE_SECONDS)
            if self._failure is not None:
                raise self._failure
            track = self._begun.popleft()
            self._kept_bytes -= track.kept_bytes
            self._changed.notify_all()
            return track

    # ---- decode workers

    def _decode_all(self) -> None:
        try:
            with one_thread():  # resampling is matrix products, too
                while (track := self._claim()) is not None:
                    self._decode_one(track)
        except BaseException as error:  # an error of the caller's iterable belongs to the caller
            self._stop(error)
        finally:
            with self._changed:
                self._workers -= 1
                self._changed.notify_all()

    def _claim(self) -> Track | None:
        """The next input as a track, or None at the end; waits while too much is ahead of the result that is due."""
        with self._claim_lock:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._may_claim())
                if self._stopped:
                    return None
            source = next(self._inputs, None)
            if source is None:
                return None
            track = Track(source, keep_taggram=self.keep_taggram)
            with self._changed:
                self._begun.append(track)
                self._decoding += 1
        return track

    def _may_claim(self) -> bool:
        ahead = len(self._begun)
        return ahead == 0 or (ahead < AHEAD_TRACKS and self._kept_bytes < AHEAD_BYTES)

    def _decode_one(self, track: Track) -> None:
        if track.error is None:
            try:
                with closing(self.decode(track)) as pieces:
                    for segments in pieces:
                        if not self._put(track, segments):
                            return
            except Exception as error:
                track.error = error
        with self._changed:
            track.decoded = True
            self._decoding -= 1
            self._finish_if_complete(track)
            self._changed.notify_all()

    def _put(self, track: Track, segments: Floats) -> bool:
        """Queue the segments, if the pipeline is not stopped; returns whether it is not."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._queued < self._queue_limit)
            if len(segments) and not self._stopped:
                self._queue.append((track, segments))
                self._queued += len(segments)
                track.pushed += len(segments)
                self._changed.notify_all()
            return not self._stopped

    # ---- the thread that scores

    def _score_all(self) -> None:
        try:
            # For the whole run: a BLAS that gets its threads back between two calls keeps the cores busy waiting, which
            # cost a third of the speed.
            with one_thread():
                while batch := self._take_batch():
                    scores, embeddings = self.predict(np.concatenate([segments for _, segments in batch]))
                    self._hand_back(batch, scores, embeddings)
        except BaseException as error:  # it belongs to the caller
            self._stop(error)

    def _take_batch(self) -> list[tuple[Track, Floats]]:
        """Up to `batch_size` segments with their tracks; empty when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._batch_is_ready() or self._workers == 0)
            if self._stopped:
                return []
            batch: list[tuple[Track, Floats]] = []
            room = self.batch_size
            while self._queue and room:
                track, segments = self._queue.popleft()
                batch.append((track, segments[:room]))
                if len(segments) > room:
                    self._queue.appendleft((track, segments[room:]))
                room -= min(len(segments), room)
            self._queued -= self.batch_size - room
            self._changed.notify_all()
            return batch

    def _batch_is_ready(self) -> bool:
        if self.fill_batches and self._decoding:
            return self._queued >= self.batch_size
        return bool(self._queue)

    def _hand_back(self, batch: list[tuple[Track, Floats]], scores: Floats, embeddings: Floats) -> None:
        row = 0
        with self._changed:
            for track, segments in batch:
                end = row + len(segments)
                track.add(scores[row:end], embeddings[row:end])
                row = end
                self._finish_if_complete(track)
            self._changed.notify_all()

    # ---- both; the caller holds the lock

    def _finish_if_complete(self, track: Track) -> None:
        if track.complete:
            self._kept_bytes += track.kept_bytes

    def _stop(self, failure: BaseException | None = None) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._stopped = True
            self._changed.notify_all()
