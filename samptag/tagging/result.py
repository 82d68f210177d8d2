"""The results of tagging: frozen dataclasses, and the JSON record made from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samptag import __version__
from samptag.text import path_fields, valid_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCHEMA = "samptag.tag/1"
# float32 scores agree between devices to about 1e-6 at best; six decimals print every digit that means something.
SCORE_DECIMALS = 6


@dataclass(frozen=True)
class TagScore:
    """One tag and its score.

    Attributes
    ----------
    tag : str
        The tag as the weights spell it.
    score : float
        Sigmoid of the logit, averaged over the segments, in [0, 1].
    category : str or None
        "genre", "mood", "instrument", ...; None if the weights do not sort their tags.
    cutoff : float or None
        Score from which the tag is decided; None if the weights store none for it.
    """

    tag: str
    score: float
    category: str | None = None
    cutoff: float | None = None

    @property
    def decided(self) -> bool | None:
        """Whether the score is past the cut-off; None if there is none."""
        return None if self.cutoff is None else self.score >= self.cutoff


@dataclass(frozen=True)
class TrackError:
    """Why an input has no tags."""

    type: str  # class of the error, "AudioError" for everything that is wrong with the input itself
    message: str  # one line for a person


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackResult:
    """What the model says about one input.

    Attributes
    ----------
    path : str
        The input as it was given or found; bytes of a name that cannot be decoded are surrogate escapes.
    duration : float
        Seconds of sound that were decoded.
    sample_rate : int
        The input's own rate, Hz; 0 if it could not be read.
    model : str
        Name of the weights.
    weights_sha256 : str or None
        Digest of the weights file's content, as the file states it; None for a model that is not from a file.
    segments : int
        Number of segments, of which the scores are the mean.
    padded : bool
        Whether the input was shorter than one segment, or `tail="pad"` filled up the last one, with zeros.
    scores : tuple of TagScore
        Every tag of the model, in the order of its outputs; empty if `error` is set.
    taggram : ndarray, shape (segments, n_tags), float32, or None
        Scores of every segment, if asked for.
    starts : ndarray, shape (segments,), float64, or None
        Where each segment starts, in seconds; only with a taggram.
    embedding : ndarray, shape (embedding_size,), float32, or None
        Mean of the segments' embeddings, if there are scores.
    warnings : tuple of str
        Problems that did not stop the tagging, e.g. a truncated file.
    error : TrackError or None
        Why there are no scores.
    """

    path: str
    duration: float = 0.0
    sample_rate: int = 0
    model: str
    weights_sha256: str | None = None
    segments: int = 0
    padded: bool = False
    scores: tuple[TagScore, ...] = ()
    taggram: npt.NDArray[np.float32] | None = None
    starts: npt.NDArray[np.float64] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()
    error: TrackError | None = None

    def top(
        self,
        k: int | None = 5,
        *,
        threshold: float | None = None,
        tags: Collection[str] | None = None,
        decided: bool = False,
    ) -> tuple[TagScore, ...]:
        """The best tags, highest score first; equal scores keep the model's order.

        Parameters
        ----------
        k : int or None
            At most this many; None for all.
        threshold : float, optional
            Only tags with at least this score, in [0, 1].
        tags : collection of str, optional
            Only these tags.
        decided : bool
            Only tags past their cut-offs; none if the weights store no cut-offs.
        """
        chosen = [
            item
            for item in self.scores
            if (tags is None or item.tag in tags)
            and (threshold is None or item.score >= threshold)
            and (item.decided or not decided)
        ]
        chosen.sort(key=lambda item: -item.score)
        return tuple(chosen[:k])

    def to_record(
        self,
        *,
        top: int | None = 5,
        threshold: float | None = None,
        tags: Collection[str] | None = None,
        decided: bool = False,
    ) -> dict[str, Any]:
        """The JSON record of schema samptag.tag/1, with the tags that the method `top` selects.

        Keys: schema, path, duration (seconds decoded), sample_rate (Hz, the input's own), model, weights ({name,
        sha256}), segments, padded, tags (list of {tag, score}, best first, with category and decided if the weights
        have them), warnings (list of str), error (null or {type, message}), version (samptag's).
        In a path that is not valid Unicode, U+FFFD replaces each byte that cannot be decoded, and the key path_bytes,
        present only then, has the exact bytes in base64.
        """
        return {
            "schema": SCHEMA,
            **path_fields(self.path),
            "duration": round(self.duration, 6),
            "sample_rate": self.sample_rate,
            "model": self.model,
            "weights": {"name": self.model, "sha256": self.weights_sha256},
            "segments": self.segments,
            "padded": self.padded,
            "tags": [_tag_record(item) for item in self.top(top, threshold=threshold, tags=tags, decided=decided)],
            "warnings": [valid_text(warning) for warning in self.warnings],
            "error": self.error and {"type": self.error.type, "message": valid_text(self.error.message)},
            "version": __version__,
        }


def _tag_record(item: TagScore) -> dict[str, Any]:
    known = {"category": item.category, "decided": item.decided}
    return {
        "tag": item.tag,
        "score": round(item.score, SCORE_DECIMALS),
        **{name: value for name, value in known.items() if value is not None},
    }
