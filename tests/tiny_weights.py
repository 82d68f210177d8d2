"""A small weights file that really loads and runs, for tests of everything around the net: its weights are random."""

from pathlib import Path

import torch

from samptag.core.card import ModelCard
from samptag.core.model import ModelConfig, SampleCNN
from samptag.core.weights import save_model

TINY_NAME = "tiny-test"
TINY_TAGS = ("guitar", "piano", "female vocal", "techno", "quiet", "drums, loud", "strings", "flöte")


def save_tiny_weights(path: Path, *, name: str = TINY_NAME, seed: int = 5) -> Path:
    """A 3^5 network of frames of 27 samples (6 561 in all, 0.3 s) with 8 tags, scores spread over (0, 1).

    Frames so long make it a tenth of the work of a 3^7 network, which hears as much at a time.
    """
    torch.manual_seed(seed)
    config = ModelConfig(m=3, n=5, first_filter=27, first_stride=27, n_tags=len(TINY_TAGS))
    model = SampleCNN(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(2)
    card = ModelCard(
        name=name,
        config=config,
        tags=TINY_TAGS,
        licence="CC0-1.0",
        training_data="none: random weights for tests of the pipeline",
    )
    save_model(path, model, card=card)
    return path
