"""The named splits, and the one a manifest without a split column gets."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from samptag.errors import DatasetError

__all__ = ["MTAT_PUBLISHED_COUNTS", "choose_split", "mtat_folder_split", "split_by_group"]

#: Lee, Park, Kim, Nam 2017: clips with at least one of the 50 tags and at least 29.1 s of audio, folders 0-b, c, d-f.
MTAT_PUBLISHED_COUNTS = {"train": 15_244, "valid": 1_529, "test": 4_332}

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


def mtat_folder_split(folder: str) -> str | None:
    """The split of a MagnaTagATune folder: 0-9, a, b train; c valid; d, e, f test; None for any other name."""
    if len(folder) != 1 or folder not in "0123456789abcdef":
        return None
    number = int(folder, 16)
    return "train" if number < 12 else "valid" if number == 12 else "test"


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
