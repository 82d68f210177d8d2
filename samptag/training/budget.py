"""How long a training may go on, and what it may cost."""

from dataclasses import dataclass

__all__ = ["Budget"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a training; what is reached first ends it.

    Attributes
    ----------
    epochs, steps : int or None
    seconds : float or None
        Wall-clock time from the first step on, validation and checkpoints included, over all runs of a resumed
        training.
    """

    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """The steps that epochs and steps allow; None for no such limit."""
        limits = [self.steps, None if self.epochs is None else self.epochs * steps_per_epoch]
        return min((limit for limit in limits if limit is not None), default=None)

    def spent(self, *, step: int, seconds: float, steps_per_epoch: int) -> float | None:
        """The share that is spent, 1 and more when it is used up; None where nothing limits the training."""
        total = self.total_steps(steps_per_epoch)
        shares = [] if total is None else [step / total]
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return max(shares, default=None)
