"""The sample-level deep CNN and its relatives: waveforms in, one logit a tag out.

Lee, Park, Kim, Nam: Sample-level Deep Convolutional Neural Networks for Music Auto-tagging Using Raw Waveforms,
SMC 2017. The blocks of Kim, Lee, Nam (ICASSP 2018) and of Won, Ferraro, Bogdanov, Serra (SMC 2020) fit into the same
frame: a front end that makes m^n frames of a segment, n modules that each pool m frames into one, a last layer over
the single frame left, and a linear classifier.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.baselines import MelFrontEnd
from samptag.core.blocks import (
    KIM_BLOCK_DROPOUT,
    KIM_EXCITATION_RATIO,
    Convolution,
    FrameConvolution,
    PlainBlock,
    ResidualBlock,
)
from samptag.core.config import ModelConfig, config_from_name

__all__ = ["ModelConfig", "SampleCNN", "config_from_name"]


class SampleCNN(nn.Module):
    """A network of the m^n family; (batch, input_length) waveforms -> (batch, n_tags) logits.

    Freshly made it holds random weights: he_uniform convolutions, glorot_uniform linear layers, zero biases.

    Parameters
    ----------
    config : ModelConfig
        What to build.

    Attributes
    ----------
    config : ModelConfig
        As given.
    front : nn.Module
        (batch, input_length) -> (batch, 128, 1, m**n).
    body : nn.ModuleList
        The n modules; each divides the time by m.
    top : nn.Module or None
        The last layer, with a kernel of 1; None with multi-level features.
    hidden : nn.Module or None
        The linear layer before the classifier that multi-level features and Won 2020's residual net have.
    head : nn.Linear
        The classifier.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.front: nn.Module = _front(config)
        widths = (config.front_channels, *config.channels)
        self.body = nn.ModuleList(
            _block(n_in, n_out, config.m, config=config, pool_length=config.m) for n_in, n_out in pairwise(widths)
        )
        self.top = None if config.multi_level else _top(config)
        has_hidden = config.multi_level or config.block == "won-rese"
        self.hidden = HiddenLayer(config.embedding_size, config=config) if has_hidden else None
        self.dropout = nn.Dropout(config.dropout)
        self.head = _linear(config.embedding_size, config.n_tags)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The logits of every tag.

        Parameters
        ----------
        waveforms : Tensor
            Segments of samples in [-1, 1], float32, shape (batch, input_length).

        Returns
        -------
        Tensor
            Shape (batch, n_tags); their sigmoid is the score.

        Raises
        ------
        ValueError
            Where the segments are of another length.
        """
        return self.classify(self.embed(waveforms))

    def embed(self, waveforms: Tensor) -> Tensor:
        """The vectors that are classified, (batch, embedding_size), from segments, (batch, input_length)."""
        if waveforms.ndim != 2 or waveforms.shape[1] != self.config.input_length:
            raise ValueError(
                f"{self.config.name} takes waveforms of shape (batch, {self.config.input_length}), "
                f"not {tuple(waveforms.shape)}"
            )
        x = self.front(waveforms)
        levels = []
        for block in self.body:
            x = block(x)
            levels.append(x)
        if self.top is None:
            x = torch.cat([level.amax(dim=(2, 3)) for level in levels[-3:]], dim=1)
        else:
            x = self.top(x).flatten(1)
        embedding: Tensor = x if self.hidden is None else self.hidden(x)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """The logits, (batch, n_tags), of embeddings, (batch, embedding_size)."""
        logits: Tensor = self.head(self.dropout(embedding))
        return logits


class HiddenLayer(nn.Module):
    """Linear layer, batch normalisation, ReLU; (batch, size) -> (batch, size)."""

    def __init__(self, size: int, *, config: ModelConfig) -> None:
        super().__init__()
        self.linear = _linear(size, size)
        self.bn = nn.BatchNorm1d(size, eps=config.bn_epsilon, momentum=config.bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """The hidden vectors."""
        return F.relu(self.bn(self.linear(x)))


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer as Keras draws it: glorot_uniform weights, zero biases."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _front(config: ModelConfig) -> nn.Module:
    if config.front_end == "mel":
        return MelFrontEnd(config)

    def frames() -> FrameConvolution:
        return FrameConvolution(
            config.front_channels, config.first_filter, stride=config.first_stride, pads=config.front_pads
        )

    n_out = config.front_channels
    if config.block != "won-rese":
        return PlainBlock(frames(), n_out, config=config)
    return ResidualBlock(
        frames(),
        Convolution(n_out, n_out, config.first_filter, pads=config.same_pads(config.first_filter)),
        n_out,
        config=config,
        shortcut=frames(),
        pool_length=1,
        excitation_ratio=1,
        dropout=0.0,
    )


def _block(n_in: int, n_out: int, kernel: int, *, config: ModelConfig, pool_length: int) -> nn.Module:
    def convolution(n_in: int, kernel: int) -> Convolution:
        return Convolution(n_in, n_out, kernel, pads=config.same_pads(kernel))

    first = convolution(n_in, kernel)
    if config.block in ("plain", "se"):
        return PlainBlock(first, n_out, config=config, pool_length=pool_length, excite=config.block == "se")
    won = config.block == "won-rese"
    kim_ratio = KIM_EXCITATION_RATIO if config.block == "rese" else None
    # Won's shortcut has the block's own kernel, Kim's has kernel 1.
    shortcut = convolution(n_in, kernel if won else 1) if n_in != n_out else None
    return ResidualBlock(
        first,
        convolution(n_out, kernel),
        n_out,
        config=config,
        shortcut=shortcut,
        pool_length=pool_length,
        excitation_ratio=1 if won else kim_ratio,
        dropout=0.0 if won else KIM_BLOCK_DROPOUT,
    )


def _top(config: ModelConfig) -> nn.Module:
    n_out = config.channels[-1]
    if config.block == "won-rese":
        return _block(n_out, n_out, 1, config=config, pool_length=1)
    return PlainBlock(Convolution(n_out, n_out, 1, pads=(0, 0)), n_out, config=config)
