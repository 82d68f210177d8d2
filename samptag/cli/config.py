"""The user's own defaults for `samptag tag`, `train` and `eval`, from a TOML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samptag.errors import UsageError
from samptag.files import os_reason
from samptag.text import did_you_mean

# What a person may want every time. Inputs and outputs are not among them, since a forgotten line would lead to a lost
# file; nor what decides how good a model gets, or seems.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tag": (
        *("batch-size", "decide", "device", "format", "hop", "jobs", "model", "progress", "tags", "tail", "threshold"),
        "top",
    ),
    "train": ("device", "progress"),
    "eval": ("device", "progress"),
}
"""What can be set, by command."""


def config_path() -> Path:
    """The file: what SAMPTAG_CONFIG names, else config.toml in the user's configuration folder of samptag."""
    named = os.environ.get("SAMPTAG_CONFIG")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("samptag", appauthor=False) / "config.toml"


def configured_defaults() -> dict[str, dict[str, Any]]:
    """Values by command and the names of its parameters; empty where there is no such file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    path = config_path()
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        if "SAMPTAG_CONFIG" in os.environ:
            raise UsageError(f"there is no configuration file {path} (SAMPTAG_CONFIG)") from None
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {os_reason(error)}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    defaults = {}
    for command, values in content.items():
        if command not in OPTIONS or not isinstance(values, dict):
            *others, last = (f"[{name}]" for name in OPTIONS)
            raise UsageError(f"{path}: only the tables {', '.join(others)} and {last} are read, not {command!r}")
        known = OPTIONS[command]
        for key in values:
            if key.replace("_", "-") not in known:
                hint = did_you_mean(key, known) or f"there is {', '.join(known)}"
                raise UsageError(f"{path}: {key!r} cannot be set in [{command}]: {hint}")
        defaults[command] = {key.replace("-", "_"): value for key, value in values.items()}
    return defaults
