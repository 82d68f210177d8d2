import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from samptag.evaluation import metrics
from samptag.evaluation.metrics import (
    agreement,
    cutoff,
    interval,
    macro,
    pr_auc,
    present,
    resample,
    roc_auc,
    weighted_auc,
)


def table(*, clips, tags, levels, seed):
    """Labels and scores with many ties: every score is one of `levels` values, higher for positives on average."""
    rng = np.random.default_rng(seed)
    labels = rng.random((clips, tags)) < 0.3
    labels[0], labels[1] = True, False
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


def assert_same_as_scikit_learn(labels, scores, weights):
    for y, s in zip(labels.T, scores.T, strict=True):
        roc, pr = weighted_auc(y, s, weights)
        for draw, w in enumerate(weights.T):
            assert roc[draw] == pytest.approx(roc_auc_score(y, s, sample_weight=w), abs=1e-12)
            assert pr[draw] == pytest.approx(average_precision_score(y, s, sample_weight=w), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 20, 10**9])
def test_weighted_measures_are_scikit_learns_whatever_the_ties(levels):
    labels, scores = table(clips=80, tags=5, levels=levels, seed=levels)
    weights = np.random.default_rng(levels).integers(0, 4, size=(80, 6)).astype(float)
    weights[:2] = 1  # a positive and a negative stay in every draw
    assert_same_as_scikit_learn(labels, scores, weights)


def test_weighted_measures_with_fractional_weights_and_float32_scores():
    labels, scores = table(clips=50, tags=3, levels=7, seed=5)
    assert_same_as_scikit_learn(labels, scores.astype(np.float32), np.random.default_rng(5).random((50, 4)) + 0.01)


@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_single_positive_anywhere(place):
    labels = np.zeros((10, 1), dtype=bool)
    labels[place] = True
    scores = np.linspace(1, 0, 10)[:, None]
    assert_same_as_scikit_learn(labels, scores, np.ones((10, 1)))
    assert_same_as_scikit_learn(labels, np.full((10, 1), 0.5), np.ones((10, 1)))


def test_every_positive_in_one_run_of_equal_scores_at_the_end():
    labels = np.array([0, 0, 0, 1, 1], dtype=bool)[:, None]
    assert_same_as_scikit_learn(labels, np.array([3.0, 2, 1, 1, 1])[:, None], np.array([[1.0, 2, 1, 3, 1]]).T)


def test_a_draw_without_positives_or_without_negatives_is_nan():
    labels = np.array([1, 0, 0], dtype=bool)
    weights = np.array([[0, 1, 1], [2, 0, 0], [1, 1, 0]], dtype=float).T
    for area in weighted_auc(labels, np.array([0.9, 0.5, 0.1]), weights):
        np.testing.assert_array_equal(np.isnan(area), [True, True, False])


def test_a_resample_is_the_data_repeated():
    """Scoring a draw by weights equals scoring the clips written out as often as they were drawn."""
    labels, scores = table(clips=30, tags=3, levels=9, seed=2)
    groups = [f"track {clip // 2}" for clip in range(30)]
    roc, pr = resample(labels, scores, groups=groups, resamples=7, seed=11)
    names = sorted(set(groups))
    drawn = np.random.default_rng(11).integers(15, size=(7, 15))
    for draw, chosen in enumerate(drawn):
        rows = [clip for g in chosen for clip in range(30) if groups[clip] == names[g]]
        assert roc[draw] == pytest.approx(macro(roc_auc(labels[rows], scores[rows])))
        assert pr[draw] == pytest.approx(macro(pr_auc(labels[rows], scores[rows])))


def test_the_seed_decides_the_draws():
    labels, scores = table(clips=300, tags=4, levels=50, seed=3)
    groups = [str(clip) for clip in range(300)]
    first, again, other = (resample(labels, scores, groups=groups, resamples=300, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_draws_in_pieces_are_the_same_draws(monkeypatch):
    labels, scores = table(clips=300, tags=4, levels=50, seed=3)
    groups = [str(clip // 3) for clip in range(300)]
    whole = resample(labels, scores, groups=groups, resamples=300, seed=1)
    monkeypatch.setattr(metrics, "_WEIGHTS_AT_ONCE", 5000)
    np.testing.assert_array_equal(resample(labels, scores, groups=groups, resamples=300, seed=1), whole)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Scores of a known ROC-AUC (two normals one standard deviation apart: 0.7602), 60 experiments of 150 tracks."""
    inside = 0
    for experiment in range(60):
        rng = np.random.default_rng(experiment)
        labels = rng.random((150, 1)) < 0.5
        scores = rng.normal(size=(150, 1)) + labels
        drawn, _ = resample(labels, scores, groups=[str(i) for i in range(150)], resamples=400, seed=0)
        low, high = interval(drawn, estimate=roc_auc(labels, scores)[0])
        inside += low <= 0.7602 <= high
    assert inside >= 52  # 95 % of 60 is 57; fewer than 52 has a probability below 2 %, and the seeds are fixed


def test_the_interval_of_average_precision_is_not_lifted_by_repeats():
    """20 rare tags at chance, 63 clips: plain percentiles lie above the mean PR-AUC of such samples, 0.249."""
    inside = plain = 0
    for experiment in range(40):
        rng = np.random.default_rng(experiment)
        labels, scores = rng.random((63, 20)) < np.linspace(0.05, 0.35, 20), rng.random((63, 20))
        _, drawn = resample(labels, scores, groups=[str(i) for i in range(63)], resamples=200, seed=0)
        low, high = interval(drawn, estimate=macro(pr_auc(labels, scores)))
        inside += low <= 0.249 <= high
        plain += np.quantile(drawn, 0.025) <= 0.249 <= np.quantile(drawn, 0.975)
    assert inside >= 34
    assert plain <= 26


def test_clips_of_one_track_widen_the_interval():
    """Four copies of every clip hold no more information than one, and only grouping by track knows it."""
    labels, scores = table(clips=60, tags=2, levels=10**6, seed=8)
    labels, scores = np.repeat(labels, 4, axis=0), np.repeat(scores, 4, axis=0)

    def width(groups):
        drawn, _ = resample(labels, scores, groups=groups, resamples=500, seed=0)
        low, high = interval(drawn, estimate=macro(roc_auc(labels, scores)))
        return high - low

    assert width([str(i // 4) for i in range(240)]) > 1.5 * width([str(i) for i in range(240)])


def test_nothing_to_rank_gives_no_interval():
    drawn = resample(np.zeros((4, 2), dtype=bool), np.ones((4, 2)), groups=list("abcd"), resamples=5, seed=0)
    assert np.isnan(drawn).all()
    assert all(np.isnan(end) for end in interval(drawn[0], estimate=0.5))


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
