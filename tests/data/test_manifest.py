import json
import shutil

import numpy as np
import pytest
from dataset_makers import SET, copy_songs, make_manifest

from samptag.data.formats import open_dataset
from samptag.errors import DatasetError


def labels(dataset):
    return {clip.key: dict(zip(dataset.tags, clip.labels.tolist(), strict=True)) for clip in dataset.clips}


def test_names_between_semicolons_or_bars(tmp_path):
    make_manifest(tmp_path, ["s0.opus,train,calm; harp", "s1.opus,valid,rock|drums", "s2.opus,test,calm"])
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.split_name, dataset.tags) == (
        "manifest",
        "manifest",
        ("calm", "drums", "harp", "rock"),
    )
    assert labels(dataset)["s0.opus"] == {"calm": 1, "drums": 0, "harp": 1, "rock": 0}
    assert labels(dataset)["s1.opus"] == {"calm": 0, "drums": 1, "harp": 0, "rock": 1}
    assert dataset.counts() == {"train": 1, "valid": 1, "test": 1}


def test_soft_tags_and_lists_as_json(tmp_path):
    make_manifest(
        tmp_path, ['s0.opus,train,"{""calm"": 0.25, ""harp"": 1}"', 's1.opus,valid,"[""calm""]"', "s2.opus,test,"]
    )
    assert labels(open_dataset(tmp_path)) == {
        "s0.opus": {"calm": 0.25, "harp": 1},
        "s1.opus": {"calm": 1, "harp": 0},
        "s2.opus": {"calm": 0, "harp": 0},
    }


def test_one_column_a_tag_in_the_order_of_the_columns(tmp_path):
    make_manifest(
        tmp_path,
        ["s0.opus,train,The Band,0.5,1,", "s1.opus,valid,Die Kapelle,0,0,1"],
        header="path,split,artist,rock,calm,harp",
    )
    dataset = open_dataset(tmp_path)
    assert dataset.tags == ("rock", "calm", "harp")
    assert [clip.labels.tolist() for clip in dataset.clips] == [[0.5, 1, 0], [0, 0, 1]]


def test_a_column_with_one_word_among_its_numbers_is_told(tmp_path):
    rows = ["s0.opus,train,1,0,x,", "s1.opus,valid,0,one,y,", "s2.opus,test,0,1,z,"]
    dataset = open_dataset(make_manifest(tmp_path, rows, header="path,split,calm,rock,title,notes"))
    assert dataset.tags == ("calm", "notes")
    (told,) = [problem.message for problem in dataset.problems if problem.kind == "left-out"]
    assert told == f"{tmp_path / 'manifest.csv'}, line 3: column 'rock' is not used as a tag: 'one' is not a number"


@pytest.mark.parametrize(("name", "text"), [("manifest.csv", "path,split,tags\n"), ("manifest.jsonl", "\n")])
def test_a_manifest_of_no_clips_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=f"{name}: lists no clips"):
        open_dataset(tmp_path)


def test_json_lines(tmp_path):
    copy_songs(tmp_path, {"a b.opus": 0, "ü.opus": 1})
    records = [
        {"path": "a b.opus", "split": "train", "tags": {"calm": 0.5}, "group": "one"},
        {"path": "ü.opus", "split": "test", "tags": ["calm", "雅楽"], "group": 2},
    ]
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n\n"
    (tmp_path / "manifest.jsonl").write_text(text, encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert labels(dataset) == {"a b.opus": {"calm": 0.5, "雅楽": 0}, "ü.opus": {"calm": 1, "雅楽": 1}}
    assert [clip.group for clip in dataset.clips] == ["one", "2"]


def test_tags_with_commas_quotes_and_unicode_come_through(tmp_path):
    tags = ["rock, heavy", 'the "real" thing', "d'été", "雅楽 ☃", "semi;colon"]
    copy_songs(tmp_path, {"s0.opus": 0})
    cell = json.dumps(tags, ensure_ascii=False).replace('"', '""')
    (tmp_path / "manifest.csv").write_text(f'path,split,tags\ns0.opus,train,"{cell}"\n', encoding="utf-8-sig")
    assert set(open_dataset(tmp_path).tags) == set(tags)


def test_a_tab_separated_manifest_given_as_a_file(tmp_path):
    copy_songs(tmp_path, {"s0.opus": 0})
    (tmp_path / "my list.tsv").write_text("path\tsplit\ttags\r\ns0.opus\ttraining\tcalm\r\n")
    dataset = open_dataset(tmp_path / "my list.tsv")
    assert [(clip.key, clip.part) for clip in dataset.clips] == [("s0.opus", "train")]


def test_absolute_paths_and_paths_beside_the_folder(tmp_path):
    copy_songs(tmp_path / "music", {"a.opus": 0, "b.opus": 1})
    lists = tmp_path / "lists"
    lists.mkdir()
    rows = [f"{tmp_path}/music/a.opus,train,calm", "../music/b.opus,test,rock"]
    (lists / "manifest.csv").write_text("\n".join(["path,split,tags", *rows]))
    dataset = open_dataset(lists)
    assert [clip.path.resolve() for clip in dataset.clips] == [tmp_path / "music/a.opus", tmp_path / "music/b.opus"]


def test_without_splits_groups_stay_together_whatever_the_order(tmp_path):
    rows = [f"s{number}.opus,calm,artist {number // 2}" for number in range(20)]
    copy_songs(tmp_path, {f"s{number}.opus": number for number in range(20)})
    found = []
    for order in (rows, rows[::-1]):
        (tmp_path / "manifest.csv").write_text("\n".join(["path,tags,group", *order]))
        dataset = open_dataset(tmp_path)
        assert all(dataset.counts().values())
        part_of = {}
        for clip in dataset.clips:
            assert part_of.setdefault(clip.group, clip.part) == clip.part
        found.append((part_of, dataset.split_hash))
    assert found[0] == found[1]


def test_rows_can_be_set_aside(tmp_path):
    make_manifest(tmp_path, ["s0.opus,train,calm", "s1.opus,valid,calm", "s2.opus,unlabelled,", "s3.opus,unlabelled,"])
    dataset = open_dataset(tmp_path)
    assert [clip.key for clip in dataset.clips] == ["s0.opus", "s1.opus"]
    aside = [problem.message for problem in dataset.problems if problem.kind == "left-out"]
    assert aside == ["2 rows with split 'unlabelled' are set aside"]
    assert {problem.path for problem in dataset.problems if problem.kind == "unlisted"} == {"s4.opus", "s5.opus"}


def test_absent_and_empty_clips_are_told_and_left_out(tmp_path):
    make_manifest(tmp_path, ["s0.opus,train,calm", "s1.opus,train,calm", "gone.opus,valid,calm", "sub,train,calm"])
    (tmp_path / "s1.opus").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    dataset = open_dataset(tmp_path)
    assert [clip.key for clip in dataset.clips] == ["s0.opus"]
    told = {(problem.kind, problem.path) for problem in dataset.problems if problem.kind in ("missing", "unreadable")}
    assert told == {("unreadable", "s1.opus"), ("missing", "gone.opus"), ("unreadable", "sub")}
    assert "valid has no clips" in [problem.message for problem in dataset.problems]


def test_a_group_on_two_sides_and_a_tag_without_positives_are_told(tmp_path):
    rows = ["s0.opus,train,calm,one", "s1.opus,test,rock,one"]
    make_manifest(tmp_path, rows, header="path,split,tags,group")
    messages = [problem.message for problem in open_dataset(tmp_path).problems]
    assert "1 groups have clips in both train and test, such as 'one'" in messages
    assert "'rock' has no positives in train" in messages


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (["s0.opus,train,calm", "s1.opus,train"], None, "line 3: 2 columns instead of 3"),
        (["s0.opus,train,calm"], "file,split,tags", "column 'path' is missing; found file, split, tags"),
        (["s0.opus,train,calm"], "path,path,tags", "column 'path' appears twice"),
        (["s0.opus,train,calm", "./s0.opus,test,calm"], None, r"line 3: \./s0\.opus appears in line 2 already"),
        (["s0.opus,trian,calm"], None, "line 2: split 'trian' is none of train, valid, test"),
        (["s0.opus,train,calm", "s1.opus,,calm"], None, "line 3: no split, though other rows have one"),
        (['s0.opus,train,"{""calm"": NaN}"'], None, "line 2: tag 'calm' has the value nan"),
        (['s0.opus,train,"{""calm"": 1.01}"'], None, "line 2: tag 'calm' has the value 1.01"),
        (['s0.opus,train,"{""calm"": -0.1}"'], None, "line 2: tag 'calm' has the value -0.1"),
        (['s0.opus,train,"{""calm"": ""yes""}"'], None, "line 2: tag 'calm' has the value 'yes', not a number"),
        (['s0.opus,train,"{""calm"": 1"'], None, "line 2: 'tags' is not JSON"),
        (['s0.opus,train,"[1, 2]"'], None, "line 2: 'tags' is neither a list of names nor an object"),
        (['s0.opus,train,"{"""": 1}"'], None, "line 2: a tag's name is empty"),
        (["s0.opus,train,2,0"], "path,split,calm,rock", "line 2: tag 'calm' has the value 2"),
        (["s0.opus,train,nan,0"], "path,split,calm,rock", "line 2: tag 'calm' has the value nan"),
        ([",train,calm"], None, "line 2: 'path' is missing or empty"),
        ([], None, "lists no clip"),
        (["s0.opus,train,"], None, "no tags"),
        (["gone.opus,train,calm"], None, "no clip of manifest can be used: gone.opus: listed but missing"),
        (['s0.opus,train,"calm'], None, "line"),
    ],
)
def test_bad_manifests_name_the_file_and_the_line(tmp_path, rows, header, words):
    make_manifest(tmp_path, rows, header=header or "path,split,tags")
    with pytest.raises(DatasetError, match=words) as caught:
        open_dataset(tmp_path, format="manifest")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "s0.opus", "tags": ["calm"]}\n{"path": ', "line 2: not JSON"),
        ('["s0.opus"]\n', "line 1: expected a JSON object"),
        ('{"tags": ["calm"]}\n', "line 1: 'path' is missing"),
        ('{"path": "s0.opus", "tags": {"calm": NaN}}\n', "line 1: tag 'calm' has the value nan"),
        ('{"path": "s0.opus", "tags": {"calm": 1' + 400 * "0" + "}}", "line 1: tag 'calm' has the value 100"),
        ('{"path": "a\\u0000b", "tags": ["calm"]}\n', "line 1: 'path' holds a NUL"),
    ],
)
def test_bad_json_lines_name_the_line(tmp_path, text, words):
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path, format="manifest")


def test_several_tables_without_the_standard_name_are_not_guessed_at(tmp_path):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("path,tags\ns0.opus,calm\n")
    with pytest.raises(DatasetError, match="not exactly one table with a path column"):
        open_dataset(tmp_path, format="manifest")


def test_a_thousand_soft_labels_keep_their_values(tmp_path):
    shutil.copy(SET[0], tmp_path / "s0.opus")
    values = np.random.default_rng(1).random(1000).round(6)
    record = {"path": "s0.opus", "split": "train", "tags": {f"tag {n}": value for n, value in enumerate(values)}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(record))
    dataset = open_dataset(tmp_path)
    order = [int(tag.split()[1]) for tag in dataset.tags]
    np.testing.assert_array_equal(dataset.clips[0].labels, values[order].astype(np.float32))
