"""Where a model runs: the cores this process may use, and a device by name, found without torch if possible."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from samptag.errors import DeviceError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# What a GPU costs before its first segment: importing torch takes 1.4 s (measured, CPU build), starting CUDA and
# moving the weights about as much again (estimated, for want of a GPU).
GPU_START_SECONDS = 3.0
# Seconds of music that one core tags per second with 3^9 (225 on two cores, docs/benchmarks.md).
SECONDS_PER_CORE_SECOND = 100.0

# Files that show a driver on Linux: NVIDIA's, or AMD's, whose devices torch calls cuda, too.
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# Where a container finds its control group.
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """How many cores this process may use: on Linux as its affinity and control group allow, elsewhere all."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _granted_cores() or sys.maxsize)
    return os.cpu_count() or 1


def _granted_cores() -> int | None:
    """The limit of cores that a container sets, as by ``docker run --cpus``, rounded up; None if it sets none."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        with suppress(OSError, ValueError):
            quota, period = map(int, " ".join((_CONTROL_GROUP / name).read_text() for name in names).split())
            return -(-quota // period) if quota > 0 and period > 0 else None
    return None


def gpu_possible() -> bool:
    """Whether torch, which is not imported, might find a GPU: it is built for one, and there may be a driver."""
    if (spec := find_spec("torch")) is None:
        return False
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if sys.platform == "linux" and not any(map(os.path.exists, _DRIVER_FILES)):
        return False
    try:  # this file says whether torch was built with CUDA or ROCm
        text = Path(spec.origin or "").with_name("version.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return True
    found = dict(re.findall(r"^(cuda|hip)\b[^=]*=\s*(.+?)\s*$", text, re.MULTILINE))
    return found.get("cuda") != "None" or found.get("hip", "None") != "None"


def worth_a_gpu(seconds: float | None) -> bool:
    """Whether so many seconds of music keep the CPU busy longer than a GPU takes to start; None: unknown, so True."""
    return seconds is None or seconds / (SECONDS_PER_CORE_SECOND * available_cores()) > GPU_START_SECONDS


def choose_device(name: str, *, seconds: float | None = None) -> str:
    """The device for tagging that `name` stands for: ``cpu``, ``cuda:N`` or ``mps``; errors as in `select_device`.

    torch is imported only for a GPU by name, or for ``auto`` if a GPU is possible and worth it for `seconds` of music.
    """
    if name == "cpu" or (name == "auto" and not (gpu_possible() and worth_a_gpu(seconds))):
        return "cpu"
    return str(select_device(name))


def available_devices() -> tuple[str, ...]:
    """The devices of this machine, ``cpu`` first, such as ``("cpu", "cuda:0")``; see `gpu_possible`."""
    return _devices_of_torch() if gpu_possible() else ("cpu",)


def _devices_of_torch() -> tuple[str, ...]:
    import torch

    names = ["cpu"]
    # torch warns of a driver that is too old, with a source line.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            names.append("mps")
    for warning in caught:
        logger.warning("%s", " ".join(str(warning.message).split()))
    return tuple(names)


def select_device(name: str) -> torch.device:
    """The torch device `name`; ``auto`` is CUDA, else MPS, else the CPU. A DeviceError if a named one is unusable."""
    import torch

    # Not `available_devices`: torch is imported now, and knows better than the driver's files (Jetson has others).
    there = _devices_of_torch()
    if name == "auto":
        for best in (*there[1:], "cpu"):
            if (problem := _problem_with(torch.device(best))) is None:
                return torch.device(best)
            logger.warning("device %s exists but cannot be used (%s)", best, problem)
    full = "cuda:0" if name == "cuda" else name
    if full not in there:
        raise DeviceError(f"no device {name!r}: this machine has {', '.join(there)} (or use auto)")
    if (problem := _problem_with(torch.device(full))) is not None:
        raise DeviceError(f"device {name!r} exists but cannot be used: {problem}")
    return torch.device(full)


def _problem_with(device: torch.device) -> str | None:
    """What keeps `device` from computing, in one line; None if it computes."""
    if device.type == "cpu":
        return None
    import torch

    try:
        torch.ones(1, device=device).add_(1)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return None
