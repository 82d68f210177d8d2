"""Published networks against scores kept from the day they were compared with their originals; where they are there.

SAMPTAG_TEST_WEIGHTS names a folder with NAME.safetensors, such as the one that 'samptag weights path' shows.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from samptag.core.weights import read_weights

CLIP = Path(__file__).resolve().parents[1] / "media" / "calm-before-the-storm.flac"
SCORES = json.loads(Path(__file__).with_name("published_scores.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_that_were_compared(name: str):
    path = Path(os.environ.get("SAMPTAG_TEST_WEIGHTS", "nowhere")) / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"SAMPTAG_TEST_WEIGHTS has no {name}.safetensors")
    model = read_weights(path).loaded().model
    samples, sample_rate = soundfile.read(CLIP, dtype="float32")
    assert sample_rate == model.config.sample_rate
    # The clip over and over: whole numbers of 16 bits, whatever decodes it.
    segment = np.resize(samples, model.config.input_length)
    with torch.inference_mode():
        found = model(torch.from_numpy(segment)[None]).sigmoid()[0]
    np.testing.assert_allclose(found, SCORES[name], atol=1e-4 if name.startswith("won-") else 1e-5)
