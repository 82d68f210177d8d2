import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from samptag.errors import DatasetError
from samptag.evaluation import Scoring, evaluate_scores
from samptag.evaluation.metrics import macro, pr_auc, roc_auc
from samptag.evaluation.predictions import ScoreTable, Truth

QUICK = Scoring(resamples=200)


def truth(labels, groups=None):
    labels = np.asarray(labels, dtype=float)
    keys = tuple(f"{row}.ogg" for row in range(len(labels)))
    tags = tuple(f"tag {column}" for column in range(labels.shape[1]))
    return Truth(keys=keys, tags=tags, labels=labels, groups=groups or keys, split_name="gt", split_hash="0" * 16)


def scores_of(known, values, name="est.csv"):
    return ScoreTable(name=name, keys=known.keys, tags=known.tags, values=np.asarray(values))


def some_music(seed=0, clips=120, tags=5):
    rng = np.random.default_rng(seed)
    labels = (rng.random((clips, tags)) < 0.3).astype(float)
    return truth(labels, tuple(str(clip // 2) for clip in range(clips))), labels, rng


def test_the_report_holds_scikit_learns_figures_and_its_split():
    known, labels, rng = some_music()
    values = rng.random(labels.shape) + 0.5 * labels
    report = evaluate_scores(scores_of(known, values), truth=known, scoring=QUICK).to_dict()
    assert report["schema"] == "samptag.eval/1"
    assert report["split"] == {"name": "gt", "hash": "0" * 16, "part": None}
    assert (report["clips"], report["groups"], report["model"]) == (120, 60, "est.csv")
    assert report["macro"]["roc_auc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-6)
    assert report["macro"]["pr_auc"] == pytest.approx(average_precision_score(labels, values), abs=1e-6)
    for tag, column, row in zip(report["tags"], labels.T, values.T, strict=True):
        assert tag["positives"] == column.sum()
        assert tag["roc_auc"] == pytest.approx(roc_auc_score(column, row), abs=1e-6)
    for measure in ("roc_auc", "pr_auc"):
        low, high = report["macro"][f"{measure}_ci95"]
        assert low < report["macro"][measure] < high
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_rare_full_and_empty_tags_are_excluded_and_named():
    labels = np.zeros((10, 4))
    labels[:, 1] = 1
    labels[:2, 2] = 1
    labels[:5, 3] = 1
    values = np.random.default_rng(0).random((10, 4))
    known = truth(labels)
    report = evaluate_scores(scores_of(known, values), truth=known, scoring=QUICK)
    assert report.excluded_tags == ("tag 0", "tag 1")
    assert report.macro.roc_auc == pytest.approx(macro(roc_auc(labels, values)))
    stricter = evaluate_scores(scores_of(known, values), truth=known, scoring=Scoring(resamples=10, min_positives=4))
    assert stricter.excluded_tags == ("tag 0", "tag 1", "tag 2")
    assert stricter.macro.pr_auc == pytest.approx(pr_auc(labels, values)[3])


def test_soft_labels_count_above_the_threshold():
    known = truth([[0.2], [0.0], [0.9], [0.0]])
    values = [[0.1], [0.5], [0.9], [0.4]]
    assert evaluate_scores(scores_of(known, values), truth=known, scoring=QUICK).tags[0].positives == 2
    strict = Scoring(positive_above=0.5, resamples=10)
    assert evaluate_scores(scores_of(known, values), truth=known, scoring=strict).tags[0].roc_auc == 1.0


def test_nothing_to_rank_is_an_error_that_says_why():
    known = truth(np.zeros((3, 2)))
    with pytest.raises(DatasetError, match="none of 2 tags has at least 1 positive"):
        evaluate_scores(scores_of(known, np.ones((3, 2))), truth=known, scoring=QUICK)


def test_a_clear_difference_is_called_one_and_its_interval_is_the_paired_one():
    known, labels, rng = some_music()
    noise = rng.random(labels.shape)
    good, poor = scores_of(known, noise + 0.6 * labels), scores_of(known, noise + 0.1 * labels, "other.csv")
    report = evaluate_scores(good, truth=known, against=poor, scoring=QUICK)
    assert report.against.model == "other.csv"
    assert report.against.roc_auc.value == pytest.approx(report.macro.roc_auc - report.against.macro.roc_auc)
    assert report.against.roc_auc.meaningful
    assert "est.csv is higher than other.csv" in report.against.verdict
    swapped = evaluate_scores(poor, truth=known, against=good, scoring=QUICK)
    assert swapped.against.roc_auc.ci95 == pytest.approx([-end for end in reversed(report.against.roc_auc.ci95)])
    assert "other.csv is lower than est.csv" in swapped.against.verdict


def test_an_almost_equal_system_means_nothing_though_both_intervals_are_wide():
    known, labels, rng = some_music()
    values = rng.random(labels.shape) + 0.3 * labels
    report = evaluate_scores(
        scores_of(known, values),
        truth=known,
        against=scores_of(known, values + 0.02 * rng.standard_normal(labels.shape), "other.csv"),
        scoring=QUICK,
    )
    low, high = report.against.roc_auc.ci95
    assert not report.against.roc_auc.meaningful
    assert high - low < (report.macro.roc_auc_ci95[1] - report.macro.roc_auc_ci95[0]) / 2
    assert "means nothing on these 60 groups" in report.against.verdict


def test_a_system_against_itself():
    known, labels, rng = some_music()
    table = scores_of(known, rng.random(labels.shape))
    against = evaluate_scores(table, truth=known, against=table, scoring=QUICK).against
    assert (against.roc_auc.value, against.roc_auc.ci95) == (0.0, (0.0, 0.0))
    assert not against.roc_auc.meaningful
    assert against.agreement.correlation == pytest.approx(1.0)
    assert against.agreement.top_overlap == 1.0


def test_groups_by_clip_and_by_file(tmp_path):
    known, labels, rng = some_music()
    table = scores_of(known, rng.random(labels.shape))
    assert evaluate_scores(table, truth=known, group="clip", scoring=QUICK).groups == 120
    file = tmp_path / "groups.csv"
    file.write_text("path,group\n" + "".join(f"{key},{row % 7}\n" for row, key in enumerate(known.keys)))
    assert evaluate_scores(table, truth=known, group=file, scoring=QUICK).groups == 7
    file.write_text("path,group\n0.ogg,a\n")
    with pytest.raises(DatasetError, match=r"no group for 119 of 120 clips, the first is 1\.ogg"):
        evaluate_scores(table, truth=known, group=file, scoring=QUICK)


def test_one_group_has_no_interval():
    known = truth([[1], [0], [1]], ("band",) * 3)
    report = evaluate_scores(scores_of(known, [[0.9], [0.1], [0.3]]), truth=known, scoring=QUICK).to_dict()
    assert report["macro"] == {"roc_auc": 1.0, "pr_auc": 1.0, "roc_auc_ci95": None, "pr_auc_ci95": None}


def test_files_in_any_order_of_rows_and_columns(tmp_path):
    (tmp_path / "gt.csv").write_text("path,a,b\n1,1,0\n2,0,1\n3,1,1\n")
    (tmp_path / "est.csv").write_text("path,b,extra,a\n3,.6,0,.7\n9,0,0,0\n1,.1,0,.8\n2,.9,0,.2\n")
    report = evaluate_scores(tmp_path / "est.csv", truth=tmp_path / "gt.csv", scoring=QUICK)
    assert (report.macro.roc_auc, report.split_name) == (1.0, "gt.csv")
    assert report.warnings == ("est.csv: 1 of 4 rows are not in the truth and were left out",)


def test_scoring_files_loads_no_torch(tmp_path):
    (tmp_path / "t.csv").write_text("path,a\n1,1\n2,0\n")
    code = (
        "import sys; from samptag.evaluation import evaluate_scores; "
        "evaluate_scores(sys.argv[1], truth=sys.argv[1]); "
        "print({'torch', 'numba', 'resampy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t.csv")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")
