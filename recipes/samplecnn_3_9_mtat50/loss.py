"""How far the student is from the teacher, and from the earlier students that teach beside it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.windows import Windows

__all__ = ["TeacherLoss"]

_LEAST_SCORE = 1e-4
_LEAST_SPREAD = 1e-3
_LEAST_SCORE_SPREAD = 0.03  # in smaller units the few sounds of the rarest tags would outweigh all else
_FARTHEST = 4.0  # standard deviations: the embeddings' rare peaks would outweigh all else


class TeacherLoss:
    """The loss against the teacher: its scores, and its embeddings where they count.

    Parameters
    ----------
    windows : Windows
        All segments that are learned from.
    head : nn.Module
        The student's embeddings, (batch, 512), -> the teacher's, (batch, 456), in units of their spread.
    phase : Phase
        Its weights of the logits, scores and embeddings, and the elders' share.
    """

    def __init__(self, windows: Windows, head: nn.Module, phase: Phase) -> None:
        self._windows, self._head, self._phase = windows, head, phase
        self._logit_spread = torch.from_numpy(np.maximum(windows.logits.mean(axis=1).std(axis=0), _LEAST_SPREAD))
        if phase.scores:
            scores = windows.scores(np.arange(len(windows)))
            self._score_spread = torch.from_numpy(np.maximum(scores.std(axis=0), _LEAST_SCORE_SPREAD))
        if phase.embedded:
            self._mean = windows.embeddings.mean(axis=0, dtype=np.float32)
            self._spread = windows.embeddings.std(axis=0, dtype=np.float32) + _LEAST_SPREAD

    def __call__(self, logits: Tensor, embeddings: Tensor, chosen: np.ndarray, elders: Tensor | None = None) -> Tensor:
        """The loss.

        Parameters
        ----------
        logits, embeddings : Tensor
            The student's, (batch, tags) and (batch, 512).
        chosen : ndarray of int64, (batch,)
            The windows that it heard.
        elders : Tensor or None
            The logits that the phase's elders give, (batch, tags).

        Returns
        -------
        Tensor
            A scalar.
        """
        scores = torch.from_numpy(self._windows.scores(chosen))
        wanted = torch.logit(scores, _LEAST_SCORE)
        if elders is not None:
            scores = torch.lerp(scores, torch.sigmoid(elders), self._phase.elders_share)
            wanted = torch.lerp(wanted, elders, self._phase.elders_share)
        apart = (logits - wanted) / self._logit_spread
        loss = 2 * F.binary_cross_entropy_with_logits(logits, scores) + self._phase.logits * apart.square().mean()
        if self._phase.scores:
            apart = (torch.sigmoid(logits) - scores) / self._score_spread
            loss = loss + self._phase.scores * apart.square().mean()
        if self._phase.embedded:
            teachers = (self._windows.embeddings[chosen] - self._mean) / self._spread
            target = torch.from_numpy(np.clip(teachers, -_FARTHEST, _FARTHEST))
            loss = loss + self._phase.embedded * F.mse_loss(self._head(embeddings), target)
        return loss
