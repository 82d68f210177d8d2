"""A model for other runtimes, with its card, in one ONNX file (extra `onnx`)."""

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
from samptag.errors import UsageError


def write_onnx(out: BinaryIO, loaded: LoadedModel) -> None:
    """Write a model in ONNX: one input, two outputs, any number of segments at once.

    The input is ``waveforms`` (batch, input_length) float32, mono samples in [-1, 1] at the card's sample rate; the
    outputs are ``scores`` (batch, n_tags), in [0, 1], and ``embedding`` (batch, embedding_size). The metadata are
    ``tags`` (a JSON array, in the order of the scores), ``sample_rate`` (Hz), ``input_length`` (samples), ``licence``,
    and the whole ``card`` (a JSON object). An older PyTorch than 2.6 is a UsageError.
    """
    if torch.__version__ < "2.6":
        raise UsageError(f"export to ONNX needs PyTorch 2.6 or newer, and this is {torch.__version__}")
    card = loaded.card
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            _ScoresAndEmbedding(loaded.model).eval(),
            # Two, because the exporter would take a batch of one for a constant.
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
        del node.metadata_props[:]  # the source files of this machine that the node comes from
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    out.write(model.SerializeToString())


class _ScoresAndEmbedding(nn.Module):
    """What is exported: scores, so with the sigmoid, and embeddings from the same pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.model.embed(waveforms)
        return torch.sigmoid(self.model.classify(embedding)), embedding


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide what PyTorch says for its developers during a with block, such as that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
