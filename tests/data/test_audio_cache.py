import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from dataset_makers import MEDIA, SET, copy_songs

from samptag.audio.decode import open_audio, to_int16
from samptag.data.cache import build_cache
from samptag.data.formats import open_dataset
from samptag.errors import DatasetError

RATE = 16_000
SONGS = {f"calm/{number}.opus": number for number in range(4)} | {
    f"driving/{number}.opus": 12 + number for number in range(4)
}


@pytest.fixture
def songs(tmp_path):
    copy_songs(tmp_path / "songs", SONGS)
    return tmp_path / "songs"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "caches"


def decoded(path, rate=RATE):
    with open_audio(path, sample_rate=rate) as stream:
        return to_int16(np.concatenate(list(stream)))


class Counter:
    """A progress callback that counts the clips decoded."""

    def __init__(self):
        self.done = []

    def __call__(self, what, done, total):
        self.done.append(done)


def test_every_clip_is_there_in_the_order_of_the_data_set(songs, place):
    dataset = open_dataset(songs)
    cache = build_cache(dataset, sample_rate=RATE, directory=place)
    assert cache.starts.shape == cache.lengths.shape == (8,)
    for index, clip in enumerate(dataset.clips):
        np.testing.assert_array_equal(cache.clip(index), decoded(clip.path))
    assert (cache.split_hash, cache.left_out) == (dataset.split_hash, 0)


def test_any_stretch_of_a_clip_is_read(songs, place):
    cache = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    whole = np.concatenate([cache.clip(index) for index in range(8)])
    for index in range(8):
        first, last = int(cache.starts[index]), int(cache.starts[index] + cache.lengths[index])
        for start, stop in ((first, first + 1), (first + 999, first + 5000), (last - 1, last), (first, first)):
            out = np.zeros(stop - start, dtype=np.int16)
            cache.read(start, out)
            np.testing.assert_array_equal(out, whole[start:stop])


def test_a_file_that_goes_or_shrinks_while_in_use_is_one_line(songs, place):
    cache = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    os.truncate(cache.files[3], 1000)
    cache.files[4].unlink()
    with pytest.raises(DatasetError, match=r"\.i16: is shorter than it was; the cache was changed while in use"):
        cache.clip(3)
    with pytest.raises(DatasetError, match=r"\.i16: cannot be read: No such file or directory; the cache was changed"):
        cache.clip(4)


def test_sixteen_bit_files_at_the_rate_come_through_unchanged(tmp_path, place):
    (tmp_path / "manifest.csv").write_text("path,tags\nbay.wav,calm\n")
    shutil.copy(MEDIA / "bay.wav", tmp_path)
    cache = build_cache(open_dataset(tmp_path), sample_rate=22_050, directory=place)
    np.testing.assert_array_equal(cache.clip(0), soundfile.read(MEDIA / "bay.wav", dtype="int16")[0])


def test_rounding_is_to_the_nearest_and_saturates():
    values = np.array([0, 0.49, -0.49, 0.51, 1.5, 2.5, 32766.6, 40000, -40000, -32768], np.float32) / 32768
    assert to_int16(values).tolist() == [0, 0, 0, 1, 2, 2, 32767, 32767, -32768, -32768]


def test_the_cap_cuts_clips_at_their_start(songs, place):
    dataset = open_dataset(songs)
    cache = build_cache(dataset, sample_rate=RATE, directory=place, seconds_per_clip=1.5)
    assert cache.lengths.tolist() == [24_000] * 8
    np.testing.assert_array_equal(cache.clip(2), decoded(dataset.clips[2].path)[:24_000])


def test_the_second_time_nothing_is_decoded(songs, place):
    dataset, first, second = open_dataset(songs), Counter(), Counter()
    one = build_cache(dataset, sample_rate=RATE, directory=place, progress=first)
    two = build_cache(dataset, sample_rate=RATE, directory=place, progress=second)
    assert first.done == list(range(1, 9))
    assert (second.done, two.folder) == ([], one.folder)


def test_data_sets_with_the_same_clips_share_a_cache(songs, place, tmp_path):
    built = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    moved = tmp_path / "elsewhere"
    songs.rename(moved)
    rows = [f"driving/{number}.opus,loud" for number in range(3)]
    (moved / "manifest.csv").write_text("\n".join(["path,tags", *rows]))
    counter = Counter()
    fewer = open_dataset(moved)
    cache = build_cache(fewer, sample_rate=RATE, directory=place, progress=counter)
    assert (counter.done, cache.folder) == ([], built.folder)
    for index, clip in enumerate(fewer.clips):
        np.testing.assert_array_equal(cache.clip(index), decoded(clip.path))


def test_a_changed_file_or_another_rate_or_cap_is_decoded_anew(songs, place):
    first = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    other_rate = build_cache(open_dataset(songs), sample_rate=8_000, directory=place)
    capped = build_cache(open_dataset(songs), sample_rate=RATE, directory=place, seconds_per_clip=1)
    shutil.copy(SET[20], songs / "calm" / "0.opus")
    changed = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    assert len({cache.folder for cache in (first, other_rate, capped)}) == 3
    assert other_rate.sample_rate == 8_000
    assert len(set(changed.files) - set(first.files)) == 1
    index = [clip.key for clip in open_dataset(songs).clips].index("calm/0.opus")
    np.testing.assert_array_equal(changed.clip(index), decoded(SET[20]))


def test_the_same_recording_under_two_names_is_stored_once(songs, place):
    shutil.copy(songs / "calm" / "0.opus", songs / "driving" / "copy.opus")
    cache = build_cache(open_dataset(songs), sample_rate=RATE, directory=place)
    assert len(cache.files) == 9
    assert len(set(cache.files)) == len(list(cache.folder.glob("*.i16"))) == 8
    for index, clip in enumerate(open_dataset(songs).clips):
        np.testing.assert_array_equal(cache.clip(index), decoded(clip.path))


def test_broken_clips_are_listed_and_nothing_is_dropped_silently(songs, place, broken_file):
    for name in ("text.mp3", "header-only.wav", "nan.wav", "truncated.mp3", "some-nan.wav", "one-sample.wav"):
        shutil.copy(broken_file(name), songs / "calm" / name)
    dataset = open_dataset(songs)
    cache = build_cache(dataset, sample_rate=RATE, directory=place)
    report = json.loads(cache.report_path.read_text())
    assert {item["path"]: item["reason"] for item in report["left_out"]} == {
        "calm/text.mp3": "unreadable",
        "calm/header-only.wav": "unreadable",
        "calm/nan.wav": "unreadable",
    }
    assert {item["path"] for item in report["warnings"]} == {"calm/truncated.mp3", "calm/some-nan.wav"}
    assert report["split"] == {"name": "folders", "hash": cache.split_hash}
    assert cache.split_hash != dataset.split_hash
    assert (cache.left_out, report["clips"], (cache.lengths == 0).sum()) == (3, 11, 3)
    out = {clip.key for clip, length in zip(dataset.clips, cache.lengths, strict=True) if length == 0}
    assert out == {item["path"] for item in report["left_out"]}
    assert all(str(songs) not in item["message"] for item in report["left_out"])
    assert report["padded"] == []


def test_clips_that_zeros_fill_up_are_listed_with_their_duration(songs, place, caplog, broken_file):
    """Padded and left out are told apart, and reports for segments of other lengths stand beside one another."""
    shutil.copy(broken_file("text.mp3"), songs / "calm")
    for name, seconds in (("driving/half.wav", 0.5), ("driving/two.wav", 2.0)):
        soundfile.write(songs / name, decoded(SET[3])[: round(seconds * RATE)], RATE)
    dataset = open_dataset(songs)
    part_of = {clip.key: clip.part for clip in dataset.clips}

    def build(segment_length):
        return build_cache(dataset, sample_rate=RATE, directory=place, segment_length=segment_length)

    cache = build(2 * RATE)
    report = json.loads(cache.report_path.read_text())
    assert report["padded"] == [
        {
            "path": "driving/half.wav",
            "split": part_of["driving/half.wav"],
            "seconds": 0.5,
            "reason": "short",
            "message": "0.500 s, padded with zeros to a segment of 2.000 s",
        }
    ]
    assert [(item["path"], item["seconds"]) for item in report["left_out"]] == [("calm/text.mp3", 0.0)]
    assert (cache.left_out, report["clips"]) == (1, 10)
    longer = json.loads(build(2 * RATE + 1).report_path.read_text())
    assert {item["path"] for item in longer["padded"]} == {"driving/half.wav", "driving/two.wav"}
    assert json.loads(cache.report_path.read_text()) == report
    cache.report_path.unlink()
    cache.report_path.mkdir()  # a place that cannot be written
    with caplog.at_level(logging.WARNING, "samptag"):
        build(2 * RATE)
    assert "calm/text.mp3: left out: " in caplog.text
    assert "driving/half.wav: padded: 0.500 s, padded with zeros to a segment of 2.000 s" in caplog.text


def test_a_clip_that_vanishes_after_the_check_is_listed(songs, place):
    dataset = open_dataset(songs)
    (songs / "calm" / "1.opus").unlink()
    report = json.loads(build_cache(dataset, sample_rate=RATE, directory=place).report_path.read_text())
    (gone,) = report["left_out"]
    assert (gone["path"], gone["reason"], gone["message"]) == ("calm/1.opus", "unreadable", "cannot be read")


def test_what_needs_pyav_is_decoded_once_it_is_installed(songs, place, media):
    pytest.importorskip("av")
    shutil.copy(media / "honor-bound.m4a", songs / "calm")
    hidden = "import sys\nsys.modules['av'] = None\n"
    command = [sys.executable, "-c", hidden + BUILD, str(songs), str(place), "0"]
    subprocess.run(command, input="go\n", stdout=subprocess.DEVNULL, text=True, check=True)
    counter = Counter()
    cache = build_cache(open_dataset(songs), sample_rate=RATE, directory=place, progress=counter)
    assert (counter.done, cache.left_out) == ([9], 0)


def test_nothing_but_broken_clips_is_an_error(tmp_path, place, broken_file):
    (tmp_path / "calm").mkdir()
    shutil.copy(broken_file("text.mp3"), tmp_path / "calm")
    with pytest.raises(DatasetError, match=r"none of the 1 clips can be decoded: calm/text\.mp3: "):
        build_cache(open_dataset(tmp_path), sample_rate=RATE, directory=place)


DAMAGE = {
    "cut": lambda file: os.truncate(file, 1000),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 2),
    "removed": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_clip_is_told_and_made_again_and_no_other(songs, place, caplog, damage):
    dataset, counter = open_dataset(songs), Counter()
    first = build_cache(dataset, sample_rate=RATE, directory=place)
    damage(first.files[5])
    with caplog.at_level(logging.WARNING, "samptag"):
        again = build_cache(dataset, sample_rate=RATE, directory=place, progress=counter)
    assert counter.done == [8]
    assert again.files == first.files
    np.testing.assert_array_equal(again.clip(5), decoded(dataset.clips[5].path))
    told = caplog.text.count("is damaged and decoded again")
    assert told == (damage is not DAMAGE["removed"])


def test_what_was_wrong_with_a_clip_is_known_the_next_time(songs, place, broken_file):
    for name in ("text.mp3", "truncated.mp3"):
        shutil.copy(broken_file(name), songs / "calm" / name)
    dataset, counter = open_dataset(songs), Counter()
    report = build_cache(dataset, sample_rate=RATE, directory=place).report_path
    first = json.loads(report.read_text())
    report.unlink()
    assert build_cache(dataset, sample_rate=RATE, directory=place, progress=counter).report_path == report
    assert json.loads(report.read_text()) == first
    assert [len(first[key]) for key in ("left_out", "warnings")] == [1, 1]
    assert counter.done == []
    for note in report.parent.glob("[0-9a-f]*.json"):
        note.write_text("{")
    assert len(build_cache(dataset, sample_rate=RATE, directory=place, progress=counter).lengths) == 10
    assert counter.done == [9, 10]
    assert json.loads(report.read_text()) == first


BUILD = """
import sys
from pathlib import Path
from samptag.data.cache import build_cache
from samptag.data.formats import open_dataset

print("ready", flush=True)
sys.stdin.readline()

def report(what, done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        sys.stdin.readline()

songs, place = Path(sys.argv[1]), Path(sys.argv[2])
cache = build_cache(open_dataset(songs), sample_rate=16000, directory=place, jobs=2, progress=report)
print(cache.folder, flush=True)
"""


def start(songs, place, wait_at=0):
    arguments = [sys.executable, "-c", BUILD, str(songs), str(place), str(wait_at)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process):
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_where_it_was(songs, place, torn):
    dataset = open_dataset(songs)
    process = start(songs, place, wait_at=5)
    go_on(process)
    while process.stdout.readline() != "5\n":
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = place.glob("16000Hz-*")
    if torn:
        (folder / f".{'0' * 32}.i16").write_bytes(b"finished, but not named")
        (folder / ".abc.i16.123-456.tmp").write_bytes(b"half a clip")
    # Another thread may have been further than was told, up to the last clip.
    there = list(folder.glob("[0-9a-f]*.i16"))
    assert len(there) >= 5
    there.pop().unlink()
    kept = len(there)
    counter = Counter()
    cache = build_cache(dataset, sample_rate=RATE, directory=place, progress=counter)
    assert counter.done == list(range(kept + 1, 9))
    for index, clip in enumerate(dataset.clips):
        np.testing.assert_array_equal(cache.clip(index), decoded(clip.path))
    assert not list(folder.glob(".*.tmp"))


def test_of_two_processes_one_decodes_and_the_other_waits(songs, place):
    first, second = start(songs, place, wait_at=8), start(songs, place)
    go_on(first)
    assert first.stdout.readline() == "1\n"
    go_on(second)
    go_on(first)
    # read(), not communicate(): that passes over what readline() took in beyond its line
    outputs = [process.stdout.read().split("\n")[:-1] for process in (first, second)]
    for process in (first, second):
        process.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[0][:-1] == [str(done) for done in range(2, 9)]
    assert outputs[1] == [outputs[0][-1]], "the second decoded as well"


def test_a_disk_that_fails_is_one_line_and_the_work_so_far_is_kept(songs, place):
    """The kernel refuses to let a file grow beyond 150 kB, as a full disk refuses any: all clips but the last fit."""
    for clip in open_dataset(songs).clips[:-1]:
        samples = decoded(clip.path)[: 2 * RATE]
        with clip.path.open("wb") as file:
            soundfile.write(file, samples, RATE, format="WAV")
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + BUILD, str(songs), str(place), "0"], input="go\n", capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("samptag.errors.DatasetError: ")
    assert "cannot write the audio cache: File too large; decoded clips are kept" in last
    assert not list(place.glob("*/*.tmp"))
    counter = Counter()
    dataset = open_dataset(songs)
    cache = build_cache(dataset, sample_rate=RATE, directory=place, progress=counter)
    assert counter.done == [8]
    for index, clip in enumerate(dataset.clips):
        np.testing.assert_array_equal(cache.clip(index), decoded(clip.path))


def test_too_little_space_is_told_before_decoding(tmp_path, place):
    """An AU file of 4 TB, all but its first bytes a hole: 16 years of sound."""
    header = b".snd" + (24).to_bytes(4, "big") + b"\xff" * 4 + (1).to_bytes(4, "big") + (8000).to_bytes(4, "big")
    (tmp_path / "calm").mkdir()
    path = tmp_path / "calm" / "endless.au"
    path.write_bytes(header + (1).to_bytes(4, "big"))
    os.truncate(path, 4 * 10**12)
    with pytest.raises(DatasetError, match=r"decoding 1 clips to 22050 Hz needs about \d+\.\d GB, but only .* free"):
        build_cache(open_dataset(tmp_path), sample_rate=22_050, directory=place)
    assert not list(place.glob("*/*.i16"))


def test_a_place_that_cannot_be_written_is_one_line(songs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match=r"cannot write the audio cache: Not a directory; .*another place"):
        build_cache(open_dataset(songs), sample_rate=RATE, directory=tmp_path / "file" / "caches")


def test_the_default_place_follows_the_environment(songs, own_cache):
    cache = build_cache(open_dataset(songs), sample_rate=RATE)
    assert cache.folder.is_relative_to(own_cache / "audio")
