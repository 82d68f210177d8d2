"""The registry: every weights file that has a name, as `registry.json` lists them.

The file has three keys: ``schema``, ``tag_lists`` (named tag lists in output order) and ``weights`` (the entries, see
`WeightsEntry`). Bundled files lie beside it. ``SAMPTAG_REGISTRY`` names another registry file, for a group that keeps
its weights on its own server.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from samptag.core.protocols import Protocol
from samptag.errors import WeightsError
from samptag.fetch import Checksums
from samptag.files import os_errors_as

SCHEMA = "samptag.registry/1"

# Whose checkpoint it is: a state_dict of Won 2020's repository, or a TensorFlow checkpoint of the package musicnn.
Layout = Literal["sota-sample", "sota-se", "sota-fcn", "sota-musicnn", "tf-musicnn", "tf-vgg"]

# How a file is laid out: ours, or a foreign checkpoint.
Format = Literal["samptag", Layout]

# The suffixes of the two files of a TensorFlow checkpoint that keeps its tensors in one file.
DATA_SUFFIX, INDEX_SUFFIX = ".data-00000-of-00001", ".index"

# No dot and no separator: a name can never be mistaken for a path, nor escape from the cache.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class TagList:
    """Tags in output order, and their `categories` (genre, instrument, ...) if the data set has them."""

    tags: tuple[str, ...]
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A score, macro over tags in [0, 1], with the split and protocol it was measured with, and its source."""

    split: str
    protocol: Protocol | None = None
    roc_auc: float
    pr_auc: float | None = None
    source: str


class Original(NamedTuple):
    """One of the published files that are fetched for an entry; `suffix` follows the entry's name in the cache."""

    suffix: str
    url: str
    checksums: Checksums


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One named weights file: where it is, the digest of the published file, and what it may be used for."""

    name: str  # what the user types: letters, digits, '-' and '_'
    short: str | None = None  # what the user may type instead
    description: str  # for people, as are licence, citation and training data
    format: Format  # layout of the file; foreign ones are converted when they are installed
    licence: str  # that of the weights
    citation: str
    training_data: str
    sample_rate: int  # Hz
    tags: TagList  # in output order
    file: str | None = None  # name of the bundled file beside the registry; exactly one of `file` and `url` is set
    url: str | None = None  # where the file is fetched from
    checksums: Checksums
    index: Checksums | None = None  # of a TensorFlow checkpoint, which is two files
    scores: tuple[PublishedScore, ...] = ()  # published or measured

    @property
    def names(self) -> tuple[str, ...]:
        """What the user may type for it."""
        return (self.name, self.short) if self.short else (self.name,)

    @property
    def provenance(self) -> str:
        """Address and digest of the published file, as a converted file's card records them."""
        known = self.checksums
        digest = f"git blob {known.git_blob_sha1}" if known.sha256 is None else f"sha256 {known.sha256}"
        if self.index is not None:
            digest += f", its index {self.index.sha256}"
        return f"{self.url or self.file} ({digest})"

    @property
    def originals(self) -> tuple[Original, ...]:
        """The files that are fetched to be converted; none if the file is one of ours."""
        if self.format == "samptag" or self.url is None:
            return ()
        if self.index is None:
            return (Original(".pth", self.url, self.checksums),)
        index_url = self.url.removesuffix(DATA_SUFFIX) + INDEX_SUFFIX
        return Original(DATA_SUFFIX, self.url, self.checksums), Original(INDEX_SUFFIX, index_url, self.index)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The validated registry file."""

    path: Path
    entries: Mapping[str, WeightsEntry]
    tag_lists: Mapping[str, TagList]

    def find(self, name: str | os.PathLike[str]) -> WeightsEntry | None:
        """The entry called `name`, in full or by its short name; None if there is none, or `name` is a path."""
        return next((entry for entry in self.entries.values() if name in entry.names), None)

    def bundled_path(self, entry: WeightsEntry) -> Path | None:
        """Where the bundled file of `entry` is; None for a remote one."""
        return None if entry.file is None else self.path.parent / entry.file


def parse_tags(lines: list[str]) -> TagList:
    """The tag list written as `lines`, in their order; ``genre---rock`` is split into category and tag.

    Lines are split only if every one has a category and the bare tags stay unique.
    """
    if not lines:
        raise ValueError("the tag list is empty")
    for number, tag in enumerate(lines):
        if not tag.strip():
            raise ValueError("the tag list has an empty tag")
        if tag in lines[:number]:
            raise ValueError(f"the tag list has {tag!r} twice")
    pairs = [tag.partition("---") for tag in lines]
    bare = tuple(tag for _, _, tag in pairs)
    if all(category and tag for category, _, tag in pairs) and len(set(bare)) == len(bare):
        return TagList(tags=bare, categories=tuple(category for category, _, _ in pairs))
    return TagList(tags=tuple(lines))


def registry_path() -> Path:
    """The registry file: ``SAMPTAG_REGISTRY``, else the installed one, else the checkout's."""
    named = os.environ.get("SAMPTAG_REGISTRY")
    if named:
        return Path(named).expanduser()
    package = Path(__file__).resolve().parents[1]
    installed = package / "_weights" / "registry.json"
    return installed if installed.is_file() else package.parent / "weights" / "registry.json"


def load_registry(path: Path | None = None) -> Registry:
    """The registry in `path` (default: `registry_path()`); a WeightsError if it is missing, not JSON or refused."""
    path = registry_path() if path is None else path
    try:
        advice = "check SAMPTAG_REGISTRY" if os.environ.get("SAMPTAG_REGISTRY") else "reinstall samptag"
        with os_errors_as(WeightsError, f"cannot read the weights registry {path}", advice=advice):
            document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"the weights registry {path} is not JSON: {error}") from error
    return parse_registry(document, path)


def parse_registry(document: Any, path: Path) -> Registry:
    """The registry that the JSON `document` of the file `path` describes; a WeightsError names the refused entry."""
    where = ""
    try:
        schema = document["schema"]
        if schema != SCHEMA:
            raise ValueError(f"schema is {schema!r}, this samptag reads {SCHEMA!r}")
        tag_lists = {name: parse_tags(lines) for name, lines in document["tag_lists"].items()}
        entries: dict[str, WeightsEntry] = {}
        taken: set[str] = set()
        for raw in document["weights"]:
            where = f"weights entry {raw['name']!r}: "
            entry = _entry(dict(raw), tag_lists)
            _check(entry)
            where = ""
            for name in entry.names:
                if name.lower() in taken:
                    raise ValueError(f"the name {name!r} occurs twice")
            taken |= {name.lower() for name in entry.names}
            entries[entry.name] = entry
    except KeyError as error:
        raise WeightsError(f"the weights registry {path}: {where}{error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"the weights registry {path}: {where}{error}") from error
    return Registry(path=path, entries=entries, tag_lists=tag_lists)


def _entry(values: dict[str, Any], tag_lists: Mapping[str, TagList]) -> WeightsEntry:
    tags, index = values.pop("tags"), values.pop("index", None)
    if isinstance(tags, str) and tags not in tag_lists:
        raise ValueError(f"there is no tag list {tags!r}")
    known = ("size", "sha256", "git_blob_sha1")
    return WeightsEntry(
        checksums=Checksums(**{key: values.pop(key) for key in known if key in values}),
        index=None if index is None else Checksums(**index),
        tags=tag_lists[tags] if isinstance(tags, str) else parse_tags(tags),
        scores=tuple(PublishedScore(**score) for score in values.pop("scores", ())),
        **values,
    )


def _check(entry: WeightsEntry) -> None:
    """Refuse an entry that would leave the cache, or whose bytes nothing checks: others write registries, too."""
    if not all(NAME_PATTERN.fullmatch(name) for name in entry.names):
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
