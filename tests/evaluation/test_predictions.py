import numpy as np
import pytest

from samptag.errors import DatasetError
from samptag.evaluation.predictions import ScoreTable, align, read_groups, read_scores, read_truth, scores_to_csv


def written(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_are_read_by_header(tmp_path):
    table = read_scores(written(tmp_path, 'path,guitar,"hip, hop"\na/1.mp3,0.5,-3\n"b, 2.mp3",1e-3,7\n'))
    assert table.name == "table.csv"
    assert table.keys == ("a/1.mp3", "b, 2.mp3")
    assert table.tags == ("guitar", "hip, hop")
    np.testing.assert_array_equal(table.values, [[0.5, -3], [0.001, 7]])


def test_spreadsheet_habits_are_accepted(tmp_path):
    """A byte-order mark, CRLF, blank lines, and tabs under the suffix .tsv."""
    path = tmp_path / "table.tsv"
    path.write_bytes("\ufeffpath\tflûte\t音楽\r\nx.ogg\t0\t1\r\n\r\ny.ogg\t1\t0\r\n".encode())
    truth = read_truth(path)
    assert truth.tags == ("flûte", "音楽")
    np.testing.assert_array_equal(truth.labels, [[0, 1], [1, 0]])


def test_the_group_column_is_no_tag(tmp_path):
    text = "path,guitar,group,piano\na,1,band 1,0\nb,0,band 1,0.25\n"
    truth = read_truth(written(tmp_path, text))
    assert truth.tags == ("guitar", "piano")
    assert truth.groups == ("band 1", "band 1")
    assert read_scores(tmp_path / "table.csv").tags == ("guitar", "piano")


def test_without_groups_every_row_is_its_own(tmp_path):
    assert read_truth(written(tmp_path, "path,guitar\na,1\nb,0\n")).groups == ("a", "b")


def test_the_hash_knows_the_clips_but_not_their_order(tmp_path):
    one = read_truth(written(tmp_path, "path,guitar\na,1\nb,0\n"))
    same = read_truth(written(tmp_path, "path,guitar\nb,0\na,1\n"))
    other = read_truth(written(tmp_path, "path,guitar\na,1\nc,0\n"))
    assert one.split_hash == same.split_hash != other.split_hash
    assert len(one.split_hash) == 16


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path,guitar\na,nan\n", ["line 2 (a)", "column 'guitar'", "'nan'", "finite"]),
        ("path,guitar\na,inf\n", ["line 2 (a)", "finite"]),
        ("path,guitar,piano\na,1,loud\n", ["line 2 (a)", "column 'piano'", "'loud' is not a number"]),
        ("path,guitar\na,\n", ["line 2 (a)", "column 'guitar'", "'' is not a number"]),
        ("path,guitar\na,1\nb,1,0\n", ["line 3", "3 fields", "header has 2"]),
        ("path,guitar\na,1\nb,0\na,0\n", ["line 4", "a appears in line 2 already"]),
        ("path,guitar,guitar\na,1,0\n", ["'guitar' appears twice"]),
        ("path,,piano\na,1,0\n", ["has no name"]),
        ("a,0.1,0.2\nb,0.3,0.4\n", ["first row holds numbers"]),
        ("path\na\n", ["no tag columns"]),
        ("path,guitar\n", ["no rows"]),
        ("", ["no rows"]),
        ("path,guitar\n,1\n", ["line 2", "path is empty"]),
        ('path,guitar\n"a,1\n', ["line 2"]),
    ],
)
def test_broken_tables_are_named_by_file_row_and_column(tmp_path, text, parts):
    path = written(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        read_scores(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["1.5", "-0.1", "nan", "inf"])
def test_labels_outside_0_to_1_are_refused(tmp_path, label):
    with pytest.raises(DatasetError, match=r"line 2 \(a\), column 'guitar'.*\[0, 1\]"):
        read_truth(written(tmp_path, f"path,guitar\na,{label}\n"))


def test_an_empty_group_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"line 3 \(b\): the group is empty"):
        read_truth(written(tmp_path, "path,guitar,group\na,1,x\nb,0,\n"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.csv"):
        read_scores(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes("path,fl\xfbte\na,1\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="UTF-8"):
        read_scores(tmp_path / "latin.csv")


def test_groups_file(tmp_path):
    assert read_groups(written(tmp_path, "path,group\na,x\nb,x\n")) == {"a": "x", "b": "x"}
    with pytest.raises(DatasetError, match="two columns, path and group"):
        read_groups(written(tmp_path, "path,artist\na,x\n"))
    with pytest.raises(DatasetError, match=r"line 2 \(a\): the group is empty"):
        read_groups(written(tmp_path, "path,group\na\n"))


def table(keys="ab", tags=("x", "y"), values=((0.1, 0.2), (0.3, 0.4))):
    return ScoreTable(name="est.csv", keys=tuple(keys), tags=tuple(tags), values=np.array(values))


def test_rows_and_columns_are_matched_by_name():
    np.testing.assert_array_equal(align(table(), keys="ba", tags=("y", "x")), [[0.4, 0.3], [0.2, 0.1]])
    np.testing.assert_array_equal(align(table(), keys="b", tags=("x",)), [[0.3]])


def test_tags_and_paths_with_commas_quotes_and_other_letters_survive_the_file(tmp_path):
    tags, keys = ('rock, "hard"', "männlich", "聲音; x"), ("a, b/ü.mp3", 'say "c".mp3')
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=np.float32)
    again = read_scores(written(tmp_path, scores_to_csv(ScoreTable(name="x", keys=keys, tags=tags, values=values))))
    assert (again.keys, again.tags) == (keys, tags)
    np.testing.assert_array_equal(again.values.astype(np.float32), values)


def test_missing_rows_and_tags_are_named():
    with pytest.raises(DatasetError, match=r"est\.csv lacks 2 rows of the truth: 'c', 'd'"):
        align(table(), keys="abcd", tags=("x",))
    with pytest.raises(DatasetError, match="lacks 1 tag of the truth: 'z'"):
        align(table(), keys="ab", tags=("x", "z"))
    with pytest.raises(DatasetError, match="'5' and 2 more"):
        align(table(), keys=["a", *"1234567"], tags=("x",))


def test_float32_scores_survive_the_file(tmp_path):
    values = np.random.default_rng(0).random((50, 2)).astype(np.float32) ** 40
    keys = [f'dir/"{i}", ☃.mp3' for i in range(50)]
    text = scores_to_csv(ScoreTable(name="net", keys=tuple(keys), tags=("a,b", "c"), values=values))
    back = read_scores(written(tmp_path, text))
    assert back.keys == tuple(keys)
    assert back.tags == ("a,b", "c")
    np.testing.assert_array_equal(back.values.astype(np.float32), values)


def test_the_protocol_travels_with_predictions(tmp_path):
    scores = ScoreTable(name="x", keys=("a", "b"), tags=("guitar",), values=np.ones((2, 1)), protocol="all (hop 1 s)")
    assert read_scores(written(tmp_path, scores_to_csv(scores))).protocol == "all (hop 1 s)"
    assert read_scores(written(tmp_path, "path,guitar\na,1\n")).protocol == ""
    with pytest.raises(DatasetError, match="several protocols: paper, won"):
        read_scores(written(tmp_path, "path,guitar,protocol\na,1,won\nb,0,paper\n"))
