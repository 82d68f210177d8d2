"""Broken and odd inputs through the real command: nothing stops the run, nothing is passed over in silence."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from superuser import give_up_override, needs_rights

LENGTH = 6561  # samples in a segment of the small net
RATE = 22_050


@pytest.fixture
def by_name(tag, valid):
    """Records of one run over a folder, by file name, with its standard error."""

    def run(folder, *options, check):
        process = tag(folder, "--json", *options, check=check)
        array = json.loads(process.stdout)
        valid("tag", array)
        return {Path(record["path"]).name: record for record in array}, process.stderr.decode()

    return run


def test_files_that_cannot_be_tagged_fail_alone(by_name, broken_file, write_sound, tmp_path):
    bad = ["empty.wav", "text.mp3", "header-only.wav", "nan.wav", "cut.m4a"]
    for name in bad:
        broken_file(name)
    write_sound("ok.wav")
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "gone.mp3")
    (tmp_path / "loop.mp3").symlink_to(tmp_path / "loop.mp3")
    (tmp_path / "x.mp3").mkdir()
    write_sound("x.mp3/inside.flac")
    bad += ["dangling.mp3", "loop.mp3"]
    records, stderr = by_name(tmp_path, check=1)
    assert sorted(records) == sorted([*bad, "ok.wav", "inside.flac"])
    for name in bad:
        record = records[name]
        assert record["tags"] == []
        assert record["error"]["type"] == "AudioError"
        assert name in record["error"]["message"]
        assert f"samptag: error: {record['error']['message']}\n" in stderr
    assert len(records["ok.wav"]["tags"]) == len(records["inside.flac"]["tags"]) == 5
    assert stderr.endswith(f"samptag: {len(bad)} of {len(records)} inputs failed\n")
    assert "Traceback" not in stderr


def test_files_that_are_cut_or_damaged_are_tagged_with_a_warning(by_name, broken_file, tmp_path):
    names = ["truncated.mp3", "truncated.flac", "truncated.ogg", "truncated.wav", "some-nan.wav"]
    for name in names:
        broken_file(name)
    records, stderr = by_name(tmp_path, check=0)
    for name in names:
        record = records[name]
        assert record["error"] is None
        assert len(record["tags"]) == 5
        (warning,) = record["warnings"]
        assert f"{name}: {warning}" in stderr
        assert 4 < record["duration"] < 6 or not name.startswith("truncated")
        assert all(0 <= item["score"] <= 1 for item in record["tags"])
    # libmpg123 comments on such files, which helps nobody here.
    assert all(line.startswith("samptag: warning: ") for line in stderr.splitlines())


def test_lengths_around_one_segment(by_name, music, write_sound, tmp_path):
    for n in (1, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH):
        mono = music.samples[44_100 : 44_100 + n, :1]
        write_sound(f"{n}.wav", samples=mono, rate=RATE, subtype="FLOAT")
    records, _ = by_name(tmp_path, "--tail", "overlap", check=0)
    facts = {int(Path(name).stem): (record["segments"], record["padded"]) for name, record in records.items()}
    assert facts == {
        1: (1, True),
        LENGTH - 1: (1, True),
        LENGTH: (1, False),
        LENGTH + 1: (2, False),
        2 * LENGTH: (2, False),
    }
    dropped, _ = by_name(tmp_path, "--tail", "drop", check=0)
    assert dropped[f"{LENGTH + 1}.wav"]["segments"] == 1
    assert dropped["1.wav"]["segments"] == 1
    padded, _ = by_name(tmp_path, "--tail", "pad", check=0)
    assert (padded[f"{LENGTH + 1}.wav"]["segments"], padded[f"{LENGTH + 1}.wav"]["padded"]) == (2, True)


def test_any_rate_width_and_number_of_channels_and_silence(by_name, music, write_sound, tmp_path):
    six = np.tile(music.part(2), (1, 3))
    write_sound("surround.wav", samples=six, rate=192_000, subtype="PCM_24", format="WAVEX")
    write_sound("phone.wav", samples=music.part(2)[:, :1], rate=8_000, subtype="PCM_U8")
    write_sound("silence.flac", samples=np.zeros((3600 * 8_000, 1), np.int16), rate=8_000)
    write_sound("zeros.wav", samples=np.zeros((RATE, 2), np.float32), rate=RATE, subtype="FLOAT")
    records, stderr = by_name(tmp_path, "--hop", "20", check=0)
    assert stderr == ""
    assert records["surround.wav"]["sample_rate"] == 192_000
    assert records["phone.wav"]["duration"] == pytest.approx(len(music.part(2)) / 8_000)
    assert records["silence.flac"]["duration"] == 3600
    assert records["silence.flac"]["segments"] == 3600 // 20 + 1
    assert [item["tag"] for item in records["zeros.wav"]["tags"]] == [
        item["tag"] for item in records["silence.flac"]["tags"]
    ]


def test_names_of_any_bytes(by_name, tag, valid, write_sound, music, tmp_path):
    sound = write_sound("s.wav", music.part(1)).read_bytes()
    folder = os.fsencode(tmp_path) + b"/lib"
    os.mkdir(folder)
    names = [b"new\nline.wav", "emoji 🎵 音楽.wav".encode(), b"latin-\xe9\xff.wav", b"tab\there.wav", b"-dash.wav"]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(sound)
    process = tag(folder, "--json", check=0)
    array = json.loads(process.stdout.decode("utf-8"))
    valid("tag", array)
    exact = [
        base64.b64decode(record["path_bytes"]) if "path_bytes" in record else record["path"].encode()
        for record in array
    ]
    assert exact == sorted(os.path.join(folder, name) for name in names)
    lines = tag(folder, "--top", "1", check=0).stdout.decode("utf-8").splitlines()
    assert [line.count("\t") for line in lines] == [2] * len(names)
    assert "new\\nline.wav" in lines[3]
    invalid = os.path.join(folder, names[2])
    record = json.loads(tag("--json", "--", invalid, b"-", input=sound).stdout.decode("utf-8"))[0]
    assert base64.b64decode(record["path_bytes"]) == invalid


def test_inputs_that_are_not_there_and_folders_without_audio(tag, tmp_path):
    (tmp_path / "empty").mkdir()
    process = tag(tmp_path / "empty", tmp_path / "missing.mp3", "--format", "jsonl", check=1)
    records = [json.loads(line) for line in process.stdout.splitlines()]
    assert [record["path"] for record in records] == [str(tmp_path / "empty"), str(tmp_path / "missing.mp3")]
    assert "no audio files" in records[0]["error"]["message"]
    assert "No such file" in records[1]["error"]["message"]
    one = tag(tmp_path / "missing.mp3", "--json", check=1)
    assert json.loads(one.stdout)["error"]["type"] == "AudioError"
    assert one.stderr.count(b"\n") == 1
    rows = tag(tmp_path / "missing.mp3", "--format", "csv", check=1).stdout.splitlines()
    assert len(rows) == 1


def test_fail_fast_ends_at_the_first_failure_with_a_whole_document(tag, broken_file, demo_clip):
    bad = broken_file("text.mp3")
    array = json.loads(tag(demo_clip, bad, demo_clip, "--json", "--fail-fast", check=1).stdout)
    assert [record["error"] is None for record in array] == [True, False]


@needs_rights
def test_what_may_not_be_read_is_an_error(tag, write_sound, tmp_path):
    for name in ("open.wav", "shut.wav", "vault/x.wav"):
        write_sound(f"lib/{name}")
    shut, vault = tmp_path / "lib" / "shut.wav", tmp_path / "lib" / "vault"
    shut.chmod(0)
    vault.chmod(0)
    try:
        process = tag(tmp_path / "lib", "--json", check=1, preexec_fn=give_up_override)
    finally:
        vault.chmod(0o755)
    records = {Path(record["path"]).name: record for record in json.loads(process.stdout)}
    assert {name: record["error"] is None for name, record in records.items()} == {
        "open.wav": True,
        "shut.wav": False,
        "vault": False,
    }
    assert "Permission denied" in records["shut.wav"]["error"]["message"]
    assert "cannot list the folder" in records["vault"]["error"]["message"]
