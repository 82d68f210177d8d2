"""One model file: safetensors, with everything the weights need to be used, and their checksum, in its metadata.

The metadata key ``samptag`` holds JSON::

    {"schema": "samptag.weights/1", "sha256": hex digest of what follows, "card": {"name": ..., "config": {...}, ...}}

The digest is taken over the canonical JSON of the card and, in order of their names, each tensor's name, type, shape
and bytes; a file altered in any of them is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from samptag.core.card import ModelCard
from samptag.core.model import SampleCNN
from samptag.errors import OutputError, WeightsError
from samptag.files import atomic_write

__all__ = ["LoadedModel", "ModelCard", "load_model_file", "read_card", "save_model"]

SCHEMA = "samptag.weights/1"
METADATA_KEY = "samptag"
# safetensors' names of the types in which a tensor of the network may be stored.
_STORED_KINDS = {torch.float32: ("F32", "F16"), torch.int64: ("I64",)}


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, in evaluation mode, on the CPU in float32; and what the file says about them."""

    model: SampleCNN
    card: ModelCard


def save_model(path: Path, model: SampleCNN, *, card: ModelCard, dtype: torch.dtype = torch.float32) -> None:
    """Write `model` and `card` to one file, atomically.

    Parameters
    ----------
    path : Path
        The file; an old one is replaced.
    model : SampleCNN
        The network, on any device.
    card : ModelCard
        What to say about it; its config must be the model's.
    dtype : torch.dtype
        float32, or float16 for half the size. Only weights are stored in it: biases and the statistics of batch
        normalisation, a hundredth of the file, stay float32, whose range they may need.

    Raises
    ------
    ValueError
        Where the card is another model's, or a weight is not finite (or not in `dtype`).
    OutputError
        Where the file cannot be written.
    """
    if card.config != model.config:
        raise ValueError(f"the card describes {card.config.name}, the model is another {model.config.name}")
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"weights are stored as float32 or float16, not {dtype}")
    arrays = {}
    for name, tensor in model.state_dict().items():
        target = dtype if tensor.ndim >= 2 else tensor.dtype
        arrays[name] = tensor.detach().to("cpu", target).contiguous().numpy()
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds values that are not finite in {target}")
    description = card.to_dict()
    metadata = {"schema": SCHEMA, "sha256": _digest(description, arrays), "card": description}
    content = safetensors_bytes(arrays, {METADATA_KEY: _canonical(metadata)})
    try:
        with atomic_write(Path(path)) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def read_card(path: Path) -> ModelCard:
    """What the weights file `path` says about itself; the weights are not read and not checked.

    Raises
    ------
    WeightsError
        Where it is no weights file of samptag's.
    """
    return _Reader(Path(path)).card()


def load_model_file(path: Path) -> LoadedModel:
    """The network and the card in the weights file `path`.

    Parameters
    ----------
    path : Path
        A file that `save_model` wrote.

    Returns
    -------
    LoadedModel
        In evaluation mode, on the CPU, in float32 whatever the file holds.

    Raises
    ------
    WeightsError
        Where the file is missing, truncated, altered, no weights file, or does not fit the network it names.
    """
    path = Path(path)
    reader = _Reader(path)
    card = reader.card()
    # On the meta device the network is only a list of shapes: no random weights are drawn that might stay.
    with torch.device("meta"):
        model = SampleCNN(card.config)
    expected = model.state_dict()
    problem = _misfit(reader.layout(), expected)
    if problem is not None:
        raise WeightsError(f"{path} does not hold a {card.config.name}: {problem}")
    arrays = reader.arrays()
    if _digest(reader.description, arrays) != reader.digest:
        raise WeightsError(f"{path} was altered: its content does not match its checksum; get the file again")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{path} holds values that are not finite, in {name}")
    wanted = {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in wanted.items()}, assign=True)
    return LoadedModel(model.eval(), card)


class _Reader:
    """An open weights file; every way in which it can be broken is a WeightsError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._path.open("rb").close()  # for the reason the system gives, which safetensors does not pass on
            self._file = _open(self._path)
        except OSError as error:
            raise WeightsError(f"cannot read {self._path}: {error.strerror or error}") from None
        except SafetensorError as error:
            raise WeightsError(f"{self._path} is no weights file, or a truncated one ({error})") from None
        self._names = list(self._file.keys())
        self._parse((self._file.metadata() or {}).get(METADATA_KEY))

    def _parse(self, text: str | None) -> None:
        if text is None:
            raise WeightsError(f"{self._path} is a safetensors file, but not one of samptag's")
        try:
            metadata = json.loads(text)
            schema = metadata["schema"]
            self.digest, self.description = metadata["sha256"], metadata["card"]
        except (ValueError, TypeError, KeyError):
            raise WeightsError(f"{self._path} has metadata that cannot be read; get the file again") from None
        if schema != SCHEMA:
            raise WeightsError(f"{self._path} has the format {schema!r}; this samptag reads {SCHEMA!r}")

    def card(self) -> ModelCard:
        try:
            return ModelCard.from_dict(self.description)
        except (ValueError, TypeError) as error:
            raise WeightsError(f"{self._path} cannot be used: {error}") from None

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of every tensor by its name."""
        slices = {name: self._file.get_slice(name) for name in self._names}
        return {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every tensor by its name, in memory of its own: the file may be replaced while we run."""
        return {name: self._file.get_tensor(name) for name in self._names}


def _open(path: Path) -> Any:
    """The safetensors file `path`, its tensors as numpy arrays: their conversion then needs no threads of torch's."""
    return safe_open(path, framework="numpy")


def _misfit(found: Mapping[str, tuple[tuple[int, ...], str]], expected: Mapping[str, torch.Tensor]) -> str | None:
    """In what the file's tensors differ from the network's, or None."""
    for name in sorted(expected.keys() - found.keys()):
        return f"{name} is missing"
    for name in sorted(found.keys() - expected.keys()):
        return f"{name} has no place in it"
    for name, tensor in expected.items():
        shape, kind = found[name]
        if shape != tuple(tensor.shape):
            return f"{name} has shape {shape}, not {tuple(tensor.shape)}"
        if kind not in _STORED_KINDS[tensor.dtype]:
            return f"{name} is of type {kind}, not {' or '.join(_STORED_KINDS[tensor.dtype])}"
    return None


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(_canonical(description).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
