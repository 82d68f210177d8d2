import os
import pickle

import numpy as np
import pytest
from dataset_makers import copy_songs

from samptag.data.formats import msd, open_dataset
from samptag.errors import DatasetError

TAGS = [f"tag {number}" for number in range(50)]


@pytest.fixture
def small_split(monkeypatch):
    """The published boundary inside the training list, moved to where a small list has one."""
    monkeypatch.setattr(msd, "TRAIN_COUNT", 3)


@pytest.fixture
def folder(tmp_path, small_split):
    split = tmp_path / "MSD_split"
    split.mkdir()
    tracks = [f"TRAAA{number:02d}" for number in range(7)]
    paths = {f"70{number}": f"8/{number}/70{number}.clip.opus" for number in range(7)}
    vectors = {track: np.eye(50, dtype=np.float32)[number] for number, track in enumerate(tracks)}
    dump(split / msd.TRAIN_LIST, tracks[:5])
    dump(split / msd.TEST_LIST, tracks[5:])
    dump(split / msd.LABELS, vectors)
    dump(split / msd.TO_7DIGITAL, {track: f"70{number}" for number, track in enumerate(tracks)})
    dump(split / msd.TO_PATH, paths)
    (split / msd.TAG_LIST).write_text("\n".join(TAGS) + "\n")
    copy_songs(tmp_path / "songs", {path: number for number, path in enumerate(paths.values())})
    return tmp_path


def dump(path, value):
    path.write_bytes(pickle.dumps(value, protocol=2))


def test_the_published_lists_become_three_splits(folder):
    dataset = open_dataset(folder)
    assert (dataset.format, dataset.split_name, dataset.tags) == ("msd", "msd-lee-2017", tuple(TAGS))
    assert dataset.counts() == {"train": 3, "valid": 2, "test": 2}
    for number, clip in enumerate(dataset.clips):
        assert clip.key == f"8/{number}/70{number}.clip.opus"
        assert clip.group == f"TRAAA{number:02d}"
        assert clip.path.is_file()
        assert np.flatnonzero(clip.labels).tolist() == [number]


def test_lists_of_nothing_are_one_line(folder):
    for name in (msd.TRAIN_LIST, msd.TEST_LIST):
        dump(folder / "MSD_split" / name, [])
    with pytest.raises(DatasetError, match="none of the listed tracks has a path and tags"):
        open_dataset(folder)


def test_absent_empty_and_unknown_tracks_are_told(folder):
    (folder / "songs/8/1/701.clip.opus").unlink()
    (folder / "songs/8/2/702.clip.opus").write_bytes(b"")
    dump(folder / "MSD_split" / msd.TO_7DIGITAL, {f"TRAAA{number:02d}": f"70{number}" for number in range(6)})
    dataset = open_dataset(folder)
    told = {(problem.kind, problem.path) for problem in dataset.problems if problem.kind not in ("split", "tag")}
    assert told == {
        ("missing", "8/1/701.clip.opus"),
        ("unreadable", "8/2/702.clip.opus"),
        ("missing", "TRAAA06"),
        ("unlisted", "8/6/706.clip.opus"),
    }
    assert dataset.counts() == {"train": 1, "valid": 2, "test": 1}


def test_a_poisoned_list_is_refused_before_anything_runs(folder):
    class Poison:
        def __reduce__(self):
            return os.mkdir, (str(folder / "ran"),)

    dump(folder / "MSD_split" / msd.TRAIN_LIST, [Poison()])
    with pytest.raises(DatasetError, match=r"filtered_list_train\.cP: refused: it names posix\.mkdir"):
        open_dataset(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (msd.TRAIN_LIST, {"TRAAA00": 1}, r"filtered_list_train\.cP: holds a dict, not a list"),
        (msd.TRAIN_LIST, ["TRAAA00", "TRAAA00"], "TRAAA00 is listed twice"),
        (msd.TRAIN_LIST, ["TRAAA00", 7], "the train list holds 7"),
        (msd.LABELS, {f"TRAAA{n:02d}": np.zeros(49) for n in range(7)}, "49 labels for 50 tags"),
        (msd.LABELS, {f"TRAAA{n:02d}": np.full(50, np.nan) for n in range(7)}, "not between 0 and 1"),
        (msd.LABELS, {f"TRAAA{n:02d}": "rock" for n in range(7)}, "not a vector of numbers"),
        (msd.TO_PATH, {}, "none of the listed tracks has a path"),
    ],
)
def test_lists_that_do_not_fit_are_one_line(folder, name, value, words):
    dump(folder / "MSD_split" / name, value)
    with pytest.raises(DatasetError, match=words):
        open_dataset(folder)


def test_a_missing_pickle_is_named(folder):
    (folder / "MSD_split" / msd.TO_PATH).unlink()
    with pytest.raises(DatasetError, match=r"7D_id_to_path\.pkl: cannot be read"):
        open_dataset(folder)
