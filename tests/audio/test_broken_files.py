"""Broken files: what decodes is given with a warning; what holds no sound is one clear line."""

import errno
import io
import os
import re
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from test_decode import decode

from samptag.errors import AudioError


def reason(source):
    """The message of the AudioError that decoding the source must raise; one line."""
    with pytest.raises(AudioError) as error:
        decode(source)
    message = str(error.value)
    assert message.isprintable()
    return message


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "opus", "wav", "aiff"])
def test_truncated_files_give_their_sound_and_a_warning(broken_file, write_sound, suffix):
    path = broken_file(f"truncated.{suffix}")
    cut, stream = decode(path)
    whole, whole_stream = decode(write_sound(f"whole.{suffix}"))
    assert len(stream.warnings) == 1
    assert re.fullmatch(r"truncated: .*\d+\.\d\d s .*decoded", stream.warnings[0])
    assert 0.3 < stream.duration / whole_stream.duration < 0.7
    np.testing.assert_allclose(cut[:-2000], whole[: len(cut) - 2000], atol=1e-4)


@pytest.mark.parametrize("missing", [1, 2, 100, 1000, 5000])
@pytest.mark.parametrize("name", ["eastern-dreams.mp3", "calm-before-the-storm.flac", "void-sensor.ogg", "lava.opus"])
def test_a_few_bytes_less_are_noticed(media, tmp_path, name, missing):
    path = tmp_path / name
    path.write_bytes((media / name).read_bytes()[:-missing])
    samples, stream = decode(path)
    assert len(samples) > 22_050
    assert [warning.split(":")[0] for warning in stream.warnings] == ["truncated"]


def test_a_few_bytes_less_of_an_mp3_with_a_count_are_noticed(write_sound):
    path = write_sound("x.mp3", bitrate_mode="VARIABLE")
    path.write_bytes(path.read_bytes()[:-7])
    assert decode(path)[1].warnings[0].startswith("truncated: the file breaks off")


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "opus"])
def test_garbage_in_the_middle_is_named_damage(broken_file, suffix):
    samples, stream = decode(broken_file(f"hole.{suffix}"))
    assert len(samples) > 4 * 22_050
    assert [warning.split(":")[0] for warning in stream.warnings] == ["damaged"]


def test_sound_before_an_unreadable_end_is_kept(demo_clip, tmp_path):
    # a constant-rate MP3 without a frame count, followed by what the decoder fails on
    path = tmp_path / "x.mp3"
    path.write_bytes(demo_clip.read_bytes() + bytes(range(256)) * 40)
    np.testing.assert_array_equal(decode(path)[0][: 29 * 22_050], decode(demo_clip)[0][: 29 * 22_050])
    assert decode(path)[1].duration == pytest.approx(decode(demo_clip)[1].duration, abs=0.03)


@pytest.mark.parametrize("place", [43, 193, 293, 298])
def test_a_seek_to_nowhere_stays_between_the_decoder_and_the_file(media, tmp_path, capfd, place):
    """A WMA whose index says it has objects of 4 GB and more: FFmpeg seeks there, and PyAV used to print why not."""
    pytest.importorskip("av")
    data = bytearray((media / "honor-bound.wma").read_bytes())
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "x.wma").write_bytes(data)
    with suppress(AudioError):
        decode(tmp_path / "x.wma")
    assert len(decode(media / "honor-bound.m4a")[0]) > 2 * 22_050, "an error was kept for the next file"
    assert capfd.readouterr() == ("", "")


def test_a_disk_that_fails_in_the_middle_is_damage(media, capfd):
    pytest.importorskip("av")

    class FailingDisk(io.FileIO):
        def read(self, size=-1):
            if self.tell() > 10_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(4096)

    with FailingDisk(media / "honor-bound.wma") as file:
        samples, stream = decode(file)
    assert len(samples) > 22_050
    assert [warning.split(":")[0] for warning in stream.warnings] == ["damaged"]
    assert capfd.readouterr() == ("", "")


def test_damaged_m4a_and_wma(media, tmp_path):
    pytest.importorskip("av")
    data = bytearray((media / "honor-bound.m4a").read_bytes())
    data[10_000:12_000] = np.random.default_rng(0).bytes(2_000)
    (tmp_path / "hole.m4a").write_bytes(data)
    samples, stream = decode(tmp_path / "hole.m4a")
    assert len(samples) > 2 * 22_050
    assert stream.warnings[0].startswith("damaged: ")
    (tmp_path / "cut.wma").write_bytes((media / "honor-bound.wma").read_bytes()[:8_000])
    samples, stream = decode(tmp_path / "cut.wma")
    assert len(samples) > 10_000
    assert len(stream.warnings) == 1


def test_numbers_that_are_no_sound_become_zero(broken_file, music):
    samples, stream = decode(broken_file("some-nan.wav"))
    # 100 samples of one channel, one of the other, one of both
    assert stream.warnings == [f"102 of {stream.n_decoded} samples are not finite numbers and count as zero"]
    expected = music.part(5).copy()
    expected[1000:1100, 0] = expected[5000, 1] = expected[6000] = 0
    np.testing.assert_allclose(samples, expected.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("value", [1e20, -3e38, 5e9])
def test_absurd_values_become_zero(write_sound, music, value):
    bad = music.part(1).copy()
    bad[100] = value
    samples, stream = decode(write_sound("x.wav", bad, 22_050, subtype="FLOAT"))
    assert samples[100] == 0
    assert len(stream.warnings) == 1


def test_all_zeros_are_valid(broken_file):
    samples, stream = decode(broken_file("zeros.wav"))
    assert len(samples) == 4 * 22_050
    assert not samples.any()
    assert stream.warnings == []


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 192_000])
def test_one_sample_is_sound(write_sound, rate):
    path = write_sound("one.wav", np.full((1, 1), 0.5, dtype=np.float32), rate, subtype="FLOAT")
    samples, stream = decode(path)
    assert len(samples) == max(1, 22_050 // rate)
    assert samples[0] > 0.05
    assert stream.n_decoded == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.wav", r"empty\.wav: the file is empty"),
        (
            "text.mp3",
            r"text\.mp3: not a sound file that can be decoded \(libsndfile: format not recognised; FFmpeg: .*\)",
        ),
        ("header-only.wav", r"header-only\.wav: no sound in it \(0 samples could be decoded\)"),
        ("nan.wav", r"nan\.wav: no sound in it \(no sample is a finite number\)"),
        ("cut.m4a", r"cut\.m4a: not a sound file that can be decoded"),
    ],
)
def test_files_without_sound(broken_file, name, words):
    pytest.importorskip("av")
    assert re.search(words, reason(broken_file(name)))


def test_missing_directory_dangling_and_forbidden(tmp_path):
    assert reason(tmp_path / "gone.mp3").endswith("gone.mp3: No such file or directory")
    (tmp_path / "folder.mp3").mkdir()
    assert reason(tmp_path / "folder.mp3").endswith("folder.mp3: Is a directory")
    (tmp_path / "link.mp3").symlink_to(tmp_path / "nowhere")
    assert "No such file" in reason(tmp_path / "link.mp3")
    (tmp_path / "loop.mp3").symlink_to(tmp_path / "loop.mp3")
    assert "symbolic links" in reason(tmp_path / "loop.mp3")
    (tmp_path / "secret.mp3").write_bytes(b"x")
    (tmp_path / "secret.mp3").chmod(0)
    if not os.access(tmp_path / "secret.mp3", os.R_OK):
        assert "Permission denied" in reason(tmp_path / "secret.mp3")
    assert "null byte" in reason("a\0b.mp3")


def test_messages_stay_on_one_line(tmp_path):
    path = tmp_path / "two\nlines\x1b[31m.mp3"
    path.write_text("text")
    assert r"two\nlines\x1b[31m.mp3: " in reason(path)


@pytest.mark.parametrize("rate", [0, 1, 999, 1_000_001, 0x7FFFFFFF])
def test_absurd_sample_rates(tmp_path, rate):
    path = tmp_path / "x.wav"
    form = struct.pack("<HHIIHH", 1, 1, rate, (2 * rate) & 0xFFFFFFFF, 2, 16)
    sound = np.arange(5000, dtype="<i2").tobytes()
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(sound)) + sound
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    message = reason(path)
    assert message.startswith(str(path))
    assert "sample rate" in message or "not a sound file" in message


def test_random_bytes_are_never_music():
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert "<stream>: " in reason(io.BytesIO(rng.bytes(50_000)))


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n", "ffconcat version 1.0\nfile '{clip}'\n"],
)
def test_playlists_open_no_other_file(media, tmp_path, text):
    path = tmp_path / "list.m4a"
    path.write_text(text.format(clip=media / "honor-bound.m4a"))
    assert "not a sound file" in reason(path)


DAMAGED = """
import sys
if sys.argv[2] == "quiet":
    from samptag.cli.output import silence_codecs
    silenced = silence_codecs()
from samptag.audio.decode import open_audio
with open_audio(sys.argv[1], sample_rate=22050) as stream:
    n = sum(map(len, stream))
print("python speaks", file=sys.stderr)
if sys.argv[2] == "quiet" and not silenced:
    sys.exit(77)
"""


def run_on(path, how):
    return subprocess.run([sys.executable, "-c", DAMAGED, str(path), how], capture_output=True, text=True)


def test_codecs_never_write_to_stdout(broken_file):
    done = run_on(broken_file("hole.mp3"), "as it is")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "python speaks" in done.stderr


def test_silenced_codecs_leave_stderr_to_python(broken_file):
    path = broken_file("hole.mp3")
    done = run_on(path, "quiet")
    if done.returncode == 77:
        pytest.skip("the C library's stderr cannot be pointed elsewhere here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "python speaks\n")
    assert run_on(path, "as it is").stderr != "python speaks\n"
