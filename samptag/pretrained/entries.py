"""What the registry says of each weights file: plain frozen values, no files and no network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samptag.core.protocols import Protocol
from samptag.fetch import Checksums

__all__ = [
    "DATA_SUFFIX",
    "INDEX_SUFFIX",
    "NAME_PATTERN",
    "Format",
    "Layout",
    "Original",
    "PublishedScore",
    "Registry",
    "TagList",
    "WeightsEntry",
    "parse_tags",
]

Layout = Literal["sota-sample", "sota-se", "sota-fcn", "sota-musicnn", "tf-musicnn", "tf-vgg"]
"""Whose checkpoint it is: a state_dict of Won 2020's repository, or a TensorFlow checkpoint of the package musicnn."""

Format = Literal["samptag", Layout]
"""How a file is laid out: ours, or a foreign checkpoint."""

DATA_SUFFIX, INDEX_SUFFIX = ".data-00000-of-00001", ".index"
"""How the two files of a TensorFlow checkpoint are called that keeps its tensors in one file."""

# No dot and no separator: a name can never be mistaken for a path, nor escape from the cache.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class TagList:
    """Tags in output order; `categories` beside them (genre, instrument, ...) where the data set has them."""

    tags: tuple[str, ...]
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """A score with the split and the protocol it was measured by and where it was read; macro over tags, in [0, 1].

    The protocol is None in registries that do not say.
    """

    split: str
    protocol: Protocol | None = None
    roc_auc: float
    pr_auc: float | None = None
    source: str


@dataclass(frozen=True, kw_only=True)
class Original:
    """One of the published files that are fetched for an entry; `suffix` follows the entry's name in the cache."""

    suffix: str
    url: str
    checksums: Checksums


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One named weights file: where it is, how to check it, what it may be used for.

    Parameters
    ----------
    name : str
        What the user types: letters, digits, ``-`` and ``_``.
    short : str or None
        What the user may type instead.
    description, licence, citation, training_data : str
        For people; the licence is that of the weights.
    format : {"samptag", "sota-sample", "sota-se", "sota-fcn", "sota-musicnn", "tf-musicnn", "tf-vgg"}
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
    short: str | None = None
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
    index: Checksums | None = None
    scores: tuple[PublishedScore, ...] = ()

    @property
    def provenance(self) -> str:
        """Address and digest of the published file, as a converted file's card records them."""
        digest = f"sha256 {self.checksums.sha256}"
        if self.checksums.sha256 is None:
            digest = f"git blob {self.checksums.git_blob_sha1}"
        if self.index is not None:
            digest += f", its index {self.index.sha256}"
        return f"{self.url or self.file} ({digest})"

    @property
    def originals(self) -> tuple[Original, ...]:
        """The files that are fetched to be converted; none where the file is one of ours."""
        if self.format == "samptag" or self.url is None:
            return ()
        if self.index is None:
            return (Original(suffix=".pth", url=self.url, checksums=self.checksums),)
        index_url = self.url.removesuffix(DATA_SUFFIX) + INDEX_SUFFIX
        return (
            Original(suffix=DATA_SUFFIX, url=self.url, checksums=self.checksums),
            Original(suffix=INDEX_SUFFIX, url=index_url, checksums=self.index),
        )


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The validated registry file."""

    path: Path
    entries: Mapping[str, WeightsEntry]
    tag_lists: Mapping[str, TagList]

    def find(self, name: str) -> WeightsEntry | None:
        """The entry called `name`, in full or by its short name; None where there is none."""
        short = (entry for entry in self.entries.values() if entry.short == name)
        return self.entries.get(name) or next(short, None)

    def bundled_path(self, entry: WeightsEntry) -> Path | None:
        """Where the bundled file of `entry` lies; None for a remote one."""
        return None if entry.file is None else self.path.parent / entry.file


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
