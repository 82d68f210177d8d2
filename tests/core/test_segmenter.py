"""Segments of a stream: the same however it is chopped, every sample where promised, nothing kept."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samptag.core.segmenter import Segmenter

TAILS = ("overlap", "pad", "drop")


def segments_of(stream: np.ndarray, cuts: list[int], length: int, hop: int, tail: str) -> tuple[np.ndarray, Segmenter]:
    segmenter = Segmenter(length, hop=hop, tail=tail)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [segmenter.push(stream[a:b]) for a, b in pairwise(edges)]
    return np.concatenate([*parts, segmenter.finish()]), segmenter


def by_definition(stream: np.ndarray, length: int, hop: int, tail: str) -> np.ndarray:
    """The segments of a whole stream, written down from the documentation."""
    n = len(stream)
    if n == 0:
        return np.empty((0, length), np.float32)
    if n < length:
        return np.pad(stream, (0, length - n))[None]
    starts = list(range(0, n - length + 1, hop))
    segments = [stream[s : s + length] for s in starts]
    if starts[-1] + length < n:
        following = starts[-1] + hop
        if tail == "overlap":
            segments.append(stream[-length:])
        elif tail == "pad" and following < n:
            segments.append(np.pad(stream[following:], (0, length - (n - following))))
    return np.stack(segments)


# A ramp: every sample is told from every other by its value.
streams = st.integers(0, 200).map(lambda n: np.arange(1, n + 1, dtype=np.float32))
cuts = st.lists(st.integers(0, 200), max_size=30)
lengths = st.integers(1, 40)
hops = st.integers(1, 90)
tails = st.sampled_from(TAILS)


@given(streams, cuts, lengths, hops, tails)
def test_any_chopping_gives_the_segments_of_the_whole(stream, cuts, length, hop, tail):
    segments, segmenter = segments_of(stream, cuts, length, hop, tail)
    np.testing.assert_array_equal(segments, by_definition(stream, length, hop, tail))
    assert segments.dtype == np.float32
    assert segmenter.n_samples == len(stream)
    assert segmenter.padded == bool((segments == 0).any())


@given(streams, cuts, lengths, st.sampled_from(["overlap", "pad"]))
def test_at_hop_equal_to_length_every_sample_is_heard(stream, cuts, length, tail):
    segments, _ = segments_of(stream, cuts, length, length, tail)
    assert set(stream) <= set(segments.ravel())


@given(streams, lengths, hops, tails)
def test_sample_by_sample_is_the_same(stream, length, hop, tail):
    segments, _ = segments_of(stream, list(range(len(stream))), length, hop, tail)
    np.testing.assert_array_equal(segments, by_definition(stream, length, hop, tail))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("n", "count", "padded"), [(0, 0, False), (1, 1, True), (9, 1, True), (10, 1, False)])
def test_streams_of_up_to_a_segment(tail: str, n: int, count: int, padded: bool):
    stream = np.arange(1, n + 1, dtype=np.float32)
    segments, segmenter = segments_of(stream, [], 10, 10, tail)
    assert segments.shape == (count, 10)
    assert segmenter.padded is padded
    np.testing.assert_array_equal(segments.ravel()[:n], stream)


def test_real_music_in_odd_blocks(music):
    mono = music.samples.mean(axis=1)
    segments, segmenter = segments_of(mono, list(range(0, len(mono), 4_001)), 59_049, 59_049, "overlap")
    assert len(segments) == len(mono) // 59_049 + 1
    np.testing.assert_array_equal(segments[-1], mono[-59_049:])
    np.testing.assert_array_equal(segments[:-1].ravel(), mono[: (len(segments) - 1) * 59_049])
    assert not segmenter.padded


def test_segments_are_copies():
    segmenter = Segmenter(4, hop=2)
    block = np.arange(8, dtype=np.float32)
    first = segmenter.push(block)
    kept = first.copy()
    block[:] = -1
    segmenter.push(np.full(100, -2, np.float32))
    np.testing.assert_array_equal(first, kept)


def test_what_is_kept_does_not_grow_with_the_stream():
    segmenter = Segmenter(1000, hop=1000)

    def held() -> int:
        return sum(value.nbytes for value in vars(segmenter).values() if isinstance(value, np.ndarray))

    segmenter.push(np.zeros(10, np.float32))
    at_first = held()
    for _ in range(50):
        segmenter.push(np.zeros(77_777, np.float32))
    assert held() == at_first


@pytest.mark.parametrize(("length", "hop", "tail"), [(0, 1, "pad"), (1, 0, "pad"), (-5, 1, "pad"), (1, 1, "wrap")])
def test_impossible_settings_are_refused(length: int, hop: int, tail: str):
    with pytest.raises(ValueError, match=r"at least 1 sample|one of overlap, pad, drop"):
        Segmenter(length, hop=hop, tail=tail)


def test_blocks_of_several_channels_are_refused():
    with pytest.raises(ValueError, match=r"one dimension, not shape \(3, 2\)"):
        Segmenter(10, hop=10).push(np.zeros((3, 2), np.float32))
