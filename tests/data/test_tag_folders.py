import shutil

import pytest
from dataset_makers import SET, copy_songs

from samptag.data.formats import open_dataset
from samptag.errors import DatasetError


def test_one_folder_a_tag(tmp_path):
    copy_songs(tmp_path, {f"calm/{n}.opus": n for n in range(12)} | {f"driving/a/{n}.opus": 12 + n for n in range(12)})
    copy_songs(tmp_path, {"stray.opus": 0, "calm/.hidden.opus": 0})
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.split_name, dataset.tags) == ("folders", "folders", ("calm", "driving"))
    assert len(dataset.clips) == 24
    assert all(dataset.counts().values())
    for clip in dataset.clips:
        assert clip.labels.tolist() == ([1, 0] if clip.key.startswith("calm/") else [0, 1])
    assert [problem.path for problem in dataset.problems if problem.kind == "unlisted"] == ["stray.opus"]
    assert open_dataset(tmp_path).split_hash == dataset.split_hash


def test_a_link_gives_a_song_a_second_tag(tmp_path):
    copy_songs(tmp_path, {"calm/a.opus": 0, "calm/b.opus": 1, "driving/c.opus": 12})
    (tmp_path / "harp").mkdir()
    (tmp_path / "harp" / "a.opus").symlink_to("../calm/a.opus")
    dataset = open_dataset(tmp_path)
    assert dataset.tags == ("calm", "driving", "harp")
    assert {clip.key: clip.labels.tolist() for clip in dataset.clips} == {
        "calm/a.opus": [1, 0, 1],
        "calm/b.opus": [1, 0, 0],
        "driving/c.opus": [0, 1, 0],
    }


def test_a_link_to_a_folder_above_does_not_go_round(tmp_path):
    copy_songs(tmp_path, {"calm/a.opus": 0})
    (tmp_path / "calm" / "again").symlink_to(tmp_path)
    assert [clip.key for clip in open_dataset(tmp_path).clips] == ["calm/a.opus"]


def test_split_folders_above_the_tags(tmp_path):
    copy_songs(tmp_path, {"train/calm/a.opus": 0, "val/calm/b.opus": 1, "test/driving/c.opus": 12, "train/x.opus": 3})
    dataset = open_dataset(tmp_path)
    assert dataset.tags == ("calm", "driving")
    assert [(clip.key, clip.part) for clip in dataset.clips] == [
        ("train/calm/a.opus", "train"),
        ("val/calm/b.opus", "valid"),
        ("test/driving/c.opus", "test"),
    ]
    assert [problem.path for problem in dataset.problems if problem.kind == "unlisted"] == ["train/x.opus"]


def test_one_file_in_two_splits_is_refused(tmp_path):
    copy_songs(tmp_path, {"train/calm/a.opus": 0})
    (tmp_path / "test" / "calm").mkdir(parents=True)
    (tmp_path / "test" / "calm" / "a.opus").symlink_to(tmp_path / "train/calm/a.opus")
    with pytest.raises(DatasetError, match="is in two parts"):
        open_dataset(tmp_path)


def test_an_empty_file_is_told(tmp_path):
    copy_songs(tmp_path, {"calm/a.opus": 0, "calm/b.opus": 1})
    (tmp_path / "calm" / "b.opus").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    assert [clip.key for clip in dataset.clips] == ["calm/a.opus"]
    assert ("unreadable", "calm/b.opus") in {(problem.kind, problem.path) for problem in dataset.problems}


def test_no_audio_in_the_folders_is_one_line(tmp_path):
    (tmp_path / "calm").mkdir()
    shutil.copy(SET[0], tmp_path / "a.opus")
    with pytest.raises(DatasetError, match="no audio in its folders"):
        open_dataset(tmp_path, format="folders")
