"""What the students of earlier phases say of segments, for a later phase to learn beside the teacher's scores."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from recipes.samplecnn_3_9_mtat50.export import student
from recipes.samplecnn_3_9_mtat50.student import Student, one_by_one
from samptag.core.model import SampleCNN
from samptag.engine.folding import fold
from samptag.training import Workers

__all__ = ["Elders"]


class Elders:
    """Earlier students with the same frozen layers as the one in training; none give no logits.

    Parameters
    ----------
    weights : sequence of mapping
        What each of them ended with.
    learner : Student
        The one in training.
    workers : Workers

    Raises
    ------
    ValueError
        One of them has other frozen layers, so that it cannot go on from what `learner`'s give.
    """

    def __init__(self, weights: Sequence[Mapping[str, Tensor]], learner: Student, workers: Workers) -> None:
        self._models = [_folded(each) for each in weights]
        self._frozen, self._workers = learner.frozen, workers
        for each in weights:
            if any(not torch.equal(each[name], tensor) for name, tensor in learner.frozen_state().items()):
                raise ValueError("an earlier phase whose student teaches has other frozen layers")

    @property
    def width(self) -> int:
        """How many logits there are of a segment."""
        return self._models[0].config.n_tags if self._models else 0

    def tensors(self) -> Iterator[Tensor]:
        """All their weights, batch normalisation folded in."""
        for model in self._models:
            yield from model.state_dict().values()

    def __call__(self, frames: Tensor) -> Tensor:
        """The mean of their logits, (n, width), where the frozen layers give `frames`, (n, frames, channels)."""
        return one_by_one(self._of_one, frames, self._workers) if self._models else torch.empty(len(frames), 0)

    def _of_one(self, frames: Tensor) -> Tensor:
        given = []
        for model in self._models:
            x = frames.t()[None, :, None]
            for block in model.body[self._frozen :]:
                x = block(x)
            if model.top is not None:
                x = model.top(x)
            given.append(model.classify(x.flatten(1)))
        return torch.stack(given).mean(0)


def _folded(weights: Mapping[str, Tensor]) -> SampleCNN:
    model = student()
    model.load_state_dict(dict(weights))
    return fold(model)
