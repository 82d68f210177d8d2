"""Which stretch of a sound each segment stands for, and means over equal parts of it."""

import numpy as np
import pytest

from samptag.report.timeline import column_means, segment_edges


def test_touching_segments_have_their_borders_where_they_touch():
    edges = segment_edges(np.array([0.0, 2.0, 4.0]), duration=6.0, segment_seconds=2.0)
    assert edges.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_a_last_segment_that_overlaps_shares_the_overlap():
    edges = segment_edges(np.array([0.0, 2.0, 3.0]), duration=5.0, segment_seconds=2.0)
    assert edges.tolist() == [0.0, 2.0, 3.5, 5.0]


def test_one_padded_segment_is_the_whole_sound():
    assert segment_edges(np.array([0.0]), duration=0.7, segment_seconds=2.0).tolist() == [0.0, 0.7]


def test_segments_closer_than_their_length_stay_inside_the_sound():
    edges = segment_edges(np.arange(0, 3, 0.25), duration=4.75, segment_seconds=2.0)
    assert edges[0] == 0
    assert edges[-1] == 4.75
    assert (np.diff(edges) > 0).all()
    assert edges[1] == pytest.approx(1.125)  # between the centres at 1 and 1.25 s


@pytest.mark.parametrize("columns", [1, 3, 7, 100])
def test_columns_keep_the_mean(columns: int):
    scores = np.random.default_rng(3).random((9, 4)).astype(np.float32)
    edges = segment_edges(np.arange(9) * 2.0, duration=17.5, segment_seconds=2.0)
    means = column_means(scores, edges, columns=columns)
    assert means.shape == (4, columns)
    np.testing.assert_allclose(means.mean(axis=1), np.diff(edges) @ scores / 17.5, atol=1e-6)
    assert means.min() >= scores.min() - 1e-6
    assert means.max() <= scores.max() + 1e-6


def test_a_column_for_each_segment_is_the_taggram():
    scores = np.random.default_rng(3).random((5, 2)).astype(np.float32)
    edges = segment_edges(np.arange(5) * 2.0, duration=10.0, segment_seconds=2.0)
    np.testing.assert_allclose(column_means(scores, edges, columns=5), scores.T, atol=1e-6)
