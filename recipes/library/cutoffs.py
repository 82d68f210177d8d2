"""From which score on a word is said: set on people's tags and on the teachers' scores, the higher where both suffice.

Words such as "vocals" are far more frequent among the tracks that people tagged than in most music. A cut-off that is
right there alone says them of everything, so it must be right in music of all kinds too, where only the teachers tell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samptag.evaluation.metrics import cutoff
from samptag.evaluation.predictions import Truth

__all__ = ["PRECISION", "Cutoff", "cutoffs"]

PRECISION = 0.8
POSITIVES = 8
# From which score on the teachers are taken to say a word. Where people's tags can tell (60 tracks, 15 words) they were
# right in 83 % of 167 answers from .2 on, 77 % from .15 on, 88 % from .25 on.
YES = 0.2


class Cutoff(NamedTuple):
    """A score, the share of tracks past it that have the word, and who says which have it: "human" or "teachers"."""

    score: float
    precision: float
    on: str


def cutoffs(
    words: Sequence[str],
    *,
    people: tuple[Truth, npt.NDArray[np.float32]],
    teachers: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> dict[str, Cutoff]:
    """The cut-off of every word for which one can be set.

    `people` has their labels of some tracks and our scores of these, `teachers` our scores and the teachers' of other
    tracks; scores are (tracks, words).
    """
    truth, ours = people
    found: dict[str, Cutoff] = {}
    for place, word in enumerate(words):
        limits = [_cutoff(teachers[1][:, place] >= YES, teachers[0][:, place], on="teachers")]
        if word in truth.tags:
            limits.append(_cutoff(truth.labels[:, truth.tags.index(word)] > 0, ours[:, place], on="human"))
        if known := [limit for limit in limits if limit is not None]:
            found[word] = max(known)
    return found


def _cutoff(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating], *, on: str) -> Cutoff | None:
    found = None if positive.sum() < POSITIVES else cutoff(positive, scores, precision=PRECISION)
    return None if found is None else Cutoff(round(found[0], 4), round(found[1], 3), on)
