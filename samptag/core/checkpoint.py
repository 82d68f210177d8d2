"""One model file: safetensors, with everything the weights need to be used, and their checksum, in its metadata.

The metadata key ``samptag`` holds JSON::

    {"schema": "samptag.weights/1", "sha256": hex digest of what follows, "card": {"name": ..., "config": {...}, ...}}

The digest is taken over the canonical JSON of the card and, in order of their names, each tensor's name, type, shape
and bytes; a file altered in any of them is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from samptag.core.atomic import atomic_write
from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN
from samptag.errors import OutputError, WeightsError

__all__ = ["LoadedModel", "ModelCard", "load_model_file", "read_card", "save_model"]

SCHEMA = "samptag.weights/1"
METADATA_KEY = "samptag"
_STORED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a weights file says about itself.

    Parameters
    ----------
    name : str
        Name of the weights, such as ``samplecnn-3-9-mtat50``.
    config : ModelConfig
        The network they belong to; its sample rate is the one they were trained at.
    tags : tuple of str
        One name an output, in the order of the outputs; no name twice.
    licence : str
        Licence of the weights.
    training_data : str
        What they were trained on.
    description : str
        What they are, in a sentence.
    split : str or None
        Named split that `metrics` were measured on.
    split_hash : str or None
        First 16 hex digits of the sha256 of that split's list of clips.
    metrics : Mapping
        Measured scores by name.
    source : str
        Where they come from: an URL, or the recipe that made them.
    citation : str
        What to cite.
    tag_categories : tuple of str or None
        One category an output ("genre", "instrument", ...), for data sets that sort their tags.

    Raises
    ------
    ValueError
        Where tags and network do not fit together.
    """

    name: str
    config: ModelConfig
    tags: tuple[str, ...]
    licence: str
    training_data: str
    description: str = ""
    split: str | None = None
    split_hash: str | None = None
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    source: str = ""
    citation: str = ""
    tag_categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse tags that do not fit the network."""
        if len(self.tags) != self.config.n_tags:
            raise ValueError(f"it lists {len(self.tags)} tags for a network of {self.config.n_tags} outputs")
        if self.tag_categories is not None and len(self.tag_categories) != len(self.tags):
            raise ValueError(f"it lists {len(self.tag_categories)} tag categories for {len(self.tags)} tags")
        outputs = list(zip(self.tag_categories or self.tags, self.tags, strict=True))
        twice = sorted({tag for category, tag in outputs if outputs.count((category, tag)) > 1})
        if twice:
            raise ValueError(f"it lists the tag {twice[0]!r} twice")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        categories = None if self.tag_categories is None else list(self.tag_categories)
        return {
            **values,
            "config": self.config.to_dict(),
            "tags": list(self.tags),
            "metrics": dict(self.metrics),
            "tag_categories": categories,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelCard":
        """The card whose fields are `values`.

        Raises
        ------
        ValueError
            Where a field is missing, unknown, or not what it should be.
        """
        kinds = _CARD_KINDS
        for name in sorted(set(values) - kinds.keys()):
            raise ValueError(f"unknown field {name!r} in its card")
        for name, (kind, required) in kinds.items():
            if name not in values:
                if required:
                    raise ValueError(f"no field {name!r} in its card")
            elif not isinstance(values[name], kind):
                raise ValueError(f"the field {name!r} of its card is not what it should be")
        for name in ("tags", "tag_categories"):
            if not all(isinstance(tag, str) and tag for tag in values.get(name) or ()):
                raise ValueError(f"the field {name!r} of its card holds something else than names")
        categories = values.get("tag_categories")
        return cls(
            **{
                **values,
                "config": ModelConfig.from_dict(values["config"]),
                "tags": tuple(values["tags"]),
                "tag_categories": None if categories is None else tuple(categories),
            }
        )


_TEXT_OR_NONE = (str, type(None))
_CARD_KINDS: dict[str, tuple[Any, bool]] = {
    "name": (str, True),
    "config": (dict, True),
    "tags": (list, True),
    "licence": (str, True),
    "training_data": (str, True),
    "description": (str, False),
    "split": (_TEXT_OR_NONE, False),
    "split_hash": (_TEXT_OR_NONE, False),
    "metrics": (dict, False),
    "source": (str, False),
    "citation": (str, False),
    "tag_categories": ((list, type(None)), False),
}


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
    tensors = {}
    for name, tensor in model.state_dict().items():
        target = dtype if tensor.ndim >= 2 else tensor.dtype
        tensors[name] = tensor.detach().to("cpu", target).contiguous()
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(f"{name} holds values that are not finite in {target}")
    description = card.to_dict()
    metadata = {"schema": SCHEMA, "sha256": _digest(description, tensors), "card": description}
    content = safetensors_bytes(tensors, {METADATA_KEY: _canonical(metadata)})
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
    with _Reader(Path(path)) as reader:
        return reader.card()


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
    with _Reader(path) as reader:
        card = reader.card()
        # On the meta device the network is only a list of shapes: no random weights are drawn that might stay.
        with torch.device("meta"):
            model = SampleCNN(card.config)
        expected = model.state_dict()
        problem = _misfit(reader.shapes(), {name: tuple(t.shape) for name, t in expected.items()})
        if problem is not None:
            raise WeightsError(f"{path} does not hold a {card.config.name}: {problem}")
        tensors = reader.tensors()
        if _digest(reader.description, tensors) != reader.digest:
            raise WeightsError(f"{path} was altered: its content does not match its checksum; get the file again")
        for name, tensor in tensors.items():
            wanted = expected[name].dtype
            if tensor.dtype != wanted and not (tensor.dtype in _STORED_DTYPES and wanted in _STORED_DTYPES):
                raise WeightsError(f"{path} does not hold a {card.config.name}: {name} is {tensor.dtype}")
            # A copy in every case: the file may be replaced while its pages are mapped.
            tensors[name] = tensor.to(wanted, copy=True)
            if not bool(torch.isfinite(tensors[name]).all()):
                raise WeightsError(f"{path} holds values that are not finite, in {name}")
    model.load_state_dict(tensors, assign=True)
    return LoadedModel(model.eval().requires_grad_(True), card)


class _Reader:
    """An open weights file; every way in which it can be broken is a WeightsError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Reader":
        try:
            self._path.open("rb").close()  # for the reason the system gives, which safetensors does not pass on
            self._file = safe_open(self._path, framework="pt").__enter__()
        except OSError as error:
            raise WeightsError(f"cannot read {self._path}: {error.strerror or error}") from None
        except SafetensorError as error:
            raise WeightsError(f"{self._path} is no weights file, or a truncated one ({error})") from None
        try:
            self._parse((self._file.metadata() or {}).get(METADATA_KEY))
        except BaseException:
            self._file.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}  # noqa: SIM118

    def tensors(self) -> dict[str, Tensor]:
        return {name: self._file.get_tensor(name) for name in self._file.keys()}  # noqa: SIM118


def _misfit(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """In what the file's tensors differ from the network's, or None."""
    for name in sorted(expected.keys() - found.keys()):
        return f"{name} is missing"
    for name in sorted(found.keys() - expected.keys()):
        return f"{name} has no place in it"
    for name in sorted(expected):
        if found[name] != expected[name]:
            return f"{name} has shape {found[name]}, not {expected[name]}"
    return None


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(_canonical(description).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # numpy knows no bfloat16; any other type of the same width shows the same bytes.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
