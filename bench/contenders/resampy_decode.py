"""samptag's own pipeline with ``resampy.resample`` in place of its resampler.

``resampy.resample`` keeps no state between blocks, so each file is resampled whole. Usage:
``python -m bench.contenders.resampy_decode FOLDER MODEL``.
"""

import sys

import numpy as np
import resampy

from samptag.audio import decode
from samptag.cli.app import main as samptag_main


class WholeFile:
    """The resampler's interface over one call of ``resampy.resample`` at the end of the file."""

    def __init__(self, orig_rate: int, new_rate: int) -> None:
        self.rates = (orig_rate, new_rate)
        self.blocks: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> np.ndarray:
        """Keep `block`; return no samples yet."""
        self.blocks.append(np.array(block, dtype=np.float32))
        return np.empty(0, np.float32)

    def finish(self) -> np.ndarray:
        """The whole file at the new rate."""
        whole = np.concatenate(self.blocks)
        orig_rate, new_rate = self.rates
        return whole if orig_rate == new_rate else resampy.resample(whole, orig_rate, new_rate, filter="kaiser_best")


def main() -> None:
    """Tag the folder through the patched pipeline."""
    decode.Resampler = WholeFile  # type: ignore[assignment, misc]
    folder, model = sys.argv[1:]
    sys.argv = ["samptag", "tag", folder, "--model", model, "--format", "jsonl", "--no-progress"]
    samptag_main()


if __name__ == "__main__":
    main()
