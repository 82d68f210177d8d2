import json
import shutil

import pytest
from dataset_makers import SET, copy_songs, make_manifest

from samptag.audio.decode import open_audio
from samptag.data.check import survey
from samptag.data.formats import open_dataset


def hours(*numbers):
    total = 0.0
    for number in numbers:
        with open_audio(SET[number], sample_rate=22_050) as stream:
            for _ in stream:
                pass
            total += stream.duration / 3600
    return total


@pytest.fixture
def manifest(tmp_path):
    rows = ["s0.opus,train,calm,a", "s1.opus,train,calm;harp,a", "s2.opus,valid,harp,b", "s3.opus,test,calm,c"]
    return make_manifest(tmp_path, rows, header="path,split,tags,group", songs=4)


@pytest.mark.parametrize("decode", [False, True])
def test_counts_hours_groups_and_positives(manifest, decode):
    reports = []
    dataset = open_dataset(manifest)
    found = survey(dataset, decode=decode, progress=lambda *report: reports.append(report))
    record = found.to_record()
    assert (record["schema"], record["format"], record["clips"]) == ("samptag.data/1", "manifest", 4)
    assert record["split"] == {"name": "manifest", "hash": dataset.split_hash}
    assert [(split["name"], split["clips"], split["groups"]) for split in record["splits"]] == [
        ("train", 2, 1),
        ("valid", 1, 1),
        ("test", 1, 1),
    ]
    assert found.parts[0].hours == pytest.approx(hours(0, 1), rel=1e-3)
    assert record["tags"] == [
        {"tag": "calm", "category": None, "train": 2, "valid": 0, "test": 1},
        {"tag": "harp", "category": None, "train": 1, "valid": 1, "test": 0},
    ]
    assert record["ok"] is found.ok is True
    assert reports[-1] == ("reading clips", 4, 4)
    assert json.loads(json.dumps(record)) == record


def test_what_cannot_be_read_is_told(tmp_path, broken_file):
    copy_songs(tmp_path / "set", {"calm/good.opus": 0})
    for name in ("text.mp3", "header-only.wav", "truncated.flac"):
        shutil.copy(broken_file(name), tmp_path / "set" / "calm" / name)
    dataset = open_dataset(tmp_path / "set")

    def told(found):
        return {(problem.kind, problem.path) for problem in found.problems if problem.kind in ("unreadable", "damaged")}

    quick, thorough = survey(dataset), survey(dataset, decode=True)
    assert told(quick) == {("unreadable", "calm/text.mp3")}
    assert told(thorough) == {
        ("unreadable", "calm/text.mp3"),
        ("unreadable", "calm/header-only.wav"),
        ("damaged", "calm/truncated.flac"),
    }
    assert not quick.ok
    assert not thorough.ok


def test_files_that_are_not_listed_leave_a_data_set_in_order(manifest):
    shutil.copy(SET[9], manifest / "stranger.opus")
    found = survey(open_dataset(manifest))
    assert ("unlisted", "stranger.opus") in {(problem.kind, problem.path) for problem in found.problems}
    assert found.ok
