"""What every data set becomes: a named split of clips with one label vector each; and how a split is chosen or made."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samptag.errors import DatasetError

PARTS = ("train", "valid", "test")
"""The parts of every split; `named_part` knows other words for them."""

_WORDS = {"train": ("train", "training"), "valid": ("valid", "validation", "val", "dev"), "test": ("test", "testing")}
_SHARES = (("test", 0.1), ("valid", 0.1))

# missing: listed but absent; unreadable: no sound in it; damaged: only part of it decodes; short: shorter than the
# split's rule; unlisted: present but not listed; left-out: rows and columns that are set aside; split: a part that is
# empty or not of its published size; tag: a tag without positives.
ProblemKind = Literal["missing", "unreadable", "damaged", "short", "unlisted", "left-out", "split", "tag"]

_USUAL_WORDS: dict[ProblemKind, str] = {
    "missing": "listed but missing",
    "unlisted": "present but not listed",
    "unreadable": "holds no audio (0 bytes)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One audio file of a data set."""

    path: Path
    key: str  # unique name inside the data set: the posix path relative to the folder that holds the audio
    part: str  # "train", "valid" or "test"
    labels: NDArray[np.float32]  # (n_tags,), in [0, 1]
    group: str  # the track (or artist) the clip comes from; bootstrap intervals resample groups


@dataclass(frozen=True)
class Problem:
    """One thing that a person should know about a data set."""

    kind: ProblemKind
    path: str
    message: str

    @classmethod
    def of(cls, kind: ProblemKind, key: str, words: str | None = None) -> Problem:
        """The problem of one file; the message is its `key` and the words, by default the usual ones for the kind."""
        return cls(kind, key, f"{key}: {words or _USUAL_WORDS[kind]}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set under one named split."""

    format: str  # "mtat", "msd", "jamendo", "manifest", "folders" or "music"
    root: Path  # the folder or manifest it was opened from
    split_name: str  # for example "mtat-clean-2017"; shown beside every score
    split_hash: str  # `split_hash` of the clips: 16 hexadecimal digits
    tags: tuple[str, ...]  # the order of every label vector
    clips: tuple[Clip, ...]  # train, then valid, then test; inside a part in the order of the listing
    problems: tuple[Problem, ...] = ()
    # One category per tag ("genre", "instrument", ...) if the data set has them.
    tag_categories: tuple[str, ...] | None = None

    def select(self, part: str) -> tuple[Clip, ...]:
        """The clips of one part, in order; a DatasetError if it has none, or is not train, valid or test."""
        if part not in PARTS:
            raise DatasetError(f"there is no part {part!r}: choose {', '.join(PARTS)}")
        chosen = tuple(clip for clip in self.clips if clip.part == part)
        if not chosen:
            empty = f"split {self.split_name} has no {part} clips"
            raise DatasetError(f"{self.root}: {empty}; 'samptag data check' says why")
        return chosen

    @property
    def unusable(self) -> tuple[Problem, ...]:
        """The listed clips that are not among `clips`: missing, unreadable, or shorter than the split allows."""
        return tuple(problem for problem in self.problems if problem.kind in ("missing", "unreadable", "short"))

    def counts(self) -> dict[str, int]:
        """The number of clips per part."""
        counts = Counter(clip.part for clip in self.clips)
        return {part: counts[part] for part in PARTS}

    def positives(self) -> NDArray[np.int64]:
        """The number of clips that carry each tag, in the order of `PARTS`, shape (3, n_tags)."""
        counts = np.zeros((len(PARTS), len(self.tags)), dtype=np.int64)
        for clip in self.clips:
            counts[PARTS.index(clip.part)] += clip.labels > 0
        return counts


def split_hash(members: Iterable[tuple[str, str]]) -> str:
    """The first 16 hexadecimal digits of the sha256 over sorted (key, part) pairs: the same clips, the same hash."""
    digest = hashlib.sha256()
    for key, part in sorted(members):
        digest.update(f"{part}\0{key}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def make_dataset(
    *,
    format: str,
    root: Path,
    split_name: str,
    tags: tuple[str, ...],
    clips: Iterable[Clip],
    problems: Sequence[Problem] = (),
    tag_categories: tuple[str, ...] | None = None,
    published: dict[str, int] | None = None,
) -> Dataset:
    """A `Dataset`, its clips ordered by part, with problems of parts and tags noted; a DatasetError without clips.

    `published` is the published number of clips in each part, if there is one.
    """
    ordered = tuple(sorted(clips, key=lambda clip: PARTS.index(clip.part)))
    if not ordered:
        first = f": {problems[0].message}" if problems else ""
        raise DatasetError(f"{root}: no clip of {split_name} can be used{first}")
    dataset = Dataset(
        format=format,
        root=root,
        split_name=split_name,
        split_hash=split_hash((clip.key, clip.part) for clip in ordered),
        tags=tags,
        clips=ordered,
        tag_categories=tag_categories,
    )
    return replace(dataset, problems=(*problems, *_split_problems(dataset, published or {})))


def _split_problems(dataset: Dataset, published: dict[str, int]) -> Iterator[Problem]:
    groups = {part: {clip.group for clip in dataset.clips if clip.part == part} for part in PARTS}
    for one, other in combinations(PARTS, 2):
        shared = sorted(groups[one] & groups[other])
        if shared:
            message = f"{len(shared)} groups have clips in both {one} and {other}, such as {shared[0]!r}"
            yield Problem("split", one, message)
    counts = dataset.counts()
    for part, count in counts.items():
        if count == 0:
            yield Problem("split", part, f"{part} has no clips")
        elif count != published.get(part, count):
            yield Problem("split", part, f"{part} has {count} clips, the published split {published[part]}")
    for part, positives in zip(PARTS, dataset.positives().tolist(), strict=True):
        for tag, count in zip(dataset.tags, positives, strict=True):
            if count == 0 and counts[part]:
                yield Problem("tag", tag, f"{tag!r} has no positives in {part}")


def named_part(word: str) -> str | None:
    """train, valid or test for the words people write for them, None for any other."""
    word = word.strip().lower()
    return next((part for part, words in _WORDS.items() if word in words), None)


def split_by_group(groups: Sequence[str]) -> list[str]:
    """A part for every clip, by its group's sha256 alone: a tenth of the clips goes to test, a tenth to valid.

    A set that grows therefore keeps nearly all of its clips where they were. With three groups or more no part is
    empty; with two, test is; with one, valid is too.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest())
    chosen: dict[str, str] = {}
    position = 0
    for part, share in _SHARES[3 - min(len(order), 3) :]:
        count = 0
        # At least one group, and none that would bring the part more than half a group beyond its share.
        while count == 0 or count + sizes[order[position]] / 2 < share * len(groups):
            if position + 1 >= len(order):
                break
            chosen[order[position]] = part
            count += sizes[order[position]]
            position += 1
    return [chosen.get(group, "train") for group in groups]
