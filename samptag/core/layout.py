"""The layers of a model as data: their names in a weights file, and their shapes; no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from typing import TypeAlias

from samptag.core.config import ModelConfig

# The excitation's hidden layer is 16 times as wide as its input in Kim 2018, and as wide as it in Won 2020.
KIM_EXCITATION_RATIO = 16
WON_EXCITATION_RATIO = 1
# Kim 2018: dropout between the two convolutions of a residual block.
KIM_BLOCK_DROPOUT = 0.2


@dataclass(frozen=True)
class Convolution:
    """A convolution over time, followed by batch normalisation."""

    name: str
    n_in: int  # channels
    n_out: int
    kernel: int  # in frames; in samples for the front end
    stride: int
    pads: tuple[int, int]  # zeros before and after its input
    of_waveform: bool = False  # its input is the samples, not another layer's frames

    @property
    def norm(self) -> str:
        """The name of its batch normalisation."""
        return self.name.replace("conv", "bn")


@dataclass(frozen=True)
class Dense:
    """A linear layer; `norm` is the name of the batch normalisation after it, if there is one."""

    name: str
    norm: str | None
    n_in: int
    n_out: int


# Squeeze and excitation: two linear layers from the channels' means to their weights.
Excitation: TypeAlias = tuple[Dense, Dense]


@dataclass(frozen=True)
class Plain:
    """Convolution, ReLU, max-pooling over `pool` frames, then the excitation if there is one."""

    convolution: Convolution
    pool: int
    excitation: Excitation | None


@dataclass(frozen=True)
class Residual:
    """Two convolutions and the excitation, added to the shortcut, then ReLU and max-pooling over `pool` frames."""

    first: Convolution
    second: Convolution
    excitation: Excitation | None
    shortcut: Convolution | None  # None: the input itself
    pool: int
    dropout: float  # share dropped between the convolutions in training


Block: TypeAlias = Plain | Residual


@dataclass(frozen=True)
class Layout:
    """A whole model: the front end, n body modules, the layers over the frame they leave, and the classifier."""

    front: Block | None  # None: log-mel bands, which have no weights
    body: tuple[Block, ...]
    top: Block | None  # of kernel 1; None with multi-level features
    hidden: Dense | None
    head: Dense

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by its name; those that end in ``num_batches_tracked`` are integers."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in layers(self):
            kernel = (layer.kernel,) if isinstance(layer, Convolution) else ()
            shapes |= {f"{layer.name}.weight": (layer.n_out, layer.n_in, *kernel), f"{layer.name}.bias": (layer.n_out,)}
            if layer.norm is not None:
                kept = ("weight", "bias", "running_mean", "running_var")
                shapes |= {f"{layer.norm}.{name}": (layer.n_out,) for name in kept}
                shapes[f"{layer.norm}.num_batches_tracked"] = ()
        return shapes


def layout(config: ModelConfig) -> Layout:
    """The layers of the model that `config` describes."""
    widths = enumerate(pairwise((config.front_channels, *config.channels)))
    size = config.embedding_size
    has_hidden = config.multi_level or config.block == "won-rese"
    return Layout(
        front=_front(config),
        body=tuple(_block(f"body.{i}", n_in, n_out, config.m, config) for i, (n_in, n_out) in widths),
        top=None if config.multi_level else _top(config),
        hidden=Dense("hidden.linear", "hidden.bn", size, size) if has_hidden else None,
        head=Dense("head", None, size, config.n_tags),
    )


def _front(config: ModelConfig) -> Block | None:
    if config.front_end == "mel":
        return None
    n_out = config.front_channels

    def frames(name: str) -> Convolution:
        geometry = (config.first_filter, config.first_stride, config.front_pads)
        return Convolution(name, 1, n_out, *geometry, of_waveform=True)

    if config.block != "won-rese":
        return Plain(frames("front.conv"), 1, None)
    second = _same("front.conv2", n_out, n_out, config.first_filter, config)
    excitation = _excitation("front.se", n_out, WON_EXCITATION_RATIO)
    return Residual(frames("front.conv1"), second, excitation, frames("front.shortcut.conv"), 1, 0.0)


def _top(config: ModelConfig) -> Block:
    n_out = config.channels[-1]
    if config.block == "won-rese":
        return _block("top", n_out, n_out, 1, config)
    return Plain(_same("top.conv", n_out, n_out, 1, config), 1, None)


def _block(name: str, n_in: int, n_out: int, m: int, config: ModelConfig) -> Block:
    """A block of the config's kind, with `m` as its kernel and its pool."""
    won = config.block == "won-rese"
    excitation = _excitation(f"{name}.se", n_out, WON_EXCITATION_RATIO if won else KIM_EXCITATION_RATIO)
    if config.block in ("plain", "se"):
        return Plain(_same(f"{name}.conv", n_in, n_out, m, config), m, excitation if config.block == "se" else None)
    # Won's shortcut has the block's own kernel, Kim's has kernel 1.
    shortcut = _same(f"{name}.shortcut.conv", n_in, n_out, m if won else 1, config)
    return Residual(
        _same(f"{name}.conv1", n_in, n_out, m, config),
        _same(f"{name}.conv2", n_out, n_out, m, config),
        excitation if config.block != "res" else None,
        shortcut if n_in != n_out else None,
        m,
        0.0 if won else KIM_BLOCK_DROPOUT,
    )


def _same(name: str, n_in: int, n_out: int, kernel: int, config: ModelConfig) -> Convolution:
    return Convolution(name, n_in, n_out, kernel, 1, config.same_pads(kernel))


def _excitation(name: str, channels: int, ratio: int) -> Excitation:
    wide = channels * ratio
    return Dense(f"{name}.dense1", None, channels, wide), Dense(f"{name}.dense2", None, wide, channels)


def layers(part: object) -> Iterator[Convolution | Dense]:
    """The layers that have weights in a `Layout` or a part of it."""
    if isinstance(part, Convolution | Dense):
        yield part
    elif isinstance(part, tuple) or is_dataclass(part):
        for each in part if isinstance(part, tuple) else vars(part).values():
            yield from layers(each)
