"""The weights file: safetensors, with all that is needed to use the weights, and a checksum, in its metadata.

The metadata key ``samptag`` holds JSON::

    {"schema": "samptag.weights/1", "sha256": hex digest, "card": {"name": ..., "config": {...}, ...}}

The digest is taken over the canonical JSON of the card and, in the order of their names, each tensor's name, type,
shape and bytes; a file in which any of them was altered is refused. torch is imported only for modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from samptag.core.card import METADATA_KEY, SCHEMA, ModelCard, canonical_json, read_metadata
from samptag.core.config import Config, ModelConfig
from samptag.core.layout import layout
from samptag.errors import OutputError, WeightsError
from samptag.files import atomic_write, os_errors_as

if TYPE_CHECKING:
    from samptag.core.model import Model

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Weights:
    """What a weights file holds: its card, its tensors by name, and its digest."""

    card: ModelCard
    tensors: Tensors
    sha256: str

    def to_module(self) -> Model:
        """The model as a torch module, in evaluation mode, on the CPU in float32."""
        import torch

        from samptag.core.model import build_model

        # On the meta device the model is only a list of shapes: no random weights are drawn that might stay.
        with torch.device("meta"):
            model = build_model(self.card.config)
        # Copies, so that a module that is trained further leaves `tensors` as they are.
        state = {
            name: torch.from_numpy(array.astype(np.float32 if array.dtype == np.float16 else array.dtype))
            for name, array in self.tensors.items()
        }
        model.load_state_dict(state, assign=True)
        return model.eval()

    def loaded(self) -> LoadedModel:
        """The model as a torch module, with its card."""
        return LoadedModel(self.to_module(), self.card)


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, in evaluation mode, on the CPU in float32, and their card."""

    model: Model
    card: ModelCard


def read_weights(path: Path) -> Weights:
    """The weights in the file `path`; a WeightsError if they do not match their digest or the model they name."""
    path = Path(path)
    try:
        with os_errors_as(WeightsError, f"cannot read {path}"):
            path.open("rb").close()  # for the system's reason, which safetensors does not pass on
            file: Any = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a weights file, or is truncated ({error})") from None
    card, description, digest = read_metadata(path, (file.metadata() or {}).get(METADATA_KEY))
    expected = _shapes(card.config)
    problem = _misfit(file, expected)
    if problem is not None:
        raise WeightsError(f"{path} does not hold a {card.config.name}: {problem}")
    tensors = {name: file.get_tensor(name) for name in expected}
    if _digest(description, tensors) != digest:
        raise WeightsError(f"{path} was altered: its content does not match its checksum; get the file again")
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise WeightsError(f"{path} holds values that are not finite, in {name}")
    return Weights(card, tensors, digest)


def save_model(path: Path, model: Model | Tensors, *, card: ModelCard, dtype: DTypeLike = np.float32) -> None:
    """Write a model, or its tensors by name, and its card to one file, atomically, or raise an OutputError.

    Only weights are stored as `dtype`, float32 or float16: biases and the statistics of batch normalisation, a
    hundredth of the file, may need float32's range. A ValueError if the card is another model's, or if a weight is not
    finite in `dtype`.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float16):
        raise ValueError(f"weights are stored as float32 or float16, not {dtype}")
    tensors = model if isinstance(model, Mapping) else model_tensors(model)
    same = isinstance(model, Mapping) or model.config == card.config
    if not same or {name: tensor.shape for name, tensor in tensors.items()} != _shapes(card.config):
        raise ValueError(f"the card describes {card.config.name}, but the model is another one")
    arrays = {}
    with np.errstate(over="ignore"):
        for name, tensor in tensors.items():
            arrays[name] = np.asarray(tensor, dtype if tensor.ndim >= 2 else tensor.dtype, order="C")
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} holds values that are not finite in {dtype}")
    description = card.to_dict()
    metadata = {"schema": SCHEMA, "sha256": _digest(description, arrays), "card": description}
    content = safetensors_bytes(arrays, {METADATA_KEY: canonical_json(metadata)})
    with os_errors_as(OutputError, f"cannot write {path}"), atomic_write(Path(path)) as file:
        file.write(content)


def model_tensors(model: Model) -> dict[str, NDArray[Any]]:
    """Every tensor of a module by its name, on the CPU, in float32 (the counters as they are)."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {name: (x.float() if x.is_floating_point() else x).numpy() for name, x in state.items()}


def _shapes(config: Config) -> Mapping[str, tuple[int, ...]]:
    """The shape of every tensor of the model that `config` describes, by its name."""
    if isinstance(config, ModelConfig):
        return layout(config).shapes()
    # The other models have no layout, only their torch modules.
    import torch

    from samptag.core.model import build_model

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_model(config).state_dict().items()}


def _misfit(file: Any, expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """How the file's tensors differ from the model's, or None."""
    if missing := sorted(expected.keys() - file.keys()):
        return f"{missing[0]} is missing"
    if more := sorted(file.keys() - expected.keys()):
        return f"{more[0]} does not belong in it"
    for name, shape in expected.items():
        tensor = file.get_slice(name)
        if tuple(tensor.get_shape()) != shape:
            return f"{name} has shape {tuple(tensor.get_shape())}, not {shape}"
        kinds = ("I64",) if name.endswith("num_batches_tracked") else ("F32", "F16")
        if tensor.get_dtype() not in kinds:
            return f"{name} is of type {tensor.get_dtype()}, not {' or '.join(kinds)}"
    return None


def _digest(description: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(canonical_json(description).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
