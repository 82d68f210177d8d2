import os
import random
from pathlib import Path

import numpy as np
import pytest
from dataset_makers import make_mtat, mtat_clip, mtat_header, other_tags, write_annotations

from samptag.data.formats import open_dataset
from samptag.data.formats.mtat import TAGS
from samptag.errors import DatasetError
from samptag.pretrained import load_registry

CLIPS = {
    "0/band-album-01-first_song-0-29.mp3": {"guitar", "rock"},
    "0/band-album-01-first_song-29-58.mp3": {"guitar"},
    "b/choir-mass-02-kyrie-117-146.mp3": {"choir", "slow"},
    "c/dj-set-03-beat-0-29.mp3": {"techno"},
    "d/trio-live-04-tune-30-59.mp3": {"piano"},
    "f/solo-suite-05-air-30-59.mp3": {"harp", "quiet"},
    "f/solo-suite-05-air-59-88.mp3": {"rare 1"},  # none of the 50
    "2/none-none-06-none-0-29.mp3": set(),
}
TAGGED = [key for key, tags in CLIPS.items() if tags & set(TAGS)]


@pytest.fixture(scope="module")
def clip():
    return mtat_clip()


@pytest.fixture
def mtat(tmp_path, clip):
    return make_mtat(tmp_path / "mtat", CLIPS, audio=clip)


def of_kind(dataset, kind):
    return [problem.path for problem in dataset.problems if problem.kind == kind]


def test_the_clean_split_is_by_folder_and_leaves_out_clips_without_a_tag(mtat):
    dataset = open_dataset(mtat)
    assert (dataset.format, dataset.split_name, dataset.tags) == ("mtat", "mtat-clean-2017", TAGS)
    assert [(clip.key, clip.part) for clip in dataset.clips] == [
        (TAGGED[0], "train"),
        (TAGGED[1], "train"),
        (TAGGED[2], "train"),
        (TAGGED[3], "valid"),
        (TAGGED[4], "test"),
        (TAGGED[5], "test"),
    ]
    assert not of_kind(dataset, "unlisted")
    for clip in dataset.clips:
        assert {TAGS[index] for index in np.flatnonzero(clip.labels)} == CLIPS[clip.key]
        assert clip.labels.dtype == np.float32
        assert clip.path.is_file()


def test_clips_of_one_track_are_one_group(mtat):
    groups = [clip.group for clip in open_dataset(mtat).clips]
    assert groups[:3] == ["band-album-01-first_song", "band-album-01-first_song", "choir-mass-02-kyrie"]


def test_the_pons_split_keeps_clips_without_a_tag(mtat):
    dataset = open_dataset(mtat, split="mtat-pons-2018")
    assert {clip.key for clip in dataset.clips} == set(CLIPS)
    assert dataset.split_hash != open_dataset(mtat).split_hash


def test_fifty_tags_as_published():
    assert len(TAGS) == len(set(TAGS)) == 50
    assert (TAGS[0], TAGS[-1], "no vocals" in TAGS, "no vocal" in TAGS) == ("guitar", "choral", True, True)


def test_short_empty_and_absent_clips_are_told_and_left_out(tmp_path, clip):
    root = make_mtat(tmp_path, CLIPS, audio=clip, absent=(TAGGED[5],))
    (root / TAGGED[0]).write_bytes(clip[: int(len(clip) * 0.99)])
    (root / TAGGED[2]).write_bytes(b"")
    dataset = open_dataset(root)
    assert of_kind(dataset, "short") == [TAGGED[0], TAGGED[2]]
    assert of_kind(dataset, "missing") == [TAGGED[5]]
    assert [clip.key for clip in dataset.clips] == [TAGGED[1], TAGGED[3], TAGGED[4]]
    # The 2018 split has no shortest length; only the empty file is out.
    pons = open_dataset(root, split="mtat-pons-2018")
    assert of_kind(pons, "short") == [TAGGED[2]]
    assert TAGGED[0] in {clip.key for clip in pons.clips}


def test_the_hash_follows_the_clips_and_not_the_place(tmp_path, clip, mtat):
    beside = open_dataset(mtat)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (mtat / "annotations_final.csv").rename(moved / "annotations_final.csv")
    mtat.rename(moved / "mp3")
    inside = open_dataset(moved)
    assert inside.split_hash == beside.split_hash
    assert [clip.key for clip in inside.clips] == [clip.key for clip in beside.clips]
    (moved / "mp3" / TAGGED[1]).write_bytes(clip[:50_000])
    assert open_dataset(moved).split_hash != beside.split_hash


def test_lengths_are_measured_again_only_when_a_file_changes(mtat, clip):
    reports = []
    open_dataset(mtat, progress=lambda *report: reports.append(report))
    assert reports[-1] == ("measuring clips", 6, 6)
    first = mtat / TAGGED[0]
    stat = first.stat()
    first.write_bytes(b"\0" * stat.st_size)
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert TAGGED[0] in {clip.key for clip in open_dataset(mtat).clips}
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert TAGGED[0] not in {clip.key for clip in open_dataset(mtat).clips}


def test_files_that_no_row_lists_are_told(mtat, clip):
    (mtat / "e").mkdir()
    (mtat / "e" / "stranger-0-29.mp3").write_bytes(clip)
    assert of_kind(open_dataset(mtat), "unlisted") == ["e/stranger-0-29.mp3"]


def test_counts_other_than_the_published_are_told(mtat):
    messages = [problem.message for problem in open_dataset(mtat).problems if problem.kind == "split"]
    assert "train has 3 clips, the published split 15244" in messages


def test_a_table_of_the_real_size(tmp_path, clip):
    """25 863 rows of 188 tags; of the clips with a tag only every fiftieth is there, to keep the test small."""
    random.seed(3)
    clips = {}
    for number in range(25_863):
        folder = "0123456789abcdef"[number % 16]
        key = f"{folder}/artist_{number // 60}-album-{number % 12:02d}-song_{number // 5}-{number % 5 * 29}-99.mp3"
        some = number % 50 == 0
        clips[key] = set(random.sample(TAGS if some else other_tags(), random.randint(1, 9)))
    root = tmp_path
    write_annotations(root / "annotations_final.csv", clips)
    present = [key for number, key in enumerate(clips) if number % 50 == 0]
    for key in present:
        (root / key).parent.mkdir(exist_ok=True)
        if key == present[0]:
            (root / key).write_bytes(clip)
        else:
            os.link(root / present[0], root / key)
    dataset = open_dataset(root)
    assert len(dataset.clips) == len(present) == 518
    assert sum(clip.labels.sum() for clip in dataset.clips) == sum(len(clips[key]) for key in present)


def broken(change):
    """annotations_final.csv with its rows changed."""

    def write(path: Path) -> None:
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        change(rows)
        path.write_text("\n".join("\t".join(row) for row in rows) + "\n")

    return write


def drop_columns(rows):
    where = [position for position, name in enumerate(mtat_header()) if name in ("harp", "mp3_path")]
    for row in rows:
        for position in reversed(where):
            del row[position]


def label_two(rows):
    rows[3][mtat_header().index("guitar")] = '"2"'


def cut_row(rows):
    del rows[2][-5:]


def twice(rows):
    rows.append(list(rows[1]))


def strange_folder(rows):
    rows[4][-1] = '"../../etc/passwd"'


def unclosed_quote(rows):
    rows[5][3] = '"0'


def header_alone(rows):
    del rows[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_columns, ["'mp3_path', 'harp' is missing"]),
        (label_two, ["line 4", "'2'", "must be 0 or 1"]),
        (cut_row, ["line 3", "185 columns instead of 190"]),
        (twice, ["line 10", "appears in line 2 already", TAGGED[0]]),
        (strange_folder, ["line 5", "../../etc/passwd"]),
        (unclosed_quote, ["line"]),
        (list.clear, ["empty"]),
        (header_alone, ["has a header but lists no clips", "delete it, and 'samptag data download mtat"]),
    ],
)
def test_a_malformed_table_is_one_line(mtat, change, words):
    broken(change)(mtat / "annotations_final.csv")
    with pytest.raises(DatasetError) as caught:
        open_dataset(mtat)
    message = str(caught.value)
    assert "annotations_final.csv" in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_text_that_is_not_utf8_is_told(mtat):
    path = mtat / "annotations_final.csv"
    path.write_bytes(path.read_bytes() + b"\xe9\xe9\n")
    with pytest.raises(DatasetError, match="not UTF-8"):
        open_dataset(mtat)


def test_a_zip_not_yet_unpacked_names_the_command(tmp_path):
    write_annotations(tmp_path / "annotations_final.csv", CLIPS)
    (tmp_path / "mp3.zip.001").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=f"samptag data unpack {tmp_path}"):
        open_dataset(tmp_path)


def test_missing_annotations_name_the_command(tmp_path):
    (tmp_path / "mp3.zip.001").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"annotations_final.csv is missing; 'samptag data download mtat"):
        open_dataset(tmp_path)


def test_clips_that_are_nowhere_are_one_line(tmp_path):
    write_annotations(tmp_path / "annotations_final.csv", CLIPS)
    with pytest.raises(DatasetError, match=f"none of the listed clips was found.*{TAGGED[0]}"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"split": "mtat-clean"}, "mtat-clean-2017, mtat-pons-2018"), ({"subset": "genre"}, "no subsets")],
)
def test_unknown_splits_and_subsets_name_the_known(mtat, options, words):
    with pytest.raises(DatasetError, match=words):
        open_dataset(mtat, **options)


REAL = os.environ.get("SAMPTAG_TEST_MTAT")


@pytest.mark.skipif(REAL is None, reason="SAMPTAG_TEST_MTAT does not name a folder with the real MagnaTagATune")
def test_the_real_data_set_gives_the_published_split():
    dataset = open_dataset(REAL)
    assert dataset.counts() == {"train": 15_244, "valid": 1_529, "test": 4_332}
    positives = sum(clip.labels for clip in dataset.select("test"))
    counted = {tag: int(positives[TAGS.index(tag)]) for tag in ("guitar", "classical", "slow", "techno")}
    assert counted == {"guitar": 875, "classical": 699, "slow": 806, "techno": 598}


def test_the_registry_has_the_same_fifty_tags():
    assert load_registry().tag_lists["mtat50"].tags == TAGS
