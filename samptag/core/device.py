"""Where the network runs: a device by name, and the precision it computes in."""

import logging

import torch

from samptag.errors import DeviceError

__all__ = ["available_devices", "inference_dtype", "select_device"]

logger = logging.getLogger("samptag")


def available_devices() -> tuple[str, ...]:
    """The names `select_device` takes on this machine, ``cpu`` first, such as ``("cpu", "cuda:0", "cuda:1")``."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return tuple(names)


def select_device(name: str) -> torch.device:
    """The device called `name`.

    Parameters
    ----------
    name : str
        ``auto`` (CUDA, else MPS, else the CPU; never fails), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    DeviceError
        Where the name is unknown, or no such device is there or can be used.
    """
    there = available_devices()
    if name == "auto":
        return _best_of(there)
    full = "cuda:0" if name == "cuda" else name
    if full not in there:
        raise DeviceError(f"no device {name!r}: this machine has {', '.join(there)} (or say auto)")
    device = torch.device(full)
    problem = _problem_with(device)
    if problem is not None:
        raise DeviceError(f"device {name!r} is there but cannot be used: {problem}")
    return device


def inference_dtype(device: torch.device) -> torch.dtype:
    """The precision that keeps scores within 1e-3 of float32 at the device's best speed.

    float16 on CUDA: its 11 significant bits keep the scores, bfloat16's 8 do not. float32 elsewhere: on the CPU
    bfloat16 measured slower than float32 even with AVX-512, and MPS gains little.
    """
    return torch.float16 if device.type == "cuda" else torch.float32


def _best_of(there: tuple[str, ...]) -> torch.device:
    for name in sorted(there, key=lambda name: ("cuda" not in name, "mps" not in name)):
        device = torch.device(name)
        problem = _problem_with(device)
        if problem is None:
            return device
        logger.warning("device %s is there but cannot be used (%s)", name, problem)
    return torch.device("cpu")


def _problem_with(device: torch.device) -> str | None:
    """What keeps `device` from computing, in one line, or None."""
    if device.type == "cpu":
        return None
    try:
        torch.ones(1, device=device).add_(1)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return None
