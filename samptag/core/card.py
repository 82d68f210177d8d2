"""What a weights file says about itself; no torch."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from samptag.core.config import Config, config_from_dict
from samptag.core.evidence import Concept, CutoffEvidence, Evidence
from samptag.core.json_types import Kind, check_kind
from samptag.errors import WeightsError
from samptag.files import os_reason

SCHEMA = "samptag.weights/1"
METADATA_KEY = "samptag"
"""The key of a safetensors file's metadata under which the card lies."""

# A header of ours takes some 30 KB; what claims more than this is not one.
_LONGEST_HEADER = 1 << 24


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a weights file says about itself.

    Parameters
    ----------
    name : str
        Name of the weights, such as ``samplecnn-3-9-mtat50``.
    config : ModelConfig or SpectrogramConfig
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
    cutoffs : Mapping or None
        Score from which a tag counts as decided, by tag; tags without one are never decided.
    cutoff_evidence : Mapping or None
        How often a tag is right from its cut-off on, a `CutoffEvidence` by tag.
    evidence : Mapping or None
        What is known of each tag, an `Evidence` by tag; tags that are left out are unverified.
    concepts : Mapping or None
        What several tags mean together, a `Concept` by name ("anyone sings").

    Raises
    ------
    ValueError
        Where tags and network do not fit together.
    """

    name: str
    config: Config
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
    cutoffs: Mapping[str, float] | None = None
    cutoff_evidence: Mapping[str, CutoffEvidence] | None = None
    evidence: Mapping[str, Evidence] | None = None
    concepts: Mapping[str, Concept] | None = None

    def __post_init__(self) -> None:
        """Refuse tags that do not fit the network."""
        if len(self.tags) != self.config.n_tags:
            raise ValueError(f"it lists {len(self.tags)} tags for a network of {self.config.n_tags} outputs")
        if self.tag_categories is not None and len(self.tag_categories) != len(self.tags):
            raise ValueError(f"it lists {len(self.tag_categories)} tag categories for {len(self.tags)} tags")
        for tag, cutoff in (self.cutoffs or {}).items():
            if tag not in self.tags or not 0 <= cutoff <= 1:
                raise ValueError(f"its cut-off {cutoff} of {tag!r} is not a score of one of its tags")
        for tag in self.cutoff_evidence or {}:
            if tag not in (self.cutoffs or {}):
                raise ValueError(f"it has evidence for a cut-off of {tag!r}, but no such cut-off")
        concepts = (self.concepts or {}).values()
        for tag in (*(self.evidence or {}), *(t for concept in concepts for t in (*concept.tags, *concept.against))):
            if tag not in self.tags:
                raise ValueError(f"it has evidence for {tag!r}, which is none of its tags")
        outputs = list(zip(self.tag_categories or self.tags, self.tags, strict=True))
        twice = sorted({tag for category, tag in outputs if outputs.count((category, tag)) > 1})
        if twice:
            raise ValueError(f"it lists the tag {twice[0]!r} twice")

    @property
    def segment_seconds(self) -> float:
        """How much of the sound the network hears at once."""
        return self.config.input_length / self.config.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON holds them; of cut-offs and evidence only what there is: files without stay the same."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("cutoffs", *_RECORDS):
            if values[name] is None:
                del values[name]
        for name in _RECORDS.keys() & values.keys():
            values[name] = {key: record.to_dict() for key, record in values[name].items()}
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
        for name in sorted(set(values) - _CARD_KINDS.keys()):
            raise ValueError(f"its card has the unknown field {name!r}")
        for name, kind in _CARD_KINDS.items():
            if name in values:
                check_kind(f"the {name} of its card", values[name], kind)
            elif name in _REQUIRED:
                raise ValueError(f"its card has no {name}")
        for name in ("tags", "tag_categories"):
            if not all(isinstance(tag, str) and tag for tag in values.get(name) or ()):
                raise ValueError(f"the {name} of its card must be names")
        for tag, cutoff in (values.get("cutoffs") or {}).items():
            check_kind(f"the cut-off of {tag!r} in its card", cutoff, float)
        categories = values.get("tag_categories")
        records = {
            name: {key: kind.from_dict(key, record) for key, record in values[name].items()}
            for name, kind in _RECORDS.items()
            if values.get(name) is not None
        }
        return cls(
            **{
                **values,
                **records,
                "config": config_from_dict(values["config"]),
                "tags": tuple(values["tags"]),
                "tag_categories": None if categories is None else tuple(categories),
            }
        )


_RECORDS: Mapping[str, type[Evidence | Concept | CutoffEvidence]] = {
    "cutoff_evidence": CutoffEvidence,
    "evidence": Evidence,
    "concepts": Concept,
}
_REQUIRED = ("name", "config", "tags", "licence", "training_data")
_CARD_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("name", "licence", "training_data", "description", "source", "citation"), str),
    **dict.fromkeys(("split", "split_hash"), (str, None)),
    **dict.fromkeys(("config", "metrics"), dict),
    "tags": list,
    "tag_categories": (list, None),
    **dict.fromkeys(("cutoffs", *_RECORDS), (dict, None)),
}


def read_card(path: Path) -> ModelCard:
    """What the weights file `path` says about itself; see `read_header`."""
    return read_header(path)[0]


def read_metadata(path: Path, text: str | None) -> tuple[ModelCard, Mapping[str, Any], str]:
    """What stands in a safetensors file under `METADATA_KEY`: the card, its fields as they stand there, and the digest.

    Raises
    ------
    WeightsError
        Nothing, or nothing that this samptag reads; the message names `path`.
    """
    if text is None:
        raise WeightsError(f"{path} is a safetensors file, but not one of samptag's")
    try:
        metadata = json.loads(text)
        schema, digest, description = metadata["schema"], str(metadata["sha256"]), metadata["card"]
        canonical_json(description)  # Python reads NaN and 1e999, which JSON does not have
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"{path} has metadata that cannot be read; get the file again") from None
    if schema != SCHEMA:
        raise WeightsError(f"{path} has the format {schema!r}; this samptag reads {SCHEMA!r}")
    try:
        return ModelCard.from_dict(description), description, digest
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be used: {error}") from None


def canonical_json(value: Mapping[str, Any]) -> str:
    """The one text of a JSON object, over which the digest is taken.

    Raises
    ------
    ValueError
        A number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def header_if_any(path: Path | None) -> tuple[ModelCard | None, str | None]:
    """What `read_header` gives; None for both where there is no file, or none that can be read."""
    try:
        return (None, None) if path is None else read_header(path)
    except WeightsError:
        return None, None


def read_header(path: Path) -> tuple[ModelCard, str]:
    """The card of the weights file `path` and the digest (sha256) of its content, from its first bytes.

    The file must have the length it claims. Its content is compared with its digest when the weights are read.

    Raises
    ------
    WeightsError
        The file cannot be read, is truncated, or is no weights file of samptag's.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LONGEST_HEADER
            text = file.read(length) if length < _LONGEST_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {os_reason(error)}") from error
    try:
        header = json.loads(text)
        metadata = (header.pop("__metadata__", None) or {}).get(METADATA_KEY)
        expected = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path} is not a weights file, or is truncated") from error
    if expected != size:
        raise WeightsError(f"{path} is truncated or longer than it says: {size} bytes instead of {expected}")
    card, _, digest = read_metadata(path, metadata)
    return card, digest
