"""Checkpoints: the whole state of a training in one file that is either the old one or the new one."""

import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samptag import __version__
from samptag.errors import OutputError, WeightsError
from samptag.files import atomic_write

__all__ = ["BEST", "LAST", "load_checkpoint", "random_state", "restore_random_state", "save_checkpoint"]

SCHEMA = "samptag.checkpoint/1"
LAST, BEST = "last.pt", "best.pt"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path`, atomically.

    Parameters
    ----------
    path : Path
    state : Mapping
        Tensors, numbers, strings, and lists, tuples and dicts of them: what ``torch.load(weights_only=True)`` reads.

    Raises
    ------
    OutputError
        When it cannot be written; what was there before is untouched.
    """
    content = io.BytesIO()
    torch.save({"schema": SCHEMA, "version": __version__, **state}, content)
    try:
        with atomic_write(path) as file:
            file.write(content.getbuffer())
    except OSError as error:
        raise OutputError(f"cannot write the checkpoint {path}: {error.strerror or error}") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote to `path`, on the CPU.

    Raises
    ------
    WeightsError
        When it is missing, damaged, or no checkpoint of this program's.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no checkpoint to resume from; start without --resume") from None
    except OSError as error:
        raise WeightsError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its readers meet: zip, pickle and runtime errors
        hint = f"; {BEST} beside it can take its place" if path.name == LAST else ""
        raise WeightsError(f"{path} is not a whole checkpoint ({_first_line(error)}){hint}") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise WeightsError(f"{path} is no checkpoint of samptag {__version__}'s")
    return state


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def random_state() -> dict[str, Any]:
    """The state of every library's global random generator, as tensors and plain numbers."""
    numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - it is the global one
    kind, keys, position, has_gauss, gauss = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "python": random.getstate(),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators back to where `random_state` was taken."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
