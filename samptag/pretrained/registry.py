"""The registry: every weights file that has a name, as `registry.json` lists them, validated when it is read.

The file has three keys: ``schema``, ``tag_lists`` (named tag lists in output order) and ``weights`` (the entries, see
`WeightsEntry`). Bundled files lie beside it. ``SAMPTAG_REGISTRY`` names another registry file, for a group that keeps
weights of its own on its own server.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from samptag.core.protocols import Protocol
from samptag.errors import WeightsError
from samptag.fetch import Checksums
from samptag.pretrained.entries import (
    NAME_PATTERN,
    Format,
    PublishedScore,
    Registry,
    TagList,
    WeightsEntry,
    parse_tags,
)

__all__ = ["SCHEMA", "load_registry", "parse_registry", "registry_path"]

SCHEMA = "samptag.registry/1"


def registry_path() -> Path:
    """The registry file: ``SAMPTAG_REGISTRY``, else the installed one, else the checkout's."""
    named = os.environ.get("SAMPTAG_REGISTRY")
    if named:
        return Path(named).expanduser()
    package = Path(__file__).resolve().parents[1]
    installed = package / "_weights" / "registry.json"
    return installed if installed.is_file() else package.parent / "weights" / "registry.json"


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
    return parse_registry(document, path)


def parse_registry(document: Any, path: Path) -> Registry:
    """The registry that the JSON `document` of the file `path` describes.

    Raises
    ------
    WeightsError
        A key, type, name or digest does not belong; the message names it.
    """
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
    protocol = raw.get("protocol")
    if protocol is not None and protocol not in get_args(Protocol):
        raise ValueError(f"{where}: protocol {protocol!r} is none of {', '.join(get_args(Protocol))}")
    return PublishedScore(
        split=_text(raw, "split", where),
        protocol=protocol,
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
        raise ValueError(f"{where}: {key} must be a non-empty string")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
