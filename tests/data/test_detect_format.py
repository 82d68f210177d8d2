import json
from pathlib import Path

import pytest
from dataset_makers import copy_songs, make_manifest, write_annotations

import samptag
from samptag.data.formats import FORMATS, detect_format, open_dataset
from samptag.errors import DatasetError


def jamendo(root):
    folder = root / "data" / "splits" / "split-2"
    folder.mkdir(parents=True)
    (folder / "autotagging_genre-train.tsv").write_text("")


def msd(root):
    (root / "MSD_split").mkdir(parents=True)
    (root / "MSD_split" / "filtered_list_train.cP").write_bytes(b"(lp1\n.")


def mtat(root):
    root.mkdir(parents=True, exist_ok=True)
    write_annotations(root / "annotations_final.csv", {})


def mtat_zipped(root):
    (root / "mp3.zip.001").write_bytes(b"PK")


def mtat_below(root):
    mtat(root / "mtat")


def named_manifest(root):
    make_manifest(root, ["s0.opus,train,calm"], songs=1)


def only_table(root):
    copy_songs(root / "calm", {"a.opus": 0})
    (root / "my songs.csv").write_text('"path","tags"\na.opus,calm\n')


def json_lines(root):
    (root / "songs.jsonl").write_text('{"path": "a.opus", "tags": []}\n')


def folders(root):
    copy_songs(root, {"calm/deep/a.opus": 0})
    (root / "notes.csv").write_text("title,year\nx,1999\n")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (jamendo, "jamendo"),
        (msd, "msd"),
        (mtat, "mtat"),
        (mtat_zipped, "mtat"),
        (mtat_below, "mtat"),
        (named_manifest, "manifest"),
        (only_table, "manifest"),
        (json_lines, "manifest"),
        (folders, "folders"),
    ],
)
def test_each_kind_is_recognised(tmp_path, make, expected):
    make(tmp_path)
    assert detect_format(tmp_path) == expected


def test_a_format_asked_for_wins(tmp_path):
    copy_songs(tmp_path, {"calm/a.opus": 0})
    (tmp_path / "manifest.csv").write_text("path,tags\ncalm/a.opus,harp\n")
    assert open_dataset(tmp_path).tags == ("harp",)
    assert open_dataset(tmp_path, format="folders").tags == ("calm",)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_is_no_data_set_of_any_kind(tmp_path, name):
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, format=name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_data_sets_in_one_folder_are_not_guessed_between(tmp_path):
    jamendo(tmp_path)
    mtat(tmp_path)
    with pytest.raises(DatasetError, match=r"holds mtat and jamendo; choose one with --format"):
        detect_format(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "no such folder or manifest"),
        (".", "no data set recognised: expected annotations_final"),
        ("a.txt", "not a manifest"),
    ],
)
def test_what_is_no_data_set_is_told(tmp_path, name, words):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DatasetError, match=words):
        detect_format(tmp_path / name)


def test_an_unknown_format_names_the_known(tmp_path):
    with pytest.raises(DatasetError, match="choose mtat, msd, jamendo, manifest, folders"):
        open_dataset(tmp_path, format="gtzan")


def test_the_schema_names_every_format():
    schema = json.loads((Path(samptag.__file__).parent / "schemas" / "data.json").read_text("utf-8"))
    assert schema["properties"]["format"]["enum"] == list(FORMATS)
