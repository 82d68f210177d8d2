"""The comparison of recipe `modern`'s choices at the size of a test: 22 clips of 6 s, two steps."""

import json
import sys
import zlib
from collections import Counter
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest

from recipes.proof.choices import ROWS, carry_out, outcomes, report, write_choices
from samptag.training.recipe import MODERN, Recipe

SET = Path(__file__).resolve().parents[1] / "media" / "set"


def artists(rest: int, *, modulus: int):
    """Names whose checksums leave `rest` when divided by `modulus`."""
    return (name for name in map(str, count()) if zlib.crc32(name.encode()) % modulus == rest)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """What `write_manifests` leaves: 10 tracks that listeners tagged, and 13 that teachers heard."""
    folder = tmp_path_factory.mktemp("work")
    clips = [
        clip
        for pair in zip(*(sorted(SET.glob(f"{t}-*.opus")) for t in ("calm", "driving")), strict=True)
        for clip in pair
    ]
    groups = [
        *map(str, range(10)),
        *islice(artists(1, modulus=2), 8),
        *islice(artists(0, modulus=8), 4),
        *islice(artists(2, modulus=8), 1),
    ]
    splits = ["test"] * 8 + ["valid", "train"] + ["train"] * 13
    rows = []
    for i, (clip, split, group) in enumerate(zip(clips, splits, groups, strict=False)):
        tags = {clip.name.split("-")[0]: 1.0 if i < 10 else 0.3, "noise": 0.1}
        rows.append({"path": str(clip), "split": split, "group": group, "tags": tags})
    for name, part in (("human", rows[:10]), ("teacher", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def test_of_the_teachers_artists_half_test_and_an_eighth_trains(work):
    rows = [json.loads(line) for line in write_choices(work).read_text().splitlines()]
    assert Counter(row["split"] for row in rows[:10]) == {"test": 8, "valid": 1, "unused": 1}
    assert Counter(row["split"] for row in rows[10:]) == {"test": 8, "train": 4, "unused": 1}
    assert {tuple(row["tags"].values()) for row in rows[10:]} == {(1.0,)}


def test_a_row_is_trained_scored_and_reported(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # a picture of the curves takes longer than the training
    data = write_choices(work)
    found = [carry_out(row, seed=0, steps=2, data=data, work=work) for row in ("modern", "and speed")]
    for outcome in found:
        assert 0 <= outcome.held_out_roc <= 1
        assert 0 <= outcome.human_pr <= 1
    assert replace(found[0], row=found[1].row) != found[1], "the rows are trained differently"
    table = list(report(found, steps=2))
    assert len(table) == 2 + len(ROWS)
    assert table[2].startswith(f"| modern | 1 | {found[0].held_out_roc:.3f} |  | {found[0].held_out_pr:.3f} |")
    lead = found[1].held_out_roc - found[0].held_out_roc
    assert f"| {found[1].held_out_roc:.3f} | {lead:+.3f} |" in next(line for line in table if "and speed" in line)
    assert not outcomes(work / "nothing-yet.jsonl")


def test_every_row_changes_one_thing():
    (_, base), *others = ROWS.values()
    for model, recipe in others:
        changed = [name for name in Recipe.__dataclass_fields__ if getattr(recipe, name) != getattr(base, name)]
        assert len(changed) + (model != ROWS["modern"][0]) == 1
    assert base.augmentation == MODERN.augmentation
