"""What turns the gradients of a phase into steps: AdamW, and Muon for the filters where the phase asks for it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from recipes.samplecnn_3_9_mtat50.muon import Muon
from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.student import Student
from samptag.training import Workers

__all__ = ["Optimisers"]

_LARGEST_GRADIENT = 2.0


class Optimisers:
    """The optimisers of one phase.

    Parameters
    ----------
    phase : Phase
    student : Student
    others : iterable of nn.Parameter
        What is trained beside the student.
    workers : Workers
    """

    def __init__(self, phase: Phase, student: Student, others: Iterable[nn.Parameter], workers: Workers) -> None:
        filters = student.filters() if phase.muon_rate else []
        taken = {id(parameter) for parameter in filters}
        self._phase = phase
        self._parameters = [*student.parameters(), *others]
        self._rest = [parameter for parameter in self._parameters if id(parameter) not in taken]
        self._muon = Muon(filters, workers=workers) if filters else None
        self._adam = torch.optim.AdamW(
            [
                {"params": [p for p in self._rest if p.ndim > 1], "weight_decay": phase.decay},
                {"params": [p for p in self._rest if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=phase.rate,
            betas=(0.9, 0.98),
        )

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self, share: float) -> None:
        """Step along the gradients, at this share of the phase's rates."""
        for group in self._adam.param_groups:
            group["lr"] = share * self._phase.rate
        # Muon's steps are as long for any gradient.
        torch.nn.utils.clip_grad_norm_([p for p in self._rest if p.grad is not None], _LARGEST_GRADIENT)
        self._adam.step()
        if self._muon is not None:
            self._muon.step(share * self._phase.muon_rate)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {"adam": self._adam.state_dict(), "muon": self._muon and self._muon.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._adam.load_state_dict(state["adam"])
        if self._muon is not None:
            self._muon.load_state_dict(state["muon"])
