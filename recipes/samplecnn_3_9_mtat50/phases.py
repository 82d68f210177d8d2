"""What the phases of the training are."""

from dataclasses import dataclass
from functools import partial

__all__ = ["PHASES", "Phase"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one phase does.

    Attributes
    ----------
    name : str
    after : str
        The phase whose average it starts from; "" for a random net.
    minutes : float
        How long it lasts unless the command says otherwise, getting ready not counted.
    crops : bool
        Learn spectrograms of crops, instead of the teacher's scores of segments.
    frozen : int
        See `Student`.
    rate : float
        Highest learning rate of AdamW.
    decay : float
        AdamW's weight decay.
    muon_rate : float
        Highest rate of Muon, which then steps the filters; 0: AdamW steps all.
    warm_up : float
        Share of the phase over which the rates climb.
    batch, micro_batches : int
        Segments a micro-batch, micro-batches a step.
    logits, scores : float
        Weights of the squared errors of the teacher's logits and scores beside the cross-entropy.
    spectral, embedded : float
        Weights of the spectrograms and of the teacher's embeddings beside those.
    jitter, speed, mixed : float
        See `Windows.draw`.
    slots : int
        Segments kept for replay, at least a step's; 0: every segment is heard anew.
    fresh : int
        Of each micro-batch, the kept segments that are replaced before it; at least 1 where there are slots.
    rendered : bool
        Whether rendered MIDI is heard too.
    mixtures : float
        Share of segments that are mixtures labelled by the teacher.
    elders : tuple of str
        Earlier phases whose students teach too, from the same frozen layers; for phases with slots.
    elders_share : float
        Their part of what is learned, in [0, 1]; the rest is the teacher's.
    average : float
        Decay of the moving average of the weights, a step.
    """

    name: str
    after: str
    minutes: float
    crops: bool = False
    frozen: int
    rate: float
    decay: float = 1e-2
    muon_rate: float = 0.0
    warm_up: float = 0.05
    batch: int = 32
    micro_batches: int = 2
    logits: float = 0.25
    scores: float = 0.0
    spectral: float = 0.0
    embedded: float = 0.0
    jitter: float = 0.7
    speed: float = 0.05
    mixed: float = 0.0
    slots: int = 0
    fresh: int = 0
    rendered: bool = False
    mixtures: float = 0.0
    elders: tuple[str, ...] = ()
    elders_share: float = 0.0
    average: float = 0.998


_with_embeddings = partial(Phase, decay=0.0, warm_up=0.025, embedded=0.15, speed=0.04, rendered=True)
_with_mixtures = partial(_with_embeddings, rate=8e-4, muon_rate=0.015, jitter=0.3, fresh=8, average=0.999)
_of_scores = partial(_with_mixtures, frozen=3, slots=20_000, logits=0.15, scores=0.25)
_refining = partial(_of_scores, minutes=36, jitter=0.35, mixed=0.3, mixtures=0.7)

PHASES = (
    Phase(name="m", after="", minutes=20, crops=True, frozen=0, rate=3e-3, batch=64, micro_batches=1),
    Phase(name="b", after="m", minutes=46, frozen=3, rate=1.5e-3, spectral=0.1),
    Phase(name="c", after="b", minutes=34, frozen=2, rate=7e-4, spectral=0.05, rendered=True),
    _with_embeddings(
        name="d",
        after="c",
        minutes=30,
        frozen=3,
        rate=1e-3,
        muon_rate=0.02,
        jitter=0.25,
        slots=26_000,
        fresh=4,
    ),
    _with_embeddings(
        name="e",
        after="d",
        minutes=24,
        frozen=2,
        rate=7e-4,
        muon_rate=0.01,
        batch=24,
        jitter=0.4,
        mixed=0.35,
    ),
    _with_mixtures(name="f", after="e", minutes=60, frozen=2, mixed=0.2, slots=16_000, mixtures=0.5),
    _with_mixtures(name="g", after="f", minutes=60, frozen=3, mixed=0.2, slots=20_000, mixtures=0.55),
    _of_scores(name="h", after="g", minutes=42, mixed=0.25, mixtures=0.55),
    _refining(name="i", after="h", rate=3e-4, muon_rate=0.006),
    _refining(name="j", after="i", rate=5e-4, muon_rate=0.01, elders=("g", "h", "i"), elders_share=0.6),
)
