"""`samptag info` and `samptag schema`: what samptag says about itself, for a bug report or for readers of its JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import samptag
from samptag.cli.options import Json
from samptag.errors import UsageError

if TYPE_CHECKING:
    from samptag.pretrained import Store, WeightsEntry

# Beside the package's own modules, so no importlib.resources: importing that takes longer than reading the file.
_SCHEMAS = Path(samptag.__file__).parent / "schemas"


def _schema_names(incomplete: str = "") -> list[str]:
    return sorted(path.stem for path in _SCHEMAS.glob("*.json") if path.stem.startswith(incomplete))


def schema_text(name: str) -> str:
    """The JSON Schema of the document `name`, as its file has it."""
    return (_SCHEMAS / f"{name}.json").read_text(encoding="utf-8")


def schema(
    name: str | None = typer.Argument(
        None, metavar="NAME", help="The document; without it, list all names.", autocompletion=_schema_names
    ),
) -> None:
    """Print the JSON Schema of a document.

    $ samptag schema
    $ samptag schema tag > tag.schema.json

    A record's field "schema" names the version; fields are only ever added to it.
    """
    if name is None:
        sys.stdout.write("".join(f"{known}\n" for known in _schema_names()))
        return
    if name not in _schema_names():
        raise UsageError(f"there is no schema {name!r}: choose {', '.join(_schema_names())}")
    sys.stdout.write(schema_text(name))


def info(as_json: Json = False) -> None:
    """Show versions, devices, the cache, and which weights are installed.

    $ samptag info --json
    """
    facts = _facts()
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        return
    default, known = facts.pop("default_weights"), facts.pop("weights")
    lines = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    lines.append(("default", f"{default['name']} (sha256 {default['sha256'] or 'unknown'})"))
    for weights in known:
        state = "installed" if weights["installed"] else weights["problem"]
        lines.append(("weights", f"{weights['name']} ({state})"))
    # Without torchrun there are no ranks.
    sys.stdout.writelines(f"{name:<12}{text}\n" for name, text in lines if text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _facts() -> dict[str, Any]:
    import numpy
    import soundfile

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
        "devices": [f"{name} ({_gpu(name)})" if name.startswith("cuda") else name for name in available_devices()],
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
    problem: str | None = "comes with samptag" if entry.file else "not installed"
    if store.installed_path(entry.name).exists():
        problem = store.problem(entry)
    return {"name": entry.name, "installed": problem is None, "problem": problem}


def _version(package: str) -> str:
    """The version of an installed package without importing it: resampy's numba takes seconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _gpu(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device)
