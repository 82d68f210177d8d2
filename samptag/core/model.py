"""The sample-level deep CNN and its relatives: waveforms in, one logit a tag out.

Lee, Park, Kim, Nam: Sample-level Deep Convolutional Neural Networks for Music Auto-tagging Using Raw Waveforms,
SMC 2017. The blocks of Kim, Lee, Nam (ICASSP 2018) and of Won, Ferraro, Bogdanov, Serra (SMC 2020) fit into the same
frame: a front end that makes m^n frames of a segment, n modules that each pool m frames into one, a last layer over
the single frame left, and a linear classifier.
"""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.blocks import MelFrontEnd, PlainBlock, ResidualBlock, check_segments
from samptag.core.config import Config, ModelConfig, SpectrogramConfig, config_from_name
from samptag.core.layout import Block, Mel, Plain, layout
from samptag.core.spectrogram_model import SpectrogramModel

__all__ = ["Model", "ModelConfig", "SampleCNN", "build_model", "config_from_name"]


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
        layers = layout(config)
        self.front = _module(layers.front, config)
        self.body = nn.ModuleList(_module(block, config) for block in layers.body)
        self.top = None if layers.top is None else _module(layers.top, config)
        self.hidden = None if layers.hidden is None else HiddenLayer(config.embedding_size, config=config)
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
        check_segments(waveforms, self.config)
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


Model: TypeAlias = SampleCNN | SpectrogramModel
"""A network that samptag can run."""


def build_model(config: Config) -> Model:
    """The network that `config` describes, with random weights."""
    return SpectrogramModel(config) if isinstance(config, SpectrogramConfig) else SampleCNN(config)


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


def _module(block: Block | Mel, config: ModelConfig) -> nn.Module:
    if isinstance(block, Mel):
        return MelFrontEnd(config)
    return PlainBlock(block, config=config) if isinstance(block, Plain) else ResidualBlock(block, config=config)
