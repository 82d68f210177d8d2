"""What a weights file says about itself, and how its tags were tested; reading it needs neither torch nor NumPy."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, TypeVar

from samptag.core.config import Config, Kind, check_kind, config_from_dict
from samptag.errors import WeightsError
from samptag.files import os_errors_as

SCHEMA = "samptag.weights/1"
# The key of the card in the metadata of a safetensors file.
METADATA_KEY = "samptag"

# Our headers take some 30 KB; a file that claims more than this is not one of ours.
_LONGEST_HEADER = 1 << 24

Kept = TypeVar("Kept", bound="Record")

# The fields that each kind of evidence needs, and those that it may have besides.
_EVIDENCE = {
    "human": (("n", "of", "roc_auc", "data"), ("roc_auc_interval", "pr_auc", "pr_auc_interval")),
    "teachers": (("correlation", "tracks", "teachers"), ("segments", "published")),
    "none": ((), ()),
}
# What each field of the classes below is in JSON.
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("name", "licence", "training_data", "description", "source", "citation"), str),
    **dict.fromkeys(("kind", "data", "published", "on"), str),
    **dict.fromkeys(("n", "of", "tracks", "segments"), int),
    **dict.fromkeys(("roc_auc", "pr_auc", "correlation", "precision"), float),
    **dict.fromkeys(("roc_auc_interval", "pr_auc_interval", "teachers", "tags", "against"), list),
    **dict.fromkeys(("split", "split_hash"), (str, NoneType)),
    **dict.fromkeys(("config", "metrics"), dict),
    "tag_categories": (list, NoneType),
    **dict.fromkeys(("cutoffs", "cutoff_evidence", "evidence", "concepts"), (dict, NoneType)),
}


class _Written:
    """A record that goes into JSON, with lists for tuples, and without fields that have no value."""

    _always: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        kept = {name: v for name, v in vars(self).items() if v not in (None, ()) or name in self._always}
        return {name: _plain(value) for name, value in kept.items()}


class Record(_Written):
    """What a card says of a tag, or of several tags together."""

    _where: ClassVar[str]

    @classmethod
    def from_dict(cls: type[Kept], name: str, values: Any) -> Kept:
        """The record of the tag or concept `name`, from JSON; a ValueError, which names it, where it is wrong."""
        where = cls._where.format(name)
        given = _arguments(cls, where, values, kinds=_KINDS | {"evidence": dict})
        if "evidence" in given:
            given["evidence"] = Evidence.from_dict(name, given["evidence"])
        try:
            return cls(**given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return value.to_dict() if hasattr(value, "to_dict") else value


def _arguments(cls: type[Any], where: str, values: Any, *, kinds: Mapping[str, Kind] = _KINDS) -> dict[str, Any]:
    """`values` from JSON as arguments of `cls`; refuses fields that are unknown, missing or of the wrong kind."""
    check_kind(where, values, dict)
    known = {f.name: f for f in fields(cls)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where} has the unknown field {name!r}")
        check_kind(f"the {name} of {where}", value, kinds[name])
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where} has no {name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Evidence(Record):
    """How a tag or a concept was tested; a ValueError where a figure is missing, wrong or does not belong here."""

    _where = "the evidence of {!r} in its card"

    # "human": against people's tags; "teachers": by agreement with its teachers, on music that was not trained on;
    # "none": not at all.
    kind: str
    # Kind "human".
    n: int | None = None  # tracks that people gave the tag
    of: int | None = None  # tracks in all
    roc_auc: float | None = None
    roc_auc_interval: tuple[float, float] | None = None  # 95 %, low and high; may be missing
    pr_auc: float | None = None  # may be missing
    pr_auc_interval: tuple[float, float] | None = None
    data: str | None = None  # which tracks, and whether the model or its teachers were trained on them
    # Kind "teachers".
    correlation: float | None = None  # with the teachers' scores, in [-1, 1]
    tracks: int | None = None  # how many it was measured on
    segments: int | None = None  # may be missing
    teachers: tuple[str, ...] | None = None  # their names
    published: str | None = None  # how well the teachers know the tag, as their authors published it; may be missing

    def __post_init__(self) -> None:
        if self.kind not in _EVIDENCE:
            raise ValueError(f"the kind of evidence must be {' or '.join(map(repr, _EVIDENCE))}, not {self.kind!r}")
        given, (needed, possible) = self.to_dict(), _EVIDENCE[self.kind]
        for name in needed:
            if name not in given:
                raise ValueError(f"evidence of the kind {self.kind!r} needs {name!r}")
        for name in given:
            if name not in ("kind", *needed, *possible):
                raise ValueError(f"evidence of the kind {self.kind!r} has no {name!r}")
        for name in ("roc_auc", "pr_auc"):
            _check_share(name, getattr(self, name), getattr(self, f"{name}_interval"))
        if self.correlation is not None and not -1 <= self.correlation <= 1:
            raise ValueError(f"the correlation {self.correlation} is not between -1 and 1")
        counts = (self.n, self.of, self.tracks, self.segments)
        if any(count is not None and count < 1 for count in counts) or (self.n or 0) > (self.of or 0):
            raise ValueError("its counts must be at least 1, and 'n' at most 'of'")
        if not all(isinstance(name, str) and name for name in self.teachers or ()):
            raise ValueError("its teachers must be names")

    @property
    def text(self) -> str:
        """The figures in plain words."""
        if self.kind == "human":
            figures = _figure("ROC-AUC", self.roc_auc, self.roc_auc_interval)
            if self.pr_auc is not None:
                figures += f", {_figure('PR-AUC', self.pr_auc, self.pr_auc_interval)}"
            return f"people's tags: {figures}, on {self.n} of {self.of} tracks"
        if self.kind == "teachers":
            segments = f" ({self.segments} segments)" if self.segments is not None else ""
            published = f"; they themselves: {self.published}" if self.published else ""
            return f"its teachers: correlation {_share(self.correlation)} on {self.tracks} tracks{segments}{published}"
        return "unverified"

    @property
    def source(self) -> str:
        """Which tracks, or which teachers, it was tested with; "" if it was not."""
        return self.data or ", ".join(self.teachers or ())


@dataclass(frozen=True, kw_only=True)
class Concept(Record):
    """What several tags mean together, and how that was tested: "anyone sings", or "female" `against` "male"."""

    _where = "the concept {!r} in its card"

    tags: tuple[str, ...]
    against: tuple[str, ...] = ()
    evidence: Evidence

    def __post_init__(self) -> None:
        if not self.tags:
            raise ValueError("it has no tags")


@dataclass(frozen=True, kw_only=True)
class CutoffEvidence(Record):
    """How often a tag is right when its score is past the cut-off."""

    _where = "the cut-off of {!r} in its card"

    precision: float  # share, in [0, 1], of the tracks past the cut-off that have the tag
    on: str  # by whose tags: "human" or "teachers"

    def __post_init__(self) -> None:
        _check_share("precision", self.precision)
        if self.on not in ("human", "teachers"):
            raise ValueError(f"its 'on' must be 'human' or 'teachers', not {self.on!r}")

    @property
    def text(self) -> str:
        """The figure in plain words."""
        return f"right in {self.precision:.0%} by {'people' if self.on == 'human' else 'its teachers'}"


def _check_share(name: str, value: float | None, interval: tuple[float, ...] | None = None) -> None:
    """Refuse a value outside [0, 1], and an interval that is not two such values in order."""
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"the {name} {value} is not between 0 and 1")
    if interval is not None:
        for end in interval:
            check_kind(f"the {name}_interval", end, float)
        if value is None or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"the {name}_interval {list(interval)} is not the low and high of a figure")


def _share(value: float | None) -> str:
    """The value with two decimals and no zero before the point: .91."""
    return f"{value:.2f}".replace("0.", ".", 1)


def _figure(name: str, value: float | None, interval: tuple[float, float] | None) -> str:
    ends = "" if interval is None else f" ({_share(interval[0])} to {_share(interval[1])})"
    return f"{name} {_share(value)}{ends}"


@dataclass(frozen=True, kw_only=True)
class ModelCard(_Written):
    """What a weights file says about itself; a ValueError where its tags do not fit its model."""

    _always = ("split", "split_hash", "tag_categories")

    name: str  # of the weights, such as samplecnn-3-9-mtat50
    config: Config  # the model they belong to; its sample rate is the one they were trained at
    tags: tuple[str, ...]  # one for each output, in the order of the outputs; no tag twice in one category
    licence: str
    training_data: str
    description: str = ""  # a sentence
    split: str | None = None  # the named split that `metrics` were measured on
    split_hash: str | None = None  # the first 16 hex digits of the sha256 of its list of clips
    metrics: Mapping[str, float | str] = field(default_factory=dict)  # measured scores by name
    source: str = ""  # where they come from: a URL, or the recipe that made them
    citation: str = ""
    # One for each output ("genre", "instrument", ...), if the data set sorts its tags.
    tag_categories: tuple[str, ...] | None = None
    cutoffs: Mapping[str, float] | None = None  # score from which a tag is decided; tags without one never are
    cutoff_evidence: Mapping[str, CutoffEvidence] | None = None
    evidence: Mapping[str, Evidence] | None = None  # how each tag was tested; tags left out are unverified
    concepts: Mapping[str, Concept] | None = None  # by name ("anyone sings")

    def __post_init__(self) -> None:
        if len(self.tags) != self.config.n_tags:
            raise ValueError(f"it lists {len(self.tags)} tags for a model with {self.config.n_tags} outputs")
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
                raise ValueError(f"it has evidence for {tag!r}, which is not one of its tags")
        outputs = Counter(zip(self.tag_categories or self.tags, self.tags, strict=True))
        if twice := sorted(tag for (_, tag), count in outputs.items() if count > 1):
            raise ValueError(f"it lists the tag {twice[0]!r} twice")

    @property
    def segment_seconds(self) -> float:
        """Length of a segment in seconds."""
        return self.config.input_length / self.config.sample_rate

    @classmethod
    def from_dict(cls, values: Any) -> ModelCard:
        """The card with the fields `values`, from JSON; a ValueError where one is missing, unknown or wrong."""
        given = _arguments(cls, "its card", values)
        for name in ("tags", "tag_categories"):
            if not all(isinstance(tag, str) and tag for tag in given.get(name) or ()):
                raise ValueError(f"the {name} of its card must be names")
        for tag, cutoff in (given.get("cutoffs") or {}).items():
            check_kind(f"the cut-off of {tag!r} in its card", cutoff, float)
        kinds: dict[str, type[Record]] = {"cutoff_evidence": CutoffEvidence, "evidence": Evidence, "concepts": Concept}
        for name, kind in kinds.items():
            if given.get(name) is not None:
                given[name] = {key: kind.from_dict(key, record) for key, record in given[name].items()}
        return cls(**given | {"config": config_from_dict(given["config"])})


def read_card(path: Path) -> ModelCard:
    """The card of the weights file `path`; see `read_header`."""
    return read_header(path)[0]


def read_metadata(path: Path, text: str | None) -> tuple[ModelCard, Mapping[str, Any], str]:
    """The card in a safetensors file's metadata `text`, the fields it was made from, and the digest."""
    if text is None:
        raise WeightsError(f"{path} is a safetensors file, but not one of samptag's")
    try:
        metadata = json.loads(text)
        schema, digest, description = metadata["schema"], str(metadata["sha256"]), metadata["card"]
        canonical_json(description)  # refuses NaN and 1e999, which Python reads although JSON does not have them
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"{path} has metadata that cannot be read; get the file again") from None
    if schema != SCHEMA:
        raise WeightsError(f"{path} has the format {schema!r}; this samptag reads {SCHEMA!r}")
    try:
        return ModelCard.from_dict(description), description, digest
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be used: {error}") from None


def canonical_json(value: Mapping[str, Any]) -> str:
    """A JSON object in the form that the digest is taken over; a ValueError where a number is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def header_if_any(path: Path | None) -> tuple[ModelCard | None, str | None]:
    """As `read_header`, but None for both if there is no file or it cannot be read."""
    try:
        return (None, None) if path is None else read_header(path)
    except WeightsError:
        return None, None


def read_header(path: Path) -> tuple[ModelCard, str]:
    """The card of the weights file `path` and the digest it states, which is not compared with its content.

    A WeightsError if the file is not one, or is truncated. Not through safetensors, which imports NumPy: the shell
    waits for these tags when it completes a word.
    """
    with os_errors_as(WeightsError, f"cannot read {path}"), path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LONGEST_HEADER
        text = file.read(length) if length < _LONGEST_HEADER else b""
        size = file.seek(0, 2)
    try:
        header = json.loads(text)
        metadata = (header.pop("__metadata__", None) or {}).get(METADATA_KEY)
        expected = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path} is not a weights file, or is truncated") from error
    if expected != size:
        raise WeightsError(f"{path} has {size} bytes instead of {expected}; get the file again")
    card, _, digest = read_metadata(path, metadata)
    return card, digest
