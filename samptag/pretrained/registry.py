"""The registry: every weights file that has a name, as `registry.json` lists them, validated when it is read.

The file has three keys: ``schema``, ``tag_lists`` (named tag lists in output order) and ``weights`` (the entries, see
`WeightsEntry`). Bundled files lie beside it. ``SAMPTAG_REGISTRY`` names another registry file, for a group that keeps
weights of its own on its own server.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from samptag.errors import WeightsError
from samptag.pretrained.checksums import Checksums

__all__ = [
    "NAME_PATTERN",
    "SCHEMA",
    "Format",
    "PublishedScore",
    "Registry",
    "TagList",
    "WeightsEntry",
    "load_registry",
    "parse_tags",
    "registry_path",
]

SCHEMA = "samptag.registry/1"

Format = Literal["samptag", "sota-sample", "sota-se"]
"""How a file is laid out: ours, or a bare state_dict of the SampleCNN or SampleCNN + SE of Won 2020's repository."""

# No dot and no separator: a name can never be mistaken for a path, nor escape from the cache.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class TagList:
    """Tags in output order; `categories` beside them (genre, instrument, ...) where the data set has them."""

    tags: tuple[str, ...]
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A score with the split it was measured on and where it was read; macro over tags, in [0, 1]."""

    split: str
    roc_auc: float
    pr_auc: float | None = None
    source: str


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One named weights file: where it is, how to check it, what it may be used for.

    Parameters
    ----------
    name : str
        What the user types: letters, digits, ``-`` and ``_``.
    description, licence, citation, training_data : str
        For people; the licence is that of the weights.
    format : {"samptag", "sota-sample", "sota-se"}
        Layout of the file; the foreign ones are converted when they are installed.
    sample_rate : int
        Hz.
    tags : TagList
        In output order.
    file : str or None
        Name of the bundled file beside the registry; exactly one of `file` and `url` is set.
    url : str or None
        Where the file is fetched.
    checksums : Checksums
        Of the file as published (before a conversion). Size and sha256 are always set for a bundled file, and at least
        one digest for a remote one.
    scores : tuple of PublishedScore
        Published or measured.
    """

    name: str
    description: str
    format: Format
    licence: str
    citation: str
    training_data: str
    sample_rate: int
    tags: TagList
    file: str | None = None
    url: str | None = None
    checksums: Checksums
    scores: tuple[PublishedScore, ...] = ()

    @property
    def provenance(self) -> str:
        """Address and digest of the published file, as a converted file's card records them."""
        digest = f"sha256 {self.checksums.sha256}"
        if self.checksums.sha256 is None:
            digest = f"git blob {self.checksums.git_blob_sha1}"
        return f"{self.url or self.file} ({digest})"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The validated registry file."""

    path: Path
    entries: Mapping[str, WeightsEntry]
    tag_lists: Mapping[str, TagList]

    def bundled_path(self, entry: WeightsEntry) -> Path | None:
        """Where the bundled file of `entry` lies; None for a remote one."""
        return None if entry.file is None else self.path.parent / entry.file


def registry_path() -> Path:
    """The registry file: ``SAMPTAG_REGISTRY``, else the installed one, else the checkout's."""
    named = os.environ.get("SAMPTAG_REGISTRY")
    if named:
        return Path(named).expanduser()
    package = Path(__file__).resolve().parents[1]
    installed = package / "_weights" / "registry.json"
    return installed if installed.is_file() else package.parent / "weights" / "registry.json"


def parse_tags(lines: list[str]) -> TagList:
    """The tag list written as `lines`, in their order; ``genre---rock`` is taken apart into category and tag.

    The categories are kept apart only when every line has one and the bare tags stay unique.

    Raises
    ------
    ValueError
        No tag, an empty one, or one that occurs twice.
    """
    if not lines:
        raise ValueError("the tag list is empty")
    seen: set[str] = set()
    for tag in lines:
        if not tag.strip():
            raise ValueError("the tag list has an empty tag")
        if tag in seen:
            raise ValueError(f"the tag list has {tag!r} twice")
        seen.add(tag)
    pairs = [tag.partition("---") for tag in lines]
    bare = tuple(tag for _, _, tag in pairs)
    if all(category and tag for category, _, tag in pairs) and len(set(bare)) == len(bare):
        return TagList(tags=bare, categories=tuple(category for category, _, _ in pairs))
    return TagList(tags=tuple(lines))


def load_registry(path: Path | None = None) -> Registry:
    """The registry in `path` (default: `registry_path()`), checked throughout.

    Raises
    ------
    WeightsError
        The file is missing, not JSON, or has a key, type, name or digest that does not belong; the message names it.
    """
    path = registry_path() if path is None else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read the weights registry {path}: {error.strerror}; reinstall samptag") from error
    except ValueError as error:
        raise WeightsError(f"the weights registry {path} is not JSON: {error}") from error
    try:
        return _parse(document, path)
    except ValueError as error:
        raise WeightsError(f"the weights registry {path}: {error}") from error


def _parse(document: Any, path: Path) -> Registry:
    _known_keys(document, {"schema", "tag_lists", "weights"}, "the document")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema is {document.get('schema')!r}, this samptag reads {SCHEMA!r}")
    raw_lists, raw_entries = document.get("tag_lists", {}), document.get("weights")
    if not isinstance(raw_lists, dict) or not isinstance(raw_entries, list):
        raise ValueError("tag_lists must be an object and weights an array")
    tag_lists = {name: _tags(tags, {}, f"tag list {name!r}") for name, tags in raw_lists.items()}
    entries: dict[str, WeightsEntry] = {}
    for index, raw in enumerate(raw_entries):
        entry = _entry(raw, tag_lists, f"weights entry {index + 1}")
        if entry.name.lower() in {name.lower() for name in entries}:
            raise ValueError(f"the name {entry.name!r} occurs twice")
        entries[entry.name] = entry
    return Registry(path=path, entries=entries, tag_lists=tag_lists)


_CHECKSUM_KEYS = {field.name for field in fields(Checksums)}
_ENTRY_KEYS = {field.name for field in fields(WeightsEntry)} - {"checksums"} | _CHECKSUM_KEYS
_DIGEST_DIGITS = {"sha256": 64, "git_blob_sha1": 40}


def _entry(raw: Any, tag_lists: Mapping[str, TagList], where: str) -> WeightsEntry:
    if isinstance(raw, dict) and isinstance(raw.get("name"), str):
        where = f"weights entry {raw['name']!r}"
    _known_keys(raw, _ENTRY_KEYS, where)
    texts = {
        key: _text(raw, key, where) for key in ("name", "description", "licence", "citation", "training_data", "format")
    }
    if not NAME_PATTERN.fullmatch(texts["name"]):
        raise ValueError(f"{where}: a name has letters, digits, '-' and '_' only")
    if texts["format"] not in get_args(Format):
        raise ValueError(f"{where}: format {texts['format']!r} is none of {', '.join(get_args(Format))}")
    sample_rate = raw.get("sample_rate")
    if not _is_int(sample_rate) or sample_rate < 1:
        raise ValueError(f"{where}: sample_rate must be a positive integer in Hz")
    scores = raw.get("scores", [])
    if not isinstance(scores, list):
        raise ValueError(f"{where}: scores must be an array")
    file, url, checksums = _location(raw, where)
    if file is not None and texts["format"] != "samptag":
        raise ValueError(f"{where}: a bundled file must have the format 'samptag'")
    return WeightsEntry(
        **texts,  # type: ignore[arg-type]  # the format has just been checked against the literal
        sample_rate=sample_rate,
        tags=_tags(raw.get("tags"), tag_lists, where),
        file=file,
        url=url,
        checksums=checksums,
        scores=tuple(_score(score, where) for score in scores),
    )


def _location(raw: Mapping[str, Any], where: str) -> tuple[str | None, str | None, Checksums]:
    """File, URL and checksums of an entry: exactly one place, and enough to check what comes from it."""
    file, url = (None if raw.get(key) is None else _text(raw, key, where) for key in ("file", "url"))
    if (file is None) == (url is None):
        raise ValueError(f"{where}: needs exactly one of file and url")
    if file is not None and (Path(file).name != file or not file.endswith(".safetensors")):
        raise ValueError(f"{where}: file must be the bare name of a .safetensors file beside the registry")
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
        raise ValueError(f"{where}: {url!r} is not an http or https address")
    size = raw.get("size")
    if size is not None and (not _is_int(size) or size < 1):
        raise ValueError(f"{where}: size must be a positive number of bytes")
    for key, digits in _DIGEST_DIGITS.items():
        value = raw.get(key)
        if value is not None and not (isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value)):
            raise ValueError(f"{where}: {key} must be {digits} lower-case hexadecimal digits")
    checksums = Checksums(size=size, sha256=raw.get("sha256"), git_blob_sha1=raw.get("git_blob_sha1"))
    if file is not None and (checksums.size is None or checksums.sha256 is None):
        raise ValueError(f"{where}: a bundled file needs size and sha256")
    if checksums.sha256 is None and checksums.git_blob_sha1 is None:
        raise ValueError(f"{where}: a remote file needs sha256 or git_blob_sha1")
    return file, url, checksums


def _score(raw: Any, where: str) -> PublishedScore:
    where = f"{where}, scores"
    _known_keys(raw, {field.name for field in fields(PublishedScore)}, where)
    for key in ("roc_auc", "pr_auc"):
        value = raw.get(key)
        missing = value is None and key == "pr_auc"
        if not missing and not (isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1):
            raise ValueError(f"{where}: {key} must be a number in [0, 1]")
    return PublishedScore(
        split=_text(raw, "split", where),
        roc_auc=raw["roc_auc"],
        pr_auc=raw.get("pr_auc"),
        source=_text(raw, "source", where),
    )


def _tags(raw: Any, tag_lists: Mapping[str, TagList], where: str) -> TagList:
    """The tag list of that name, or the one written out."""
    if isinstance(raw, str):
        if raw not in tag_lists:
            raise ValueError(f"{where}: there is no tag list {raw!r}")
        return tag_lists[raw]
    if not isinstance(raw, list) or not all(isinstance(tag, str) for tag in raw):
        raise ValueError(f"{where}: tags must be an array of strings or the name of a tag list")
    try:
        return parse_tags(raw)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _known_keys(raw: Any, known: set[str], where: str) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} must be an object")
    unknown = sorted(set(raw) - known)
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r} (known: {', '.join(sorted(known))})")


def _text(raw: Mapping[str, Any], key: str, where: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key} must be a text that is not empty")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
