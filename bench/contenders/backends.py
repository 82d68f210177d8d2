"""samptag's own pipeline with its network run by OpenVINO or ONNX Runtime, exported from our own module.

Segments go through one at a time, which was the fastest for both. Usage:
``python -m bench.contenders.backends openvino|onnxruntime FOLDER MODEL``.
"""

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from samptag.cli.app import main as samptag_main
from samptag.core.device import available_cores
from samptag.core.model import SampleCNN
from samptag.core.weights import Weights
from samptag.tagging import tagger

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Scored(nn.Module):
    """Segments to scores and embeddings, as one graph."""

    def __init__(self, model: SampleCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, input_length) -> (batch, n_tags), (batch, embedding_size)."""
        embedding = self.model.embed(segments)
        return torch.sigmoid(self.model.classify(embedding)), embedding


def openvino(model: Scored, example: torch.Tensor) -> Run:
    """The graph compiled by OpenVINO."""
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": available_cores(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    converted = openvino.convert_model(model, example_input=example, input=[list(example.shape)])
    compiled = openvino.compile_model(converted, "CPU", options)

    def run(segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = compiled([segment])
        return found[0].copy(), found[1].copy()

    return run


def onnxruntime(model: Scored, example: torch.Tensor) -> Run:
    """The graph run by ONNX Runtime."""
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(model, (example,), file, input_names=["segments"], output_names=["scores", "embedding"],
                      dynamo=False)  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda segment: tuple(session.run(None, {"segments": segment}))


BACKENDS = {"openvino": openvino, "onnxruntime": onnxruntime}


class BackendPredictor:
    """The predictor's interface over a backend."""

    backend = ""
    batch_size = 24

    def __init__(self, model: Weights, **_: Any) -> None:
        example = torch.zeros(1, model.card.config.input_length)
        with torch.no_grad():
            self.run = BACKENDS[self.backend](Scored(model.to_module()), example)

    def __call__(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and embeddings of (k, input_length) segments."""
        found = [self.run(segments[i : i + 1]) for i in range(len(segments))]
        return np.concatenate([scores for scores, _ in found]), np.concatenate([embedded for _, embedded in found])


def main() -> None:
    """Tag the folder through the patched pipeline."""
    BackendPredictor.backend, folder, model = sys.argv[1:]
    tagger.Predictor = BackendPredictor  # type: ignore[assignment, misc]
    sys.argv = ["samptag", "tag", folder, "--model", model, "--format", "jsonl", "--no-progress"]
    samptag_main()


if __name__ == "__main__":
    main()
