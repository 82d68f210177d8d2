"""A model for other runtimes: the network and what its card says, in one ONNX file (extra `onnx`)."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from samptag.core.model import Model
from samptag.core.weights import LoadedModel


def write_onnx(out: BinaryIO, loaded: LoadedModel) -> None:
    """Write a model in ONNX: one input, two outputs, any number of segments at once.

    ``waveforms`` (batch, input_length) float32, mono samples in [-1, 1] at the card's sample rate, give ``scores``
    (batch, n_tags), in [0, 1], and ``embedding`` (batch, embedding_size). The metadata hold ``tags`` (a JSON array, in
    the order of the scores), ``sample_rate`` (Hz), ``input_length`` (samples), ``licence``, and the whole ``card`` (a
    JSON object).
    """
    card = loaded.card
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            _ScoresAndEmbedding(loaded.model).eval(),
            # Two, because an exporter takes a batch of one for a constant.
            (torch.zeros(2, card.config.input_length),),
            input_names=["waveforms"],
            output_names=["scores", "embedding"],
            dynamic_shapes={"waveforms": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    facts = {
        "tags": json.dumps(card.tags, ensure_ascii=False),
        "sample_rate": str(card.config.sample_rate),
        "input_length": str(card.config.input_length),
        "licence": card.licence,
        "card": json.dumps(card.to_dict(), ensure_ascii=False),
    }
    model.graph.name = card.name
    for node in model.graph.node:
        del node.metadata_props[:]  # where in which file of this machine the node comes from
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    out.write(model.SerializeToString())


class _ScoresAndEmbedding(nn.Module):
    """What goes out: the sigmoid belongs to the scores, and a runtime needs both outputs from one pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.model.embed(waveforms)
        return torch.sigmoid(self.model.classify(embedding)), embedding


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """A block in which PyTorch does not tell users what concerns its developers, torchvision's absence for one."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
