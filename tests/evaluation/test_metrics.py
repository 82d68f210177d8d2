import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from samptag.evaluation.metrics import agreement, macro, pr_auc, present, roc_auc


def table(*, clips, tags, levels, seed):
    """Labels and scores with many ties: every score is one of `levels` values, higher for positives on average."""
    rng = np.random.default_rng(seed)
    labels = rng.random((clips, tags)) < 0.3
    scores = np.round((rng.random((clips, tags)) + 0.4 * labels) * levels) / levels
    return labels, scores


@pytest.mark.parametrize("levels", [2, 10, 1_000_000])
def test_per_tag_values_are_scikit_learns(levels):
    labels, scores = table(clips=60, tags=4, levels=levels, seed=levels)
    for tag in range(4):
        assert roc_auc(labels, scores)[tag] == pytest.approx(roc_auc_score(labels[:, tag], scores[:, tag]))
        assert pr_auc(labels, scores)[tag] == pytest.approx(average_precision_score(labels[:, tag], scores[:, tag]))


def test_known_values_by_hand():
    labels = np.array([[1], [0], [1], [0]])
    scores = np.array([[0.9], [0.8], [0.7], [0.7]])
    # 4 pairs: 0.9 beats both negatives, 0.7 loses to 0.8 and ties with 0.7
    assert roc_auc(labels, scores)[0] == pytest.approx(2.5 / 4)
    # precision 1 at the first positive, 2/4 at the tied pair
    assert pr_auc(labels, scores)[0] == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_equal_scores_are_chance():
    labels = np.array([[1], [0], [0], [0]])
    assert roc_auc(labels, np.full((4, 1), 0.5))[0] == 0.5
    assert pr_auc(labels, np.full((4, 1), 0.5))[0] == 0.25


def test_tags_that_cannot_be_ranked_are_nan_and_leave_the_macro_alone():
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.3], [0.1, 0.3, 0.1]])
    for measure in (roc_auc, pr_auc):
        values = measure(labels, scores)
        np.testing.assert_array_equal(np.isnan(values), [False, True, True])
        assert macro(values) == 1.0
    assert np.isnan(macro([np.nan, np.nan]))


def test_soft_labels_count_as_present_above_the_threshold():
    shares = np.array([[0.0], [0.2], [0.6], [1.0]])
    np.testing.assert_array_equal(present(shares).ravel(), [False, True, True, True])
    np.testing.assert_array_equal(present(shares, positive_above=0.5).ravel(), [False, False, True, True])
    scores = np.array([[0.8], [0.1], [0.6], [0.7]])
    assert roc_auc(shares, scores)[0] == 0.0
    assert roc_auc(present(shares, positive_above=0.5), scores)[0] == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        roc_auc([[1], [0]], [[bad], [0.1]])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(2, 2\)"):
        pr_auc([[1], [0]], [[0.1, 0.2], [0.3, 0.4]])


def test_agreement_of_a_set_with_itself_and_with_its_mirror():
    scores = np.random.default_rng(0).random((40, 8))
    same = agreement(scores, reference=scores)
    assert same.correlation == pytest.approx(1.0)
    assert same.top_overlap == 1.0
    mirrored = agreement(scores, reference=1 - scores, top=4)
    assert mirrored.correlation == pytest.approx(-1.0)
    assert mirrored.top_overlap == 0.0


def test_agreement_is_numpys_correlation_and_leaves_out_a_constant_tag():
    rng = np.random.default_rng(1)
    ours, theirs = rng.random((2, 30, 3))
    theirs[:, 1] = 0.5
    found = agreement(ours, reference=theirs, top=1)
    expected = [np.corrcoef(ours[:, t], theirs[:, t])[0, 1] for t in (0, 2)]
    assert found.correlation == pytest.approx(np.mean(expected))
    assert found.top_overlap == pytest.approx(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))


def test_agreement_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(np.zeros((2, 3)), reference=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        agreement(np.zeros((2, 3)), reference=np.zeros((2, 3)), top=5)
