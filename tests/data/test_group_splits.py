from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samptag.data.dataset import split_by_group, split_hash
from samptag.data.formats.mtat import FOLDER_PARTS

GROUPS = st.lists(st.text(max_size=8), min_size=1, max_size=40)


@given(GROUPS, st.randoms(use_true_random=False))
def test_a_group_is_in_one_part_whatever_the_order(groups, random):
    part_of = dict(zip(groups, split_by_group(groups), strict=True))
    shuffled = list(groups)
    random.shuffle(shuffled)
    assert dict(zip(shuffled, split_by_group(shuffled), strict=True)) == part_of


@given(GROUPS)
def test_no_part_is_empty_when_there_are_groups_enough(groups):
    expected = {1: {"train"}, 2: {"train", "valid"}}.get(len(set(groups)), {"train", "valid", "test"})
    assert set(split_by_group(groups)) == expected


@pytest.mark.parametrize("count", [50, 1000, 10_000])
def test_a_tenth_each_to_valid_and_test(count):
    counts = Counter(split_by_group([f"song {number}" for number in range(count)]))
    assert counts["test"] == pytest.approx(count / 10, abs=1)
    assert counts["valid"] == pytest.approx(count / 10, abs=1)


def test_a_growing_set_keeps_nearly_all_its_parts():
    before = [f"song {number}" for number in range(1000)]
    after = [*before, *(f"new {number}" for number in range(50))]
    old, new = split_by_group(before), split_by_group(after)
    assert sum(a != b for a, b in zip(old, new, strict=False)) <= 20


def test_folders_of_magnatagatune():
    assert [FOLDER_PARTS[folder] for folder in "0123456789abcdef"] == ["train"] * 12 + ["valid"] + ["test"] * 3
    assert len(FOLDER_PARTS) == 16


def test_the_hash_is_of_the_clips_with_their_parts():
    members = [("0/a.mp3", "train"), ("c/b.mp3", "valid")]
    assert split_hash(members) == split_hash(reversed(members)) == "a99c06d9e19046d7"
    assert split_hash(members) != split_hash([("0/a.mp3", "valid"), ("c/b.mp3", "train")])
    assert split_hash([("a\udcff.mp3", "train")])
