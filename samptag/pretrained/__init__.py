"""Weights by name: the registry, the cache, downloads and imports.

Importing this package loads no torch; `load_model` does, and so does anything that must convert a published ``.pth``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from samptag.pretrained.registry import WeightsEntry, load_registry
from samptag.pretrained.store import Store, open_store
from samptag.text import Progress

if TYPE_CHECKING:
    from samptag.core.weights import LoadedModel, Weights

__all__ = ["DEFAULT", "Store", "WeightsEntry", "load_model", "load_registry", "load_weights", "open_store", "resolve"]

# The name of the bundled weights that are used by default.
DEFAULT = "samplecnn-3-9-library"


def load_weights(
    name_or_path: str | os.PathLike[str] = DEFAULT, *, offline: bool | None = None, progress: Progress | None = None
) -> Weights:
    """Weights, by their name or their file, read without torch; parameters and errors as for `load_model`."""
    return open_store(offline=offline, progress=progress).load(name_or_path)


def load_model(
    name_or_path: str | os.PathLike[str] = DEFAULT, *, offline: bool | None = None, progress: Progress | None = None
) -> LoadedModel:
    """The model and the card of weights, by their name or their file; never a model with random weights.

    Parameters
    ----------
    name_or_path : str or path
        A registry name, the name of an import, or a path. Remote weights are fetched at first use.
    offline : bool or None
        Whether the network is forbidden; None asks ``SAMPTAG_OFFLINE``.
    progress : callable or None
        Called with (name of the weights, bytes received, bytes in total or None) while something is fetched.

    Returns
    -------
    LoadedModel
        A torch module in evaluation mode, on the CPU, in float32; and its card.

    Raises
    ------
    WeightsError
        There is no such name or file (the message has similar names), or the file is damaged, altered or does not fit.
    DownloadError
        The weights are not installed and cannot be fetched; the message says how to do it by hand.
    """
    return load_weights(name_or_path, offline=offline, progress=progress).loaded()


def resolve(name_or_path: str | os.PathLike[str] = DEFAULT) -> Path:
    """The file of weights, by their name or path, installed if need be; errors as for `load_model`."""
    return open_store().resolve(name_or_path)
