"""Steps of equal size in all directions of a weight matrix.

Keller Jordan: Muon, an optimizer for hidden layers in neural networks, 2024. The gradient of a matrix has few large
singular values; a step along it, or along Adam's, hardly moves the other directions. Muon steps along the nearest
(semi-)orthogonal matrix instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samptag.training import Workers

__all__ = ["Muon", "orthogonalised"]

# Published with Muon: five iterations of this quintic bring singular values from about 0.01 on to between 0.7 and 1.2.
_ITERATIONS = 5
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
_LEAST_NORM = 1e-7


class Muon:
    """Muon for weights whose scale means nothing, because batch normalisation follows them.

    Their norms stay as they are when this is made: growing weights would make a step of the same rate smaller.

    Parameters
    ----------
    weights : sequence of nn.Parameter
        Of convolutions, (out, in, kernel).
    workers : Workers
        Share out the weights.
    momentum : float
        Nesterov's.
    """

    def __init__(self, weights: Sequence[nn.Parameter], *, workers: Workers, momentum: float = 0.95) -> None:
        self._weights, self._workers, self._momentum = weights, workers, momentum
        self._norms = [weight.detach().norm() for weight in weights]
        self._means = [torch.zeros_like(weight, requires_grad=False) for weight in weights]

    def step(self, rate: float) -> None:
        """Move every weight by `rate` times its norm."""
        n = min(self._workers.n_threads, len(self._weights))
        self._workers.run(lambda part: self._step_some(range(part, len(self._weights), n), rate), n)

    def _step_some(self, numbers: range, rate: float) -> None:
        for i in numbers:
            weight, norm, mean = self._weights[i], self._norms[i], self._means[i]
            if weight.grad is None:
                raise RuntimeError("a weight has no gradient")
            mean.lerp_(weight.grad, 1 - self._momentum)
            # Rows are filters; swapping or reordering rows and columns would only swap or reorder the result's.
            step = orthogonalised(weight.grad.lerp(mean, self._momentum).flatten(1)).view_as(weight)
            weight.sub_(step * (rate * norm / step.norm()))
            weight.mul_(norm / weight.norm())

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {"norms": self._norms, "means": self._means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._norms, self._means = list(state["norms"]), list(state["means"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly the nearest (semi-)orthogonal matrix, (rows, columns): the same singular vectors, values around 1."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.t()
    x = x / (x.norm() + _LEAST_NORM)
    for _ in range(_ITERATIONS):
        square = x @ x.t()
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_CUBIC, alpha=_QUINTIC), x, beta=_LINEAR)
    return x if wide else x.t()
