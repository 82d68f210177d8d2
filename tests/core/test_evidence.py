"""Evidence in a weights file's card: what is stored comes back, reads as a sentence, and nonsense is refused."""

import re
from dataclasses import replace

import pytest

from samptag.core.card import Concept, CutoffEvidence, Evidence, ModelCard
from samptag.core.config import ModelConfig

HUMAN = {"kind": "human", "n": 21, "of": 63, "roc_auc": 0.914, "data": "63 tracks"}
TEACHERS = {"kind": "teachers", "correlation": 0.93, "tracks": 32, "teachers": ["one", "two"]}
BARE = ModelCard(
    name="tiny",
    config=ModelConfig(n_tags=3),
    tags=("guitar", "sitar", "piano"),
    licence="CC0-1.0",
    training_data="none",
)
CARD = replace(
    BARE,
    cutoffs={"guitar": 0.4, "sitar": 0.2},
    cutoff_evidence={"guitar": CutoffEvidence(precision=0.8, on="human")},
    evidence={
        "guitar": Evidence.from_dict("guitar", {**HUMAN, "roc_auc_interval": [0.85, 1], "pr_auc": 0}),
        "sitar": Evidence.from_dict("sitar", TEACHERS),
        "piano": Evidence(kind="none"),
    },
    concepts={"strings": Concept(tags=("guitar", "sitar"), against=("piano",), evidence=Evidence(kind="none"))},
)


def test_a_card_comes_back_and_one_without_evidence_is_as_before():
    assert ModelCard.from_dict(CARD.to_dict()) == CARD
    assert ModelCard.from_dict(BARE.to_dict()) == BARE
    new = {"cutoffs", "cutoff_evidence", "evidence", "concepts"}
    assert not new & BARE.to_dict().keys()
    assert set(CARD.to_dict()) == {*BARE.to_dict(), *new}
    assert CARD.to_dict()["evidence"]["guitar"] == {**HUMAN, "roc_auc_interval": [0.85, 1], "pr_auc": 0}


@pytest.mark.parametrize(
    ("record", "text", "source"),
    [
        (HUMAN, "people's tags: ROC-AUC .91, on 21 of 63 tracks", "63 tracks"),
        (
            {**HUMAN, "roc_auc_interval": [0.85, 1], "pr_auc": 0.705, "pr_auc_interval": [0.6, 0.8]},
            "people's tags: ROC-AUC .91 (.85 to 1.00), PR-AUC .70 (.60 to .80), on 21 of 63 tracks",
            "63 tracks",
        ),
        (TEACHERS, "its teachers: correlation .93 on 32 tracks", "one, two"),
        (
            {**TEACHERS, "correlation": -0.05, "segments": 1223, "published": "ROC-AUC .91 on theirs"},
            "its teachers: correlation -.05 on 32 tracks (1223 segments); they themselves: ROC-AUC .91 on theirs",
            "one, two",
        ),
        ({"kind": "none"}, "unverified", ""),
    ],
)
def test_it_reads_as_a_sentence(record, text, source):
    evidence = Evidence.from_dict("x", record)
    assert (evidence.text, evidence.source) == (text, source)


def test_a_cutoff_says_who_confirms_it():
    assert CutoffEvidence(precision=0.8, on="human").text == "right in 80% by people"
    assert CutoffEvidence(precision=0.755, on="teachers").text == "right in 76% by its teachers"


def without(record, name):
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("field", "record", "message"),
    [
        ("evidence", {"oboe": {"kind": "none"}}, "it has evidence for 'oboe', which is not one of its tags"),
        ("evidence", {"guitar": "good"}, "the evidence of 'guitar' in its card must be an object"),
        ("evidence", {"guitar": {}}, "the evidence of 'guitar' in its card has no kind"),
        ("evidence", {"guitar": {"kind": "hearsay"}}, "the kind of evidence must be 'human' or 'teachers' or 'none'"),
        ("evidence", {"guitar": {"kind": "none", "colour": 1}}, "has the unknown field 'colour'"),
        ("evidence", {"guitar": {"kind": "none", "n": 3}}, "evidence of the kind 'none' has no 'n'"),
        *(
            ("evidence", {"guitar": without(HUMAN, name)}, f"evidence of the kind 'human' needs '{name}'")
            for name in ("n", "of", "roc_auc", "data")
        ),
        *(
            ("evidence", {"guitar": without(TEACHERS, name)}, f"evidence of the kind 'teachers' needs '{name}'")
            for name in ("correlation", "tracks", "teachers")
        ),
        ("evidence", {"guitar": {**HUMAN, "n": 64}}, "'n' at most 'of'"),
        ("evidence", {"guitar": {**HUMAN, "n": 0}}, "must be at least 1"),
        ("evidence", {"guitar": {**HUMAN, "n": True}}, "must be a whole number"),
        ("evidence", {"guitar": {**HUMAN, "roc_auc": 91}}, "the roc_auc 91 is not between 0 and 1"),
        ("evidence", {"guitar": {**HUMAN, "roc_auc": float("nan")}}, "is not between 0 and 1"),
        ("evidence", {"guitar": {**HUMAN, "roc_auc_interval": [0.9, 0.8]}}, "is not the low and high"),
        ("evidence", {"guitar": {**HUMAN, "roc_auc_interval": [0.9]}}, "is not the low and high"),
        ("evidence", {"guitar": {**HUMAN, "roc_auc_interval": ["a", "b"]}}, "must be a number"),
        ("evidence", {"guitar": {**HUMAN, "pr_auc_interval": [0.8, 0.9]}}, "is not the low and high of a figure"),
        ("evidence", {"guitar": {**TEACHERS, "correlation": 1.5}}, "not between -1 and 1"),
        ("evidence", {"guitar": {**TEACHERS, "teachers": [3]}}, "its teachers must be names"),
        ("evidence", {"guitar": {**TEACHERS, "teachers": "one"}}, "must be a list"),
        ("cutoff_evidence", {"piano": {"precision": 0.8, "on": "human"}}, "for a cut-off of 'piano', but no such"),
        ("cutoff_evidence", {"guitar": {"precision": 80, "on": "human"}}, "the precision 80 is not between 0 and 1"),
        (
            "cutoff_evidence",
            {"guitar": {"precision": 0.8, "on": "me"}},
            "its 'on' must be 'human' or 'teachers', not 'me'",
        ),
        ("cutoff_evidence", {"guitar": {"precision": 0.8}}, "the cut-off of 'guitar' in its card has no on"),
        ("concepts", {"x": {"tags": [], "evidence": {"kind": "none"}}}, "the concept 'x' in its card: it has no tags"),
        ("concepts", {"x": {"tags": ["oboe"], "evidence": {"kind": "none"}}}, "evidence for 'oboe', which is not one"),
        ("concepts", {"x": {"tags": ["guitar"]}}, "the concept 'x' in its card has no evidence"),
        ("concepts", {"x": {"tags": ["guitar"], "evidence": 3}}, "must be an object, not 3"),
        (
            "concepts",
            {"x": {"tags": ["guitar"], "evidence": None}},
            "the evidence of the concept 'x' in its card must be an object",
        ),
        ("concepts", [], "the concepts of its card must be an object"),
    ],
)
def test_nonsense_is_refused(field, record, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ModelCard.from_dict({**CARD.to_dict(), field: record})
