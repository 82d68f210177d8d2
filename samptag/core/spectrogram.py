"""Published networks over log-mel spectrograms that samptag runs as they are: their descriptions; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from samptag.core.config import ModelConfig
from samptag.core.json_types import Kind, check_kind

__all__ = ["Architecture", "Config", "SpectrogramConfig", "config_from_dict"]

Architecture = Literal["musicnn", "vgg", "won-musicnn", "won-fcn"]
"""musicnn and vgg: the package musicnn (Pons, Serra 2019); won-*: musicnn and FCN of Won, Ferraro, Bogdanov, Serra
(SMC 2020)."""

# Samples at 16 kHz: 188 frames of 256, 3 s and 29 s.
_INPUT_LENGTHS: dict[Architecture, int] = {
    "musicnn": 48_128,
    "vgg": 48_128,
    "won-musicnn": 48_000,
    "won-fcn": 464_000,
}
_EMBEDDING_SIZES: dict[Architecture, int] = {"musicnn": 200, "vgg": 256, "won-musicnn": 200, "won-fcn": 64}


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig:
    """One of the published networks over 96 log-mel bands; what `ModelConfig` is for the m^n family.

    Parameters
    ----------
    architecture : {"musicnn", "vgg", "won-musicnn", "won-fcn"}
    n_tags : int
        Number of outputs, at least 1.
    sample_rate : int
        In Hz; 16 000 is the only one that these networks know.

    Raises
    ------
    ValueError
        Where the values do not make a network.
    """

    architecture: Architecture
    n_tags: int = 50
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        """Refuse what is no network."""
        for name, kind in _FIELD_KINDS.items():
            check_kind(name, getattr(self, name), kind)
        if self.n_tags < 1:
            raise ValueError(f"n_tags must be at least 1, not {self.n_tags}")
        if self.sample_rate != 16_000:
            raise ValueError(f"{self.architecture} hears 16000 Hz, not {self.sample_rate}")

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.architecture

    @property
    def input_length(self) -> int:
        """Number of samples in a segment."""
        return _INPUT_LENGTHS[self.architecture]

    @property
    def embedding_size(self) -> int:
        """Length of the vector that is classified."""
        return _EMBEDDING_SIZES[self.architecture]

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON holds them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FIELD_KINDS: dict[str, Kind] = {"architecture": get_args(Architecture), "n_tags": int, "sample_rate": int}

Config: TypeAlias = ModelConfig | SpectrogramConfig
"""What describes a network that samptag can run."""


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The description whose fields are `values`; with an ``architecture`` it is a `SpectrogramConfig`.

    Raises
    ------
    ValueError
        Where a key is unknown, or a value is of another type or out of range.

    Examples
    --------
    >>> config_from_dict({"architecture": "musicnn"}).input_length
    48128
    """
    if "architecture" not in values:
        return ModelConfig.from_dict(values)
    unknown = sorted(set(values) - _FIELD_KINDS.keys())
    if unknown:
        raise ValueError(f"unknown model setting {unknown[0]!r}")
    return SpectrogramConfig(**values)
