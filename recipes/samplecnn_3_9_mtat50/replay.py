"""What frozen layers give for many segments, kept in a file, so that a step costs only the layers above them."""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samptag.errors import OutputError

__all__ = ["Replay", "remove_replays"]


class Replay:
    """Slots, each with one segment's frames and what elders say of it: a file mapped to memory that may be larger.

    Parameters
    ----------
    file : Path
        Made with empty slots if it is not there.
    slots : int
    shape : tuple of int
        Frames and channels.
    logits : int
        The elders' of a segment; 0: there are none.

    Raises
    ------
    OutputError
        The disk has no room for it.
    """

    def __init__(self, file: Path, *, slots: int, shape: tuple[int, int], logits: int = 0) -> None:
        kind = np.dtype(
            [
                ("version", np.int64),
                ("window", np.int64),
                ("logits", np.float32, (logits,)),
                ("frames", np.float16, shape),
            ]
        )
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            # Running out of it later would kill the process: the file is written by way of memory.
            if shutil.disk_usage(file.parent).free < slots * kind.itemsize:
                raise OutputError(f"{file} needs {slots * kind.itemsize / 1e9:.1f} GB of free disk space")
            np.memmap(file, dtype=kind, mode="w+", shape=(slots,))
        self._slots = np.memmap(file, dtype=kind, mode="r+", shape=(slots,))

    @property
    def versions(self) -> np.ndarray:
        """Which version of its segment each slot holds, int64 (slots,); 0 for none."""
        return np.array(self._slots["version"])

    def put(self, slots: np.ndarray, versions: np.ndarray, windows: np.ndarray, frames: Tensor, logits: Tensor) -> None:
        """Replace what some slots hold.

        Parameters
        ----------
        slots, versions, windows : ndarray of int64, (n,)
            Which slots; the versions and the numbers of the segments they get.
        frames : Tensor
            (n, frames, channels).
        logits : Tensor
            The elders', (n, logits).
        """
        self._slots["version"][slots] = 0  # until it is whole, should the process be killed here
        self._slots["frames"][slots] = frames.half().numpy()
        self._slots["logits"][slots] = logits.numpy()
        self._slots["window"][slots] = windows
        self._slots["version"][slots] = versions

    def take(self, slots: np.ndarray) -> tuple[Tensor, np.ndarray, Tensor]:
        """What some slots hold.

        Returns
        -------
        Tensor
            Frames, float32 (n, frames, channels).
        ndarray of int64, (n,)
            The numbers of their segments.
        Tensor
            The elders' logits, float32 (n, logits).
        """
        frames, logits = (torch.from_numpy(self._slots[part][slots]) for part in ("frames", "logits"))
        return frames.float(), np.array(self._slots["window"][slots]), logits


def remove_replays(folder: Path, phase: str, *, but: str = "") -> None:
    """Remove a phase's files, whatever state they belong to, but the one named `but`."""
    for file in folder.glob(f"{phase}.*.replay"):
        if file.name != but:
            file.unlink()
