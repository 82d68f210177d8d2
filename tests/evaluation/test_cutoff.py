"""From which score on a learned word is decided."""

import numpy as np
import pytest

from samptag.evaluation.metrics import cutoff


@pytest.mark.parametrize(
    ("bears", "scores", "limit", "precision"),
    [
        ("1111011000", (9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 2.5, 6 / 7),  # four of five are right down to 3
        ("1111000000", (9, 8, 7, 6, 6, 6, 3, 2, 1, 0), 6.5, 1.0),  # equal scores fall on one side of it
        ("1010101000", (9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 2.5, 4 / 7),  # never that sure
        ("1110000000", (9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 6.5, 1.0),  # sure of three songs only: best F1
        ("1111", (4, 3, 2, 1), 0.5, 1.0),
    ],
)
def test_cutoff(bears: str, scores: tuple[int, ...], limit: float, precision: float):
    answers, values = np.array([letter == "1" for letter in bears]), np.array(scores, float)
    backwards = cutoff(answers[::-1], values[::-1], or_best=True)
    assert cutoff(answers, values, or_best=True) == backwards == pytest.approx((limit, precision))
