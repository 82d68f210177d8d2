"""`samptag info`: what a bug report needs, and what a person wants to know before a long run."""

from __future__ import annotations

import json as json_format
import os
import platform
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from samptag.pretrained import Store, WeightsEntry


def info(
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines for people.")] = False,
) -> None:
    """Show versions, devices, the cache and the weights that are there.

    $ samptag info --json
    """
    facts = _facts()
    if json:
        sys.stdout.write(json_format.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        return
    for name, value in facts.items():
        if name in ("weights", "default_weights"):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, bool):
            text = "yes" if value else "no"
        if isinstance(value, dict):
            text = ", ".join(f"{key}={item}" for key, item in value.items())
        if text == "":  # no process of torchrun
            continue
        sys.stdout.write(f"{name.replace('_', ' '):<12}{text}\n")
    default = facts["default_weights"]
    sys.stdout.write(f"{'default':<12}{default['name']} (sha256 {default['sha256'] or 'unknown'})\n")
    for weights in facts["weights"]:
        state = "installed" if weights["installed"] else weights["problem"]
        sys.stdout.write(f"{'weights':<12}{weights['name']} ({state})\n")


def _facts() -> dict[str, Any]:
    import numpy
    import soundfile

    import samptag
    from samptag.core.card import header_if_any
    from samptag.core.device import available_cores, available_devices
    from samptag.engine.predictor import default_threads
    from samptag.pretrained import DEFAULT, open_store
    from samptag.ranks import VARIABLES

    store = open_store()
    return {
        "samptag": samptag.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": _version("torch"),
        "numpy": str(numpy.__version__),
        "soundfile": str(soundfile.__version__),
        "libsndfile": str(soundfile.__libsndfile_version__),
        "resampy": _version("resampy"),
        "av": _version("av"),
        "devices": [_device_text(name) for name in available_devices()],
        "cores": available_cores(),
        "threads": default_threads(),
        "ranks": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "cache": str(store.cache),
        "offline": store.offline,
        "default_weights": {"name": DEFAULT, "sha256": header_if_any(store.present(DEFAULT))[1]},
        "weights": [
            *(_weights(store, entry) for entry in store.registry.entries.values()),
            *({"name": name, "installed": True, "problem": None} for name in store.imported_names()),
        ],
    }


def _weights(store: Store, entry: WeightsEntry) -> dict[str, Any]:
    if not store.installed_path(entry.name).exists():
        problem = "comes with samptag" if entry.file else "not installed"
        return {"name": entry.name, "installed": False, "problem": problem}
    damage = store.problem(entry)
    return {"name": entry.name, "installed": damage is None, "problem": damage}


def _version(package: str) -> str:
    """The version of an installed package without importing it: resampy's numba takes seconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _device_text(name: str) -> str:
    """The name of a device, and of the GPU behind it; the devices before it have imported torch if there is one."""
    if not name.startswith("cuda"):
        return name
    import torch

    return f"{name} ({torch.cuda.get_device_name(name)})"
