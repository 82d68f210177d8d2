"""A model's scores of a data set's clips, clean and degraded, by one process or by several that torchrun started."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samptag.data.dataset import Clip
from samptag.errors import AudioError, DatasetError
from samptag.evaluation.perturb import Perturbation
from samptag.evaluation.predictions import ScoreTable
from samptag.evaluation.report import FailedClip
from samptag.tagging.files import Input
from samptag.tagging.result import TrackResult
from samptag.tagging.shard import Ranks, Shard
from samptag.tagging.tagger import Tagger

__all__ = ["Heard", "Listener"]

_Block = npt.NDArray[np.float32]
_CLEAN = 0  # the round in which clips are heard as they are


@dataclass(frozen=True)
class Heard:
    """Scores of the same clips under every condition, and the clips that could not be read."""

    clean: ScoreTable
    degraded: tuple[tuple[str, ScoreTable], ...]
    failed: tuple[FailedClip, ...]


class Listener:
    """One model and the clips it is to score, each as it is and then under every perturbation.

    All of that is one run of the tagger: degraded clips are further inputs, told apart by the round in their name.

    Parameters
    ----------
    tagger : Tagger
    clips : sequence of Clip
    perturbations : sequence of Perturbation
    seed : int
        Decides the noise.

    Raises
    ------
    UsageError
        When a perturbation cannot be applied at the model's rate.
    """

    def __init__(
        self, tagger: Tagger, *, clips: Sequence[Clip], perturbations: Sequence[Perturbation] = (), seed: int = 0
    ) -> None:
        for perturbation in perturbations:
            perturbation.check(tagger.sample_rate)
        self._tagger = tagger
        self._perturbations = tuple(perturbations)
        self._seed = seed
        self._inputs = [
            Input(path=f"{turn}:{clip.key}", source=str(clip.path))
            for clip in clips
            for turn in range(1 + len(perturbations))
        ]

    def hear(self, *, ranks: Ranks | None = None, progress: Callable[[int, int], None] | None = None) -> Heard:
        """The scores of all clips, in their order.

        Parameters
        ----------
        ranks : Ranks or None
            Rank 0 of several processes, of which the others call `assist`.
        progress : callable or None
            Called with the number of clips heard so far and the number in all; a perturbation hears each clip again.

        Raises
        ------
        DatasetError
            When no clip can be read.
        AudioError
            When a clip that can be read clean cannot be read degraded: a loss is of the same clips or of none.
        """
        keys: list[str] = []
        rows: list[list[list[float]]] = [[] for _ in range(1 + len(self._perturbations))]
        failed: list[FailedClip] = []
        with closing(self._results(ranks)) as results:
            for count, result in enumerate(results, start=1):
                turn, key = _parted(result.path)
                if result.error is None:
                    rows[turn].append([score.score for score in result.scores])
                    if turn == _CLEAN:
                        keys.append(key)
                elif turn == _CLEAN:
                    failed.append(FailedClip(key, result.error.message))
                elif not failed or failed[-1].path != key:
                    name = self._perturbations[turn - 1].name
                    raise AudioError(f"{key} can be read clean but not under {name}: {result.error.message}")
                if progress is not None:
                    progress(count, len(self._inputs))
        if not keys:
            raise DatasetError(f"none of {len(failed)} clips can be read; the first: {failed[0].error}")
        clean, *degraded = (self._table(keys, turn) for turn in rows)
        names = [perturbation.name for perturbation in self._perturbations]
        return Heard(clean, tuple(zip(names, degraded, strict=True)), tuple(failed))

    def assist(self, ranks: Ranks) -> None:
        """Score this process's share for rank 0, which calls `hear`."""
        Shard(ranks, inputs=self._inputs, transform=self._transform).work(self._tagger, taggram=False)

    def _results(self, ranks: Ranks | None) -> Generator[TrackResult, None, None]:
        if ranks is None:
            return self._tagger.tag_many(self._inputs, taggram=False, transform=self._transform)
        return Shard(ranks, inputs=self._inputs, transform=self._transform).results(self._tagger, taggram=False)

    def _transform(self, path: str, blocks: Iterable[_Block]) -> Iterable[_Block]:
        turn, key = _parted(path)
        if turn == _CLEAN:
            return blocks
        perturbation = self._perturbations[turn - 1]
        return perturbation.apply(blocks, sample_rate=self._tagger.sample_rate, key=key, seed=self._seed)

    def _table(self, keys: Sequence[str], rows: Sequence[Sequence[float]]) -> ScoreTable:
        values = np.array(rows, dtype=np.float32).reshape(len(keys), len(self._tagger.tags))
        return ScoreTable(name=self._tagger.card.name, keys=tuple(keys), tags=self._tagger.tags, values=values)


def _parted(path: str) -> tuple[int, str]:
    """The round and the key that an input's name is made of."""
    turn, _, key = path.partition(":")
    return int(turn), key
