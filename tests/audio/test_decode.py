"""Sound of every format, rate, width and layout arrives whole, mono and at the asked rate."""

import builtins
import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import resampy
import soundfile

from samptag.audio.decode import SUFFIXES, open_audio
from samptag.audio.resample import resample
from samptag.errors import AudioError

CLIPS = {
    "bay.wav": (22_050, 1.0),
    "calm-before-the-storm.aiff": (11_025, 1.0),
    "calm-before-the-storm.flac": (16_000, 2.0),
    "eastern-dreams.mp3": (44_100, 30.0),
    "honor-bound.m4a": (48_000, 4.0),
    "honor-bound.wma": (48_000, 2.0),
    "lava.opus": (48_000, 4.0),
    "void-sensor.ogg": (44_100, 4.0),
}


def decode(source, *, sample_rate=22_050):
    """All samples, and the finished stream."""
    with open_audio(source, sample_rate=sample_rate) as stream:
        blocks = list(stream)
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    return np.concatenate(blocks), stream


def test_the_table_names_every_clip(media):
    assert {path.name for path in media.iterdir() if path.is_file()} == {*CLIPS, "SOURCES.md"}


@pytest.mark.parametrize("name", CLIPS)
def test_intact_clips_decode_whole_and_without_warnings(media, name):
    rate, seconds = CLIPS[name]
    samples, stream = decode(media / name)
    assert stream.native_rate == rate
    assert stream.warnings == []
    assert stream.duration == pytest.approx(seconds, abs=0.1)
    assert stream.n_decoded == round(stream.duration * rate)
    assert len(samples) == int(stream.n_decoded * 22_050 / rate)
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5


def test_every_excerpt_of_the_set_decodes(media):
    excerpts = sorted((media / "set").iterdir())
    kinds = [path.name.split("-")[0] for path in excerpts]
    assert kinds == ["calm"] * 12 + ["driving"] * 12
    for path in excerpts:
        samples, stream = decode(path)
        assert stream.warnings == []
        assert len(samples) == 6 * 22_050
        assert np.sqrt(np.mean(samples**2)) > 0.01


def test_every_clip_stands_in_the_sources_table(media):
    table = (media / "SOURCES.md").read_text()
    for path in media.rglob("*.*"):
        if path.name != "SOURCES.md":
            assert f"`{path.relative_to(media).as_posix()}`" in table


def test_samples_are_those_of_soundfile_and_resampy(demo_clip):
    ours, _ = decode(demo_clip)
    theirs, rate = soundfile.read(demo_clip, dtype="float32")
    theirs = resampy.resample(np.ascontiguousarray(theirs.mean(axis=1)), rate, 22_050, filter="kaiser_best")
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_m4a_sounds_like_what_it_was_made_from(media):
    pytest.importorskip("av")
    # AAC and WMA clips are cut from the same second of the same track
    m4a, _ = decode(media / "honor-bound.m4a")
    wma, _ = decode(media / "honor-bound.wma")
    n = 1 << 15
    spectra = np.fft.rfft(m4a[:n] - m4a[:n].mean(), 2 * n), np.fft.rfft(wma[:n] - wma[:n].mean(), 2 * n)
    correlation = np.fft.irfft(spectra[0] * spectra[1].conj())
    assert correlation.max() / np.sqrt(np.sum(m4a[:n] ** 2) * np.sum(wma[:n] ** 2)) > 0.9


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"])
def test_every_width_of_wav(write_sound, music, subtype):
    samples, stream = decode(write_sound("x.wav", music.part(2), subtype=subtype), sample_rate=44_100)
    assert stream.warnings == []
    expected = music.part(2).mean(axis=1)
    tolerance = {"PCM_U8": 1 / 128, "ULAW": 0.03, "MS_ADPCM": 0.1}.get(subtype, 1e-4)
    np.testing.assert_allclose(samples[: len(expected)], expected, atol=tolerance)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.aiff", "x.ogg", "x.mp3", "x.caf", "x.au", "x.w64", "x.rf64"])
@pytest.mark.parametrize("seconds", [0.1, 2.321])
def test_every_container_at_every_length_gives_no_warning(write_sound, music, name, seconds):
    samples, stream = decode(write_sound(name, music.part(seconds)), sample_rate=16_000)
    assert stream.warnings == []
    assert stream.duration == pytest.approx(seconds, abs=1e-3)
    assert len(samples) == int(stream.n_decoded * 16_000 / 44_100)


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_intact_mp3_of_every_kind_gives_no_warning(write_sound, music, bitrate_mode, channels, rate):
    path = write_sound("x.mp3", music.samples[: 3 * rate, :channels], rate, bitrate_mode=bitrate_mode)
    assert decode(path)[1].warnings == []


@pytest.mark.parametrize(
    "tag", [b"TAG" + b" " * 125, b"\0" * 5000, b"APETAGEX" + b"x" * 200_000 + b"APETAGEX" + b" " * 24]
)
@pytest.mark.parametrize("name", ["x.mp3", "x.flac", "eastern-dreams.mp3"])
def test_tags_behind_the_sound_are_no_damage(media, write_sound, tmp_path, name, tag):
    source = media / name if name.startswith("eastern") else write_sound(name)
    path = tmp_path / f"tagged-{name}"
    path.write_bytes(source.read_bytes() + tag)
    whole, _ = decode(source)
    tagged, stream = decode(path)
    assert stream.warnings == []
    assert len(tagged) == pytest.approx(len(whole), abs=60)


def test_id3_picture_before_the_sound(demo_clip, tmp_path):
    picture = bytes(70_000)
    size = bytes((len(picture) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path = tmp_path / "x.mp3"
    path.write_bytes(b"ID3\x04\0\0" + size + picture + demo_clip.read_bytes())
    samples, stream = decode(path)
    assert stream.warnings == []
    np.testing.assert_array_equal(samples, decode(demo_clip)[0])


def test_channels_are_averaged_before_resampling(write_sound, music):
    six = np.stack([np.roll(music.part(1)[:, 0], 1000 * k) * (k + 1) / 6 for k in range(6)], axis=1)
    samples, stream = decode(write_sound("x.wav", six, 192_000, subtype="PCM_24"))
    assert stream.native_rate == 192_000
    np.testing.assert_allclose(samples, resample(six.mean(axis=1), 192_000, 22_050), atol=1e-5)


def test_eight_bit_mono_at_8000(write_sound, music):
    samples, stream = decode(write_sound("x.wav", music.samples[:24_000, 0], 8_000, subtype="PCM_U8"))
    assert (stream.native_rate, stream.duration) == (8_000, 3.0)
    assert len(samples) == 3 * 22_050


def test_eight_bits_by_ffmpeg_are_those_of_libsndfile(write_sound, music, tmp_path):
    av = pytest.importorskip("av")
    wav, mka = write_sound("x.wav", music.part(1), subtype="PCM_U8"), tmp_path / "x.mka"
    with av.open(wav) as source, av.open(mka, "w") as target:
        copy = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    np.testing.assert_array_equal(decode(mka)[0], decode(wav)[0])


def test_loud_float_files_keep_their_level(write_sound, music):
    loud = music.part(1) * 4
    samples, stream = decode(write_sound("x.wav", loud, subtype="FLOAT"), sample_rate=44_100)
    np.testing.assert_allclose(samples, loud.mean(axis=1), atol=1e-5)
    assert stream.warnings == []


@pytest.mark.parametrize("name", ["eastern-dreams.mp3", "void-sensor.ogg", "lava.opus", "calm-before-the-storm.flac"])
def test_lossy_files_are_never_told_to_seek(media, monkeypatch, name):
    seeks = []
    original = soundfile.SoundFile.seek
    monkeypatch.setattr(soundfile.SoundFile, "seek", lambda self, *args: (seeks.append(args), original(self, *args))[1])
    decode(media / name)
    assert seeks == []


@pytest.mark.parametrize("name", ["音楽 ☃.mp3", "two\nlines.mp3", "🎸.mp3", "-dash.mp3", "no suffix"])
def test_any_name(demo_clip, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(demo_clip.read_bytes())
    assert decode(path)[1].duration > 29
    assert decode(str(path))[1].duration > 29


@pytest.mark.skipif(os.name != "posix", reason="names are not bytes here")
def test_names_that_are_no_utf8(demo_clip, tmp_path):
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9 \xff.mp3")
    try:
        with open(raw, "wb") as file:
            file.write(demo_clip.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert decode(os.fsdecode(raw))[1].duration > 29
    with open(raw, "wb") as file:
        file.write(b"text")
    with pytest.raises(AudioError) as error:
        decode(os.fsdecode(raw))
    assert str(error.value).encode()
    assert r"\xe9" in str(error.value) or r"\udce9" in str(error.value)


@pytest.mark.parametrize("name", CLIPS)
def test_file_objects_give_the_same_samples(media, name):
    by_path, _ = decode(media / name)
    with open(media / name, "rb") as buffered:
        np.testing.assert_array_equal(decode(buffered)[0], by_path)
        assert not buffered.closed
    np.testing.assert_array_equal(decode(io.BytesIO((media / name).read_bytes()))[0], by_path)


def test_a_pipe_gives_the_same_samples(demo_clip):
    reading, writing = os.pipe()

    def feed():
        with open(writing, "wb") as pipe:
            pipe.write(demo_clip.read_bytes())

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open(reading, "rb") as pipe:
        samples, _ = decode(pipe)
    feeder.join()
    np.testing.assert_array_equal(samples, decode(demo_clip)[0])


def test_two_threads_at_once(media):
    results = {}

    def work(name):
        results[name] = decode(media / name)[0]

    threads = [threading.Thread(target=work, args=(name,)) for name in CLIPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in CLIPS:
        np.testing.assert_array_equal(results[name], decode(media / name)[0])


def test_an_hour_of_silence_in_flat_memory(tmp_path):
    path = tmp_path / "hour.wav"
    n = 3600 * 8_000
    header = (
        b"RIFF" + struct.pack("<I", 36 + 2 * n) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 16_000, 2, 16)
    )
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", 2 * n))
        file.truncate(44 + 2 * n)  # a sparse file: zeros that take no room
    decode(io.BytesIO(path.read_bytes()[: 1 << 20]))  # what is loaded once is not counted
    tracemalloc.start()
    length = peak = 0
    with open_audio(path, sample_rate=22_050) as stream:
        for block in stream:
            length += len(block)
            peak = max(peak, int(np.abs(block).max()))
    _, memory = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == 3600 * 22_050
    assert peak == 0
    assert stream.duration == 3600
    assert memory < 8 << 20


def test_without_pyav_the_error_names_the_extra(media, monkeypatch):
    real_import = builtins.__import__

    def no_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_av)
    with pytest.raises(AudioError, match=r"honor-bound\.m4a: needs PyAV: pip install 'samptag\[av\]'"):
        decode(media / "honor-bound.m4a")
    with (media / "honor-bound.wma").open("rb") as nameless, pytest.raises(AudioError, match="needs PyAV"):
        decode(io.BytesIO(nameless.read()))


def test_what_pyav_cannot_read_either_does_not_ask_for_it(broken_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"text\.mp3: not a sound file that can be decoded \(libsndfile: [^)]*\)$"):
        decode(broken_file("text.mp3"))


def test_suffixes_cover_the_clips_and_are_lower_case(media):
    assert {path.suffix for path in media.iterdir() if path.is_file()} - {".md"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


def test_opening_imports_no_pyav_for_what_libsndfile_reads(demo_clip):
    code = (
        "import sys\nfrom samptag.audio.decode import open_audio\n"
        f"with open_audio({str(demo_clip)!r}, sample_rate=16000) as s: n = sum(map(len, s))\n"
        "print(n, sorted({'av', 'torch', 'numba', 'resampy', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "[]"
