"""The nearest embeddings, against all of them sorted."""

import numpy as np

from samptag.tagging.alike import ROWS_AT_ONCE, nearest


def test_nearest_are_those_of_a_full_sort():
    rows = np.random.default_rng(0).random((2 * ROWS_AT_ONCE + 30, 20)).astype(np.float32) + 3
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = centred @ centred.T
    np.fill_diagonal(cosines, -2)
    expected = np.argsort(-cosines, axis=1)[:, :5]
    assert (nearest(rows, count=5) == expected).mean() > 0.999  # rounding may swap two that are all but equal


def test_twins_find_each_other_and_never_themselves():
    rows = np.random.default_rng(1).random((40, 8)).astype(np.float32)
    rows[20:] = rows[:20]
    found = nearest(rows, count=3)
    assert (found[:, 0] == (np.arange(40) + 20) % 40).all()
    assert not (found == np.arange(40)[:, None]).any()
