"""What a benchmark ran on, in words that name no host."""

import platform
from importlib import metadata
from pathlib import Path

from samptag.core.device import available_cores


def vector_class() -> str:
    """The widest vector instructions of the CPU, as far as the system tells."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return platform.machine()
    for flag, name in (("amx_tile", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")):
        if flag in flags:
            return name
    return platform.machine()


def describe() -> dict[str, str]:
    """Cores, instruction class, system and versions; the header of every benchmark's output."""
    import soundfile
    import torch

    described = {
        "cores": str(available_cores()),
        "vectors": vector_class(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name(0)
    for package in ("onnxruntime", "openvino"):
        try:
            described[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return described


def header() -> str:
    """`describe` on one line."""
    return " · ".join(f"{key} {value}" for key, value in describe().items())
