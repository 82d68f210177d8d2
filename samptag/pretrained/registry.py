"""The registry: every weights file that has a name, as `registry.json` lists them.

The file has three keys: ``schema``, ``tag_lists`` (named tag lists in output order) and ``weights`` (the entries, see
`WeightsEntry`). Bundled files lie beside it. ``SAMPTAG_REGISTRY`` names another registry file, for a group that keeps
weights of its own on its own server.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from samptag.core.protocols import Protocol
from samptag.errors import WeightsError
from samptag.fetch import Checksums
from samptag.files import os_errors_as
from samptag.pretrained.entries import (
    DATA_SUFFIX,
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

_CHECKSUMS = ("size", "sha256", "git_blob_sha1")


def registry_path() -> Path:
    """The registry file: ``SAMPTAG_REGISTRY``, else the installed one, else the checkout's."""
    named = os.environ.get("SAMPTAG_REGISTRY")
    if named:
        return Path(named).expanduser()
    package = Path(__file__).resolve().parents[1]
    installed = package / "_weights" / "registry.json"
    return installed if installed.is_file() else package.parent / "weights" / "registry.json"


def load_registry(path: Path | None = None) -> Registry:
    """The registry in `path` (default: `registry_path()`).

    Raises
    ------
    WeightsError
        The file is missing or not JSON, or as for `parse_registry`.
    """
    path = registry_path() if path is None else path
    try:
        with os_errors_as(WeightsError, f"cannot read the weights registry {path}", advice="reinstall samptag"):
            document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"the weights registry {path} is not JSON: {error}") from error
    return parse_registry(document, path)


def parse_registry(document: Any, path: Path) -> Registry:
    """The registry that the JSON `document` of the file `path` describes.

    Raises
    ------
    WeightsError
        A key is missing or unknown, a name occurs twice, or an entry would leave the cache or bring bytes that nothing
        checks; the message names it.
    """
    try:
        schema = document["schema"]
        if schema != SCHEMA:
            raise ValueError(f"schema is {schema!r}, this samptag reads {SCHEMA!r}")
        tag_lists = {name: parse_tags(lines) for name, lines in document["tag_lists"].items()}
        entries: dict[str, WeightsEntry] = {}
        taken: set[str] = set()
        for raw in document["weights"]:
            entry = _entry(raw, tag_lists)
            for name in (entry.name, entry.short or entry.name):
                if name.lower() in taken:
                    raise ValueError(f"the name {name!r} occurs twice")
            taken |= {entry.name.lower(), (entry.short or entry.name).lower()}
            entries[entry.name] = entry
    except KeyError as error:
        raise WeightsError(f"the weights registry {path}: {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"the weights registry {path}: {error}") from error
    return Registry(path=path, entries=entries, tag_lists=tag_lists)


def _entry(raw: Mapping[str, Any], tag_lists: Mapping[str, TagList]) -> WeightsEntry:
    values = dict(raw)
    where = f"weights entry {values['name']!r}"
    try:
        tags, index = values.pop("tags"), values.pop("index", None)
        if isinstance(tags, str) and tags not in tag_lists:
            raise ValueError(f"there is no tag list {tags!r}")
        entry = WeightsEntry(
            checksums=Checksums(**{key: values.pop(key) for key in _CHECKSUMS if key in values}),
            index=None if index is None else Checksums(**index),
            tags=tag_lists[tags] if isinstance(tags, str) else parse_tags(tags),
            scores=tuple(PublishedScore(**score) for score in values.pop("scores", ())),
            **values,
        )
        _check(entry)
    except KeyError as error:
        raise ValueError(f"{where}: {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: {error}") from error
    return entry


def _check(entry: WeightsEntry) -> None:
    """Refuse an entry that would leave the cache, or whose bytes nothing checks: registries come from others, too."""
    if not (NAME_PATTERN.fullmatch(entry.name) and NAME_PATTERN.fullmatch(entry.short or entry.name)):
        raise ValueError("a name has letters, digits, '-' and '_' only")
    if entry.format not in get_args(Format):
        raise ValueError(f"format {entry.format!r} is none of {', '.join(get_args(Format))}")
    if entry.file is not None and entry.format != "samptag":
        raise ValueError("a bundled file must have the format 'samptag'")
    if (entry.file is None) == (entry.url is None):
        raise ValueError("needs exactly one of file and url")
    if entry.file is not None and (Path(entry.file).name != entry.file or not entry.file.endswith(".safetensors")):
        raise ValueError("file must be the bare name of a .safetensors file beside the registry")
    address = urlsplit(entry.url or "https://bundled")
    if address.scheme not in ("http", "https") or not address.netloc:
        raise ValueError(f"{entry.url!r} is not an http or https address")
    if entry.checksums.sha256 is None and (entry.file is not None or entry.checksums.git_blob_sha1 is None):
        raise ValueError("needs sha256 (or git_blob_sha1, for a url)")
    if (entry.index is not None) != entry.format.startswith("tf-"):
        raise ValueError("an index belongs to a TensorFlow checkpoint, and every one has it")
    if entry.index is not None:
        if any(checksums.sha256 is None or checksums.size is None for checksums in (entry.checksums, entry.index)):
            raise ValueError("a TensorFlow checkpoint needs size and sha256 of both its files")
        if not (entry.url or "").endswith(DATA_SUFFIX):
            raise ValueError(f"the url of a TensorFlow checkpoint ends in {DATA_SUFFIX}")
    for score in entry.scores:
        if score.protocol not in (None, *get_args(Protocol)):
            raise ValueError(f"protocol {score.protocol!r} is none of {', '.join(get_args(Protocol))}")
