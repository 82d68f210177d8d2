"""A model's scores of a data set's clips, clean and degraded."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from samptag.data.dataset import Clip
from samptag.errors import AudioError, DatasetError
from samptag.evaluation.perturb import Perturbation
from samptag.evaluation.predictions import ScoreTable
from samptag.evaluation.report import FailedClip
from samptag.tagging.files import Input
from samptag.tagging.tagger import Tagger

__all__ = ["Listener", "Progress"]

Progress = Callable[[int, int], None]
"""Called with the number of clips heard so far and the number in all; every perturbation hears each clip again."""

_Block = npt.NDArray[np.float32]


class Listener:
    """One model and the clips it is to score, in order.

    Parameters
    ----------
    tagger : Tagger
    clips : sequence of Clip
    perturbations : sequence of Perturbation
        What `degraded` will be asked for; checked here, before an hour of clean clips.
    seed : int
        Decides the noise.
    progress : callable or None

    Raises
    ------
    UsageError
        When a perturbation cannot be applied at the model's rate.
    """

    def __init__(
        self,
        tagger: Tagger,
        *,
        clips: Sequence[Clip],
        perturbations: Sequence[Perturbation] = (),
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        for perturbation in perturbations:
            perturbation.check(tagger.sample_rate)
        self._tagger = tagger
        self._inputs = [Input(path=clip.key, source=str(clip.path)) for clip in clips]
        self._seed = seed
        self._progress = progress
        self._heard = 0
        self._in_all = len(clips) * (1 + len(perturbations))

    def clean(self) -> tuple[ScoreTable, tuple[FailedClip, ...]]:
        """The clips' scores as they are, and the clips that could not be read, which are not heard again.

        Raises
        ------
        DatasetError
            When no clip can be read.
        """
        failed: list[FailedClip] = []
        table = self._listen(None, failed)
        if not table.keys:
            raise DatasetError(f"none of {len(failed)} clips can be read; the first: {failed[0].error}")
        bad = {clip.path for clip in failed}
        self._in_all -= len(bad) * (self._in_all // len(self._inputs) - 1)
        self._inputs = [source for source in self._inputs if source.path not in bad]
        return table, tuple(failed)

    def degraded(self, perturbation: Perturbation) -> ScoreTable:
        """The scores of the same clips under a perturbation.

        Raises
        ------
        AudioError
            When a clip that could be read clean cannot be read degraded: a loss is of the same clips or of none.
        """
        failed: list[FailedClip] = []
        table = self._listen(partial(self._degrade, perturbation), failed)
        if failed:
            raise AudioError(
                f"{failed[0].path} could be read clean but not under {perturbation.name}: {failed[0].error}"
            )
        return table

    def _degrade(self, perturbation: Perturbation, key: str, blocks: Iterable[_Block]) -> Iterator[_Block]:
        return perturbation.apply(blocks, sample_rate=self._tagger.sample_rate, key=key, seed=self._seed)

    def _listen(
        self, transform: Callable[[str, Iterable[_Block]], Iterable[_Block]] | None, failed: list[FailedClip]
    ) -> ScoreTable:
        keys: list[str] = []
        rows: list[list[float]] = []
        for result in self._tagger.tag_many(self._inputs, taggram=False, transform=transform):
            if result.error is None:
                keys.append(result.path)
                rows.append([score.score for score in result.scores])
            else:
                failed.append(FailedClip(result.path, result.error.message))
            self._heard += 1
            if self._progress is not None:
                self._progress(self._heard, self._in_all)
        values = np.array(rows, dtype=np.float32).reshape(len(keys), len(self._tagger.tags))
        return ScoreTable(name=self._tagger.card.name, keys=tuple(keys), tags=self._tagger.tags, values=values)
