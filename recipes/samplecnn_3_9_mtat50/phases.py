"""What the phases of the training are."""

from dataclasses import dataclass

__all__ = ["PHASES", "Phase"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one phase does.

    Attributes
    ----------
    name : str
    after : str
        The phase whose average it starts from; "" for a random net.
    crops : bool
        Learn spectrograms of crops, instead of the teacher's scores of segments.
    frozen : int
        See `Student`.
    rate : float
        Highest learning rate.
    batch, micro_batches : int
        Segments a micro-batch, micro-batches a step.
    spectral : float
        Weight of the spectrograms beside the scores.
    rendered : bool
        Whether rendered MIDI is heard too.
    """

    name: str
    after: str
    crops: bool = False
    frozen: int
    rate: float
    batch: int = 32
    micro_batches: int = 2
    spectral: float = 0.1
    rendered: bool = False


PHASES = (
    Phase(name="m", after="", crops=True, frozen=0, rate=3e-3, batch=64, micro_batches=1),
    Phase(name="b", after="m", frozen=3, rate=1.5e-3),
    Phase(name="c", after="b", frozen=2, rate=7e-4, spectral=0.05, rendered=True),
)
