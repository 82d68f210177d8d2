"""The comparisons of docs/results.md at the size of a test: two tiny trainings, and the tables made of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from short_music import cut
from tiny_weights import TINY_TAGS, save_tiny_weights

from recipes.library.evaluate import VOCABULARY
from recipes.library.music import read_music
from recipes.proof import runs
from recipes.proof.manifests import write_manifests
from recipes.proof.report import report
from recipes.proof.runs import COMPARISONS, Run, Setting, carry_out, planned
from samptag.errors import WeightsError
from samptag.tagging.tagger import Tagger

MEDIA = Path(__file__).resolve().parents[1] / "media"
CLIPS = ("eastern-dreams.mp3", "lava.opus", "void-sensor.ogg", "bay.wav")
# The artists' names decide which of them go to validation: D and F of these.
ROWS = (
    ("1.mp3", "A", "train", {"rock": 0.5, "slow": 0.0}),
    ("2.mp3", "F", "train", {"slow": 1.0}),
    ("3.mp3", "C", "train", {"slow": 1.0}),
    ("4.mp3", "D", "train", {"rock": 1.0}),
    ("5.mp3", "E", "valid", {"rock": 0.2}),
    ("6.mp3", "B", "valid", {"slow": 0.2}),
    ("7.mp3", "G", "unlabelled", None),
    (VOCABULARY.with_name("held_out.txt").read_text(encoding="utf-8").splitlines()[0], "H", "unlabelled", None),
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    with (folder / "tracks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "artist", "title", "split", "tags"])
        for i, (path, artist, split, tags) in enumerate(ROWS):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            source = MEDIA / CLIPS[i % len(CLIPS)]
            (folder / path).write_bytes(
                cut(source, ".mp3", seconds=4) if source.suffix == ".mp3" else source.read_bytes()
            )
            writer.writerow([path, "orois", artist, "", split, "" if tags is None else json.dumps(tags)])
    return folder


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    return [str(save_tiny_weights(folder / f"{seed}.safetensors", name=f"net-{seed}", seed=seed)) for seed in (1, 2)]


def manifest(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_manifests_differ_only_in_what_the_teacher_labelled(collection, teachers, tmp_path):
    write_manifests(read_music(collection), teachers=teachers, work=tmp_path)
    human, teacher = (manifest(tmp_path / f"{labels}.jsonl") for labels in ("human", "teacher"))
    parts = {row["group"]: row["split"] for row in human}
    assert parts == {"A": "train", "F": "valid", "C": "train", "D": "valid", "E": "test", "B": "test"}
    assert human[0]["tags"] == {"rock": 1.0}, "a tag that nobody gave is not there, any other counts whole"
    assert teacher[: len(human)] == human
    (added,) = teacher[len(human) :]
    assert (added["group"], added["split"], set(added["tags"])) == ("G", "train", set(TINY_TAGS))
    heard = [Tagger.from_pretrained(name).tag(MEDIA / CLIPS[6 % len(CLIPS)]).taggram.mean(axis=0) for name in teachers]
    assert added["tags"][TINY_TAGS[0]] == pytest.approx(np.mean(heard, axis=0)[0], abs=1e-4)


def test_teachers_of_other_tags_are_refused(collection, teachers, tmp_path):
    with pytest.raises(WeightsError, match=r"samplecnn-3-9-mtat50 has other tags than .*: name teachers of the same"):
        write_manifests(read_music(collection), teachers=[teachers[0], "samplecnn-3-9-mtat50"], work=tmp_path)


def test_runs_train_evaluate_and_are_not_repeated(collection, teachers, forking, tmp_path, monkeypatch):
    forking(monkeypatch, runs)
    write_manifests(read_music(collection), teachers=teachers, work=tmp_path)
    tiny = (Setting(model="samplecnn-3-4", recipe="paper", steps=2), Setting(model="samplecnn-3-4", steps=2))
    monkeypatch.setitem(COMPARISONS, "recipes", tiny)
    # With two test tracks no tag has the four positives that the real comparison asks for.
    monkeypatch.setattr(
        Run, "eval_command", lambda run, ask=Run.eval_command: [a if a != "4" else "1" for a in ask(run)]
    )
    plan = list(planned(["recipes"], seeds=1, work=tmp_path))
    assert [run.setting.recipe for run in plan] == ["paper", "modern"]
    for run in plan:
        carry_out(run)
    found = [runs.outcome(run) for run in plan]
    assert all(0 <= outcome.roc_auc <= 1 and outcome.minutes > 0 for outcome in found)
    table = report(["recipes"], work=tmp_path).splitlines()
    assert table[4].startswith(f"| samplecnn-3-4 | `paper` | human | 2 | 1 | {found[0].roc_auc:.3f} | ")
    assert table[5].endswith(f"| {found[1].roc_auc - found[0].roc_auc:+.3f} |")
    before = plan[0].report.stat().st_mtime_ns
    carry_out(plan[0])
    assert plan[0].report.stat().st_mtime_ns == before


def test_the_plan_holds_each_training_once_and_takes_seeds_in_turn(tmp_path):
    plan = list(planned(list(COMPARISONS), seeds=2, work=tmp_path))
    assert len({run.folder for run in plan}) == len(plan)
    assert [run.seed for run in plan] == sorted(run.seed for run in plan)
    assert "--resume" not in plan[0].train_command()
    plan[0].folder.mkdir(parents=True)
    (plan[0].folder / "last.pt").touch()
    assert "--resume" in plan[0].train_command()


def test_a_comparison_without_runs_says_so(tmp_path):
    assert "not run | not run" in report(["systems"], work=tmp_path)
