import pytest
from dataset_makers import SET, copy_songs

from samptag.data.formats import open_dataset
from samptag.errors import DatasetError

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
ROWS = {
    "train": ["track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---rock\tmood/theme---dark"],
    "validation": ["track_0000215\tartist_000015\talbum_000031\t15/215.mp3\t151.4\tgenre---ambient"],
    "test": ["track_0001048\tartist_000140\talbum_000193\t48/1048.mp3\t99.0\tinstrument---piano\tmood/theme---ambient"],
}


def make(root, *, number=0, infix="_top50tags", low=False):
    folder = root / "data" / "splits" / f"split-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in ROWS.items():
        (folder / f"autotagging{infix}-{part}.tsv").write_text("\n".join([HEADER, *rows]) + "\n")
    suffix = ".low.mp3" if low else ".mp3"
    copy_songs(root / "audio", {f"{key}{suffix}": index for index, key in enumerate(("14/214", "15/215", "48/1048"))})
    return root


@pytest.mark.parametrize("low", [False, True])
def test_both_audio_qualities_give_the_same_split(tmp_path, low):
    dataset = open_dataset(make(tmp_path, low=low))
    assert (dataset.format, dataset.split_name) == ("jamendo", "jamendo-0-top50tags")
    assert [(clip.key, clip.part) for clip in dataset.clips] == [
        ("14/214.mp3", "train"),
        ("15/215.mp3", "valid"),
        ("48/1048.mp3", "test"),
    ]
    assert all(clip.path.is_file() for clip in dataset.clips)
    assert not [problem for problem in dataset.problems if problem.kind != "tag"]


def test_tags_lose_the_prefix_and_keep_the_category(tmp_path):
    dataset = open_dataset(make(tmp_path))
    assert dataset.tags == ("ambient (genre)", "rock", "piano", "ambient (mood/theme)", "dark")
    assert dataset.tag_categories == ("genre", "genre", "instrument", "mood/theme", "mood/theme")
    assert [clip.labels.tolist() for clip in dataset.clips] == [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("infix", "options", "name"),
    [
        ("", {"subset": "full"}, "jamendo-0-full"),
        ("_genre", {"split": "jamendo-0", "subset": "genre"}, "jamendo-0-genre"),
        ("_moodtheme", {"split": "jamendo-0-moodtheme"}, "jamendo-0-moodtheme"),
        ("_instrument", {"split": "jamendo-0-instrument", "subset": "instrument"}, "jamendo-0-instrument"),
    ],
)
def test_every_subset_has_its_name(tmp_path, infix, options, name):
    assert open_dataset(make(tmp_path, infix=infix), **options).split_name == name


def test_the_other_splits_are_reached_by_number(tmp_path):
    make(tmp_path, number=3)
    assert open_dataset(tmp_path, split="jamendo-3").split_name == "jamendo-3-top50tags"
    with pytest.raises(DatasetError, match=r"split-0/autotagging_top50tags-train\.tsv: cannot be read"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "jamendo-5"}, "choose jamendo-0 to jamendo-4"),
        ({"split": "jamendo-0-rock"}, "with a subset of top50tags, full"),
        ({"subset": "rock"}, "no subset 'rock'"),
        ({"split": "jamendo-0-genre", "subset": "full"}, "do not agree"),
    ],
)
def test_unknown_names_are_told(tmp_path, options, words):
    make(tmp_path)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path, **options)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("track_1\tartist_1\talbum_1\t01/1.mp3\t30.0", "line 3: 5 columns"),
        ("track_1\tartist_1\talbum_1\t01/1.mp3\t30.0\trock", "line 3: 'rock' is not CATEGORY---TAG"),
        (ROWS["train"][0], r"line 3: 14/214.mp3 appears in autotagging_top50tags-train.tsv, line 2 already"),
    ],
)
def test_malformed_rows_name_the_line(tmp_path, row, words):
    make(tmp_path)
    with (tmp_path / "data/splits/split-0/autotagging_top50tags-train.tsv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)


def test_headers_alone_are_one_line(tmp_path):
    folder = make(tmp_path) / "data/splits/split-0"
    for path in folder.iterdir():
        path.write_text(HEADER + "\n")
    with pytest.raises(DatasetError, match=f"{folder}: the split's files list no tracks"):
        open_dataset(tmp_path)


def test_absent_empty_and_unlisted_tracks_are_told(tmp_path):
    make(tmp_path)
    (tmp_path / "audio/14/214.mp3").unlink()
    (tmp_path / "audio/15/215.mp3").write_bytes(b"")
    (tmp_path / "audio/15/999.mp3").write_bytes(SET[0].read_bytes())
    dataset = open_dataset(tmp_path)
    told = [(problem.kind, problem.path) for problem in dataset.problems if problem.kind not in ("tag", "split")]
    assert told == [("missing", "14/214.mp3"), ("unreadable", "15/215.mp3"), ("unlisted", "15/999.mp3")]
    with pytest.raises(DatasetError, match="has no train clips"):
        dataset.select("train")


def test_the_bootstrap_draws_artists(tmp_path):
    """Two tracks of one artist are one draw."""
    root = make(tmp_path)
    path = root / "data" / "splits" / "split-0" / "autotagging_top50tags-test.tsv"
    row = "track_0001049\tartist_000140\talbum_000193\t48/1049.mp3\t99.0\tinstrument---piano"
    path.write_text(path.read_text() + row + "\n")
    copy_songs(root / "audio", {"48/1049.mp3": 1})
    assert [clip.group for clip in open_dataset(root).select("test")] == ["artist_000140", "artist_000140"]
