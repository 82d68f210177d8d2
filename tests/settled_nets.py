"""Networks for the tests of core: random weights whose batch normalisations have met real music."""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from samptag.core.model import ModelConfig, SampleCNN


def mono_segments(samples: np.ndarray, length: int, count: int) -> np.ndarray:
    """`count` segments of `length` samples, float32 (count, length), spread over music (frames, channels)."""
    mono = samples.mean(axis=1, dtype=np.float32)
    starts = np.linspace(0, len(mono) - length, count).astype(int)
    return np.stack([mono[start : start + length] for start in starts])


def settled_net(config: ModelConfig, segments: np.ndarray, *, seed: int = 0) -> SampleCNN:
    """A network in evaluation mode whose running statistics are those of `segments`, as if it were trained."""
    torch.manual_seed(seed)
    model = SampleCNN(config)
    norms = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(torch.from_numpy(segments))
    for norm, momentum in norms.items():
        norm.momentum = momentum
    for name, statistic in model.named_buffers():
        if name.endswith("running_var"):
            # A few segments leave some channels of the last layers almost no variance, and dividing by it would magnify
            # rounding as no trained network does.
            statistic.lerp_(statistic.mean(), 0.5)
    return model.eval()


def plain_scores(model: SampleCNN, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and embeddings of segments, (k, input_length), by the module itself: what every engine is held to."""
    with torch.inference_mode():
        embeddings = model.embed(torch.from_numpy(segments))
        return torch.sigmoid(model.classify(embeddings)).numpy(), embeddings.numpy()
