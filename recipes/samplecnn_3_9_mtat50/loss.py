"""How far the student is from the teacher."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.samplecnn_3_9_mtat50.windows import Windows

__all__ = ["TeacherLoss"]

_LEAST_SCORE = 1e-4
_LEAST_SPREAD = 1e-3
_FARTHEST = 4.0  # standard deviations: the embeddings' rare peaks would outweigh all else


class TeacherLoss:
    """The loss against the teacher: its scores, and its embeddings where they count.

    Parameters
    ----------
    windows : Windows
        All segments that are learned from.
    head : nn.Module
        The student's embeddings, (batch, 512), -> the teacher's, (batch, 456), in units of their spread.
    embedded : float
        Weight of the embeddings.
    """

    def __init__(self, windows: Windows, head: nn.Module, *, embedded: float) -> None:
        self._windows, self._head, self._embedded = windows, head, embedded
        self._logit_spread = torch.from_numpy(np.maximum(windows.logits.mean(axis=1).std(axis=0), _LEAST_SPREAD))
        if embedded:
            self._mean = windows.embeddings.mean(axis=0, dtype=np.float32)
            self._spread = windows.embeddings.std(axis=0, dtype=np.float32) + _LEAST_SPREAD

    def __call__(self, logits: Tensor, embeddings: Tensor, chosen: np.ndarray) -> Tensor:
        """The loss of the student's logits, (batch, tags), and embeddings, (batch, 512), for windows `chosen`."""
        scores = torch.sigmoid(torch.from_numpy(self._windows.logits[chosen])).mean(dim=1)
        apart = (logits - torch.logit(scores, _LEAST_SCORE)) / self._logit_spread
        loss = 2 * F.binary_cross_entropy_with_logits(logits, scores) + 0.25 * apart.square().mean()
        if not self._embedded:
            return loss
        teachers = (self._windows.embeddings[chosen] - self._mean) / self._spread
        target = torch.from_numpy(np.clip(teachers, -_FARTHEST, _FARTHEST))
        return loss + self._embedded * F.mse_loss(self._head(embeddings), target)
