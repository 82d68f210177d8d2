"""Checkpoints, the folder that only one training writes to, and signals that stop it."""

from __future__ import annotations

import io
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from samptag import __version__
from samptag.errors import OutputError, UsageError, WeightsError
from samptag.files import atomic_write, locked, os_errors_as
from samptag.ranks import Ranks
from samptag.training.log import CURVES, METRICS

SCHEMA = "samptag.checkpoint/2"
LAST, BEST, MODEL = "last.pt", "best.pt", "model.safetensors"
LOCK = ".training.lock"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state`, which ``torch.load(weights_only=True)`` must be able to read, to `path` atomically."""
    content = io.BytesIO()
    torch.save({"schema": SCHEMA, "version": __version__, **state}, content)
    with os_errors_as(OutputError, f"cannot write the checkpoint {path}"), atomic_write(path) as file:
        file.write(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote to `path`, on the CPU; a WeightsError where it is missing or broken."""
    if not path.exists():
        raise WeightsError(f"{path}: no checkpoint to resume from; start without --resume")
    with os_errors_as(WeightsError, f"cannot read the checkpoint {path}"):
        content = path.read_bytes()
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its readers meet: zip, pickle and runtime errors
        hint = f"; {BEST} beside it can take its place" if path.name == LAST else ""
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} is not a complete checkpoint ({reason}){hint}") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise WeightsError(f"{path} is not a checkpoint of samptag {__version__}")
    return state


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
    """Set the generators to what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


@contextmanager
def writing_alone(folder: Path, *, resume: bool) -> Iterator[None]:
    """Keep other trainings from writing to `folder`, which is made for a new training and rid of leftovers.

    Of the processes that torchrun started, the first holds it for all.
    """
    if not Ranks.from_environment().leads or (resume and not folder.is_dir()):
        yield  # without a folder there is nothing to resume; `load_checkpoint` will say so
        return
    with ExitStack() as stack:
        with os_errors_as(OutputError, f"cannot write to the folder {folder}"):
            try:
                stack.enter_context(locked(folder / LOCK, waiting_for=None))
            except BlockingIOError:
                advice = "wait for it or stop it, or choose another --out"
                raise UsageError(f"another training is writing to {folder}: {advice}") from None
            # What a killed process was about to write; the files themselves are the old ones, and complete.
            for name in (LAST, BEST, MODEL, METRICS, CURVES):
                for leftover in folder.glob(f".{name}.*.tmp"):
                    leftover.unlink(missing_ok=True)
        yield


class StopSignals(ExitStack):
    """Inside the with block, notes the first SIGINT or SIGTERM; a second one acts as usual."""

    received = 0  # its number

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.close()  # puts the former handlers back
