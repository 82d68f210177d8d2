"""Compare published networks with figures of their originals: python docs/same_scores.py FIGURES.npz NAME=KEY ...

FIGURES.npz holds ``signals`` (signals, samples), int16 at 16 kHz; ``starts/LENGTH`` (segments, 2), the signal and the
first sample of each segment of LENGTH samples; and ``logits/KEY`` (segments, tags), what the original of NAME gave for
the segments of its length. The exit code is 1 when a score differs by more than 1e-5.
"""

import sys

import numpy as np
import torch

import samptag


def compare(figures: str, pairs: list[str]) -> bool:
    """Print the largest differences of each network; whether all scores agree."""
    agree = True
    with np.load(figures) as known:
        signals = known["signals"].astype(np.float32) / 32_768
        print("network\tsegments\tlogit\tscore")
        for name, key in (pair.split("=") for pair in pairs):
            model = samptag.load_model(name).model
            length = model.config.input_length
            segments = np.stack([signals[i, start : start + length] for i, start in known[f"starts/{length}"]])
            expected = torch.from_numpy(known[f"logits/{key}"])
            with torch.inference_mode():
                found = model(torch.from_numpy(segments))
            logit = float((found - expected).abs().max())
            score = float((found.sigmoid() - expected.sigmoid()).abs().max())
            print(f"{name}\t{len(segments)}\t{logit:.1e}\t{score:.1e}")
            agree &= score <= 1e-5
    return agree


if __name__ == "__main__":
    sys.exit(not compare(sys.argv[1], sys.argv[2:]))
