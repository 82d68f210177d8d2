"""One input on its way through decoding and scoring, until its result is whole."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from samptag.core.card import ModelCard
from samptag.errors import AudioError, SamptagError
from samptag.tagging.files import Input
from samptag.tagging.result import TagScore, TrackError, TrackResult

__all__ = ["Track"]

logger = logging.getLogger("samptag")


class Track:
    """One input's figures, filled in by one decode worker and by the thread that scores.

    Parameters
    ----------
    index : int
        Its place among the inputs.
    source : Input
        What is decoded.
    keep_taggram : bool
        Whether the scores of every segment are kept, not only their sum.
    """

    def __init__(self, index: int, source: Input, *, keep_taggram: bool) -> None:
        self.index = index
        self.input = source
        self.keep_taggram = keep_taggram
        self.duration = 0.0
        self.sample_rate = 0
        self.padded = False
        self.warnings: list[str] = []
        self.starts: list[float] = []
        self.error: Exception | None = source.error
        self.decoded = False
        self.pushed = 0
        self.scored = 0
        self._score_sum: NDArray[np.float64] | None = None
        self._embedding_sum: NDArray[np.float64] | None = None
        self._rows: list[NDArray[np.float32]] = []

    @property
    def complete(self) -> bool:
        """Whether nothing more will come: the input is decoded, and every segment of it is scored."""
        return self.decoded and self.scored == self.pushed

    @property
    def kept_bytes(self) -> int:
        """Size of what waits until it is the track's turn, bytes."""
        return sum(rows.nbytes for rows in self._rows)

    def add(self, scores: NDArray[np.float32], embeddings: NDArray[np.float32]) -> None:
        """Take in what the model made of the next segments: (k, n_tags) scores and (k, embedding_size) embeddings."""
        if self._score_sum is None or self._embedding_sum is None:
            self._score_sum = np.zeros(scores.shape[1])
            self._embedding_sum = np.zeros(embeddings.shape[1])
        # Row by row: a sum over an axis rounds differently for different numbers of rows.
        for row, embedding in zip(scores, embeddings, strict=True):
            self._score_sum += row
            self._embedding_sum += embedding
        if self.keep_taggram:
            self._rows.append(scores.copy())
        self.scored += len(scores)

    def result(self, *, card: ModelCard, weights_sha256: str | None = None) -> TrackResult:
        """The result of the finished track.

        Parameters
        ----------
        card : ModelCard
            The weights' name, and their tags with categories and cut-offs.
        weights_sha256 : str or None
            The weights' digest.

        Returns
        -------
        TrackResult
            With `error` set where decoding failed, or where the model gave something that is not a number.
        """
        if self.error is None and self._score_sum is not None and not np.isfinite(self._score_sum).all():
            self.error = AudioError(f"{self.input.path}: the weights {card.name!r} gave scores that are not numbers")
        if self.error is not None or self._score_sum is None or self._embedding_sum is None:
            return TrackResult(
                path=self.input.path,
                duration=self.duration,
                sample_rate=self.sample_rate,
                model=card.name,
                weights_sha256=weights_sha256,
                warnings=tuple(self.warnings),
                error=_describe(self.error or AudioError(f"{self.input.path}: no sound in it"), self.input.path),
            )
        mean = self._score_sum / self.scored
        categories, cutoffs = card.tag_categories or (None,) * len(card.tags), card.cutoffs or {}
        return TrackResult(
            path=self.input.path,
            duration=self.duration,
            sample_rate=self.sample_rate,
            model=card.name,
            weights_sha256=weights_sha256,
            segments=self.scored,
            padded=self.padded,
            scores=tuple(
                TagScore(tag, float(score), category, cutoffs.get(tag))
                for tag, score, category in zip(card.tags, mean, categories, strict=True)
            ),
            taggram=np.concatenate(self._rows) if self.keep_taggram else None,
            starts=np.array(self.starts) if self.keep_taggram else None,
            embedding=(self._embedding_sum / self.scored).astype(np.float32),
            warnings=tuple(self.warnings),
        )


def _describe(error: Exception, path: str) -> TrackError:
    """The error as a record; one that samptag did not raise on purpose keeps its own type, and its traceback a log."""
    if isinstance(error, SamptagError):
        return TrackError(type(error).__name__, str(error))
    if isinstance(error, MemoryError):
        return TrackError("MemoryError", f"{path}: out of memory while decoding; use fewer --jobs")
    logger.debug("traceback of the error in %s", path, exc_info=error)
    return TrackError(type(error).__name__, f"{path}: {error or 'unexpected error'} (samptag --debug shows where)")
