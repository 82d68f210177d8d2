"""The named splits, and the one a manifest without a split column gets."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from samptag.errors import DatasetError

__all__ = ["choose_split", "named_part", "split_by_group"]

_WORDS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
_SHARES = (("test", 0.1), ("valid", 0.1))


def choose_split(name: str | None, *, known: Sequence[str], format: str) -> str:
    """`name`, or the first of `known` when it is None.

    Raises
    ------
    DatasetError
        The data set has no split of that name.
    """
    if name is None:
        return known[0]
    if name not in known:
        raise DatasetError(f"{format} has no split {name!r}: choose {', '.join(known)}")
    return name


def named_part(word: str) -> str | None:
    """train, valid or test for the words people write for them, None for any other."""
    word = word.strip().lower()
    return next((part for part, words in _WORDS.items() if word in words), None)


def split_by_group(groups: Sequence[str]) -> list[str]:
    """One split for every clip, from its group alone: about a tenth of the clips to test, a tenth to valid.

    Groups are taken in the order of the sha256 of their names, so the order of the rows does not matter, no group is
    on two sides, and a set that grows keeps nearly all of its clips where they were. With three groups or more no
    split is empty; with two, test is; with one, valid too.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest())
    chosen: dict[str, str] = {}
    position = 0
    for split, share in _SHARES[3 - min(len(order), 3) :]:
        count = 0
        # At least one group, and none that would bring the split more than half a group beyond its share.
        while count == 0 or count + sizes[order[position]] / 2 < share * len(groups):
            if position + 1 >= len(order):
                break
            chosen[order[position]] = split
            count += sizes[order[position]]
            position += 1
    return [chosen.get(group, "train") for group in groups]
