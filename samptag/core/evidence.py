"""What is known of a weights file's words: how each was tested, and how often it is right past its cut-off."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, TypeVar

from samptag.core.json_types import Kind, check_kind

Kept = TypeVar("Kept", bound="Record")

_NEEDED = {"human": ("n", "of", "roc_auc", "data"), "teachers": ("correlation", "tracks", "teachers"), "none": ()}
_POSSIBLE = {
    "human": ("roc_auc_interval", "pr_auc", "pr_auc_interval"),
    "teachers": ("segments", "published"),
    "none": (),
}
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("n", "of", "tracks", "segments"), int),
    **dict.fromkeys(("roc_auc", "pr_auc", "correlation", "precision"), float),
    **dict.fromkeys(("roc_auc_interval", "pr_auc_interval", "teachers", "tags", "against"), list),
    **dict.fromkeys(("kind", "data", "published", "on"), str),
    "evidence": dict,
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a card keeps by a name, in JSON: only the fields that say something, lists for tuples."""

    where: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The fields that have a value, as JSON holds them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {
            name: list(v) if isinstance(v, tuple) else v.to_dict() if isinstance(v, Record) else v
            for name, v in values.items()
        }
        return {name: v for name, v in plain.items() if v not in (None, [])}

    @classmethod
    def from_dict(cls: type[Kept], name: str, values: Any) -> Kept:
        """What JSON says of the word or concept `name`.

        Raises
        ------
        ValueError
            As for the class, or where a field is missing or not what it should be; the message names the word.
        """
        where = cls.where.format(name)
        check_kind(where, values, dict)
        known = {field.name: field.default is MISSING for field in fields(cls)}
        for field, value in values.items():
            if field not in known:
                raise ValueError(f"{where} has the unknown field {field!r}")
            check_kind(f"the {field} of {where}", value, _KINDS[field])
        for field, needed in known.items():
            if needed and field not in values:
                raise ValueError(f"{where} has no {field}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if "evidence" in values:
            values["evidence"] = Evidence.from_dict(name, values["evidence"])
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Evidence(Record):
    """How one word, or a concept that several words make up, was tested.

    Parameters
    ----------
    kind : {"human", "teachers", "none"}
        Against people's tags; by agreement with the models that taught it, on music it did not learn from; or not.
    n, of : int
        Kind "human": tracks that people gave the word, of how many.
    roc_auc, pr_auc : float
        Kind "human", over those tracks; `pr_auc` may be missing.
    roc_auc_interval, pr_auc_interval : tuple of float
        Kind "human": 95 % intervals, low and high; may be missing.
    data : str
        Kind "human": which tracks, and whether anybody involved had heard them before.
    correlation : float
        Kind "teachers": with the teachers' scores, in [-1, 1].
    tracks, segments : int
        Kind "teachers": how much music that is of; `segments` may be missing.
    teachers : tuple of str
        Kind "teachers": their names.
    published : str
        Kind "teachers": how well the teachers themselves know the word, in their authors' figures; may be missing.

    Raises
    ------
    ValueError
        Where a figure is missing, out of its range, or of another kind of evidence.

    Examples
    --------
    >>> Evidence(kind="human", n=21, of=63, roc_auc=0.91, data="63 tracks").text
    "people's tags: ROC-AUC .91, on 21 of 63 tracks"
    """

    where = "the evidence of {!r} in its card"

    kind: str
    n: int | None = None
    of: int | None = None
    roc_auc: float | None = None
    roc_auc_interval: tuple[float, float] | None = None
    pr_auc: float | None = None
    pr_auc_interval: tuple[float, float] | None = None
    data: str | None = None
    correlation: float | None = None
    tracks: int | None = None
    segments: int | None = None
    teachers: tuple[str, ...] | None = None
    published: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no evidence of its kind."""
        if self.kind not in _NEEDED:
            raise ValueError(f"evidence is of the kind {', '.join(map(repr, _NEEDED))}, not {self.kind!r}")
        given, needed = [name for name in self.to_dict() if name != "kind"], _NEEDED[self.kind]
        for name in needed:
            if name not in given:
                raise ValueError(f"evidence of the kind {self.kind!r} needs {name!r}")
        for name in given:
            if name not in (*needed, *_POSSIBLE[self.kind]):
                raise ValueError(f"evidence of the kind {self.kind!r} has no {name!r}")
        for name in ("roc_auc", "pr_auc"):
            _check_share(name, getattr(self, name), getattr(self, f"{name}_interval"))
        if self.correlation is not None and not -1 <= self.correlation <= 1:
            raise ValueError(f"the correlation {self.correlation} is not between -1 and 1")
        counts = (self.n, self.of, self.tracks, self.segments)
        if any(count is not None and count < 1 for count in counts) or (self.n or 0) > (self.of or 0):
            raise ValueError("its numbers of tracks and segments are not at least 1, or a part is more than the whole")
        if not all(isinstance(name, str) and name for name in self.teachers or ()):
            raise ValueError("its teachers must be names")

    @property
    def text(self) -> str:
        """The figures in a person's words."""
        if self.kind == "human":
            figures = f"ROC-AUC {_share(self.roc_auc)}{_interval(self.roc_auc_interval)}"
            if self.pr_auc is not None:
                figures += f", PR-AUC {_share(self.pr_auc)}{_interval(self.pr_auc_interval)}"
            return f"people's tags: {figures}, on {self.n} of {self.of} tracks"
        if self.kind == "teachers":
            segments = f" ({self.segments} segments)" if self.segments is not None else ""
            published = f"; they themselves: {self.published}" if self.published else ""
            return f"its teachers: correlation {_share(self.correlation)} on {self.tracks} tracks{segments}{published}"
        return "unverified"

    @property
    def source(self) -> str:
        """Which tracks, or which teachers; empty where nothing was tested."""
        return self.data or ", ".join(self.teachers or ())


@dataclass(frozen=True, kw_only=True)
class Concept(Record):
    """What several words mean together, and how that was tested: "anyone sings", or "female" against "male".

    Parameters
    ----------
    tags : tuple of str
        The words.
    against : tuple of str
        Where it tells two things apart, the words of the other.
    evidence : Evidence

    Raises
    ------
    ValueError
        Where there are no words.
    """

    where = "the concept {!r} in its card"

    tags: tuple[str, ...]
    against: tuple[str, ...] = ()
    evidence: Evidence

    def __post_init__(self) -> None:
        """Refuse a concept without words."""
        if not self.tags:
            raise ValueError("it has no words")


@dataclass(frozen=True, kw_only=True)
class CutoffEvidence(Record):
    """How often a word is right from its cut-off on.

    Parameters
    ----------
    precision : float
        Share of the tracks past the cut-off that have the word, in [0, 1].
    on : {"human", "teachers"}
        Who says which tracks have it.

    Raises
    ------
    ValueError
        Where one is not what it should be.
    """

    where = "the cut-off of {!r} in its card"

    precision: float
    on: str

    def __post_init__(self) -> None:
        """Refuse a precision that is none."""
        _check_share("precision", self.precision)
        if self.on not in ("human", "teachers"):
            raise ValueError(f"a cut-off is set on 'human' or 'teachers', not {self.on!r}")

    @property
    def text(self) -> str:
        """The figure in a person's words."""
        return f"right in {self.precision:.0%} by {'people' if self.on == 'human' else 'its teachers'}"


def _check_share(name: str, value: float | None, interval: tuple[float, ...] | None = None) -> None:
    """Refuse what is not between 0 and 1, and an interval that is not two of them in order."""
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"the {name} {value} is not between 0 and 1")
    if interval is not None:
        for end in interval:
            check_kind(f"the {name}_interval", end, float)
        if value is None or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"the {name}_interval {list(interval)} is not the low and high of a figure")


def _share(value: float | None) -> str:
    """Two digits after the point, without a zero before it: .91."""
    return f"{value:.2f}".replace("0.", ".", 1)


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({_share(interval[0])} to {_share(interval[1])})"
