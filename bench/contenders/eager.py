"""The research script: one file at a time, the whole file in memory, the plain module, batches of 32.

Decoding and resampling are samptag's own, so that what is compared is the order of work and the network, and nothing
that the script's author could have had for the asking. Usage: ``python -m bench.contenders.eager FOLDER MODEL``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from samptag.audio.resample import resample
from samptag.pretrained import load_model

BATCH = 32


def segments(samples: np.ndarray, length: int) -> np.ndarray:
    """Segments end to end, the last one ending at the last sample."""
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    starts = [*range(0, len(samples) - length, length), len(samples) - length]
    return np.stack([samples[start : start + length] for start in starts])


def main() -> None:
    """Tag every file of the folder."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    loaded = load_model(name)
    model, config = loaded.model.eval(), loaded.card.config
    for path in sorted(folder.iterdir()):
        samples, rate = sf.read(path, dtype="float32", always_2d=True)
        cut = segments(resample(samples.mean(axis=1), rate, config.sample_rate), config.input_length)
        with torch.no_grad():
            scores = [torch.sigmoid(model(torch.from_numpy(cut[i : i + BATCH]))) for i in range(0, len(cut), BATCH)]
        mean = torch.cat(scores).mean(dim=0).tolist()
        print(json.dumps({"path": str(path), "scores": dict(zip(loaded.card.tags, mean, strict=True))}))


if __name__ == "__main__":
    main()
