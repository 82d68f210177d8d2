"""What headers tell, format by format."""

import io
import struct

import numpy as np
import pytest
import soundfile

from samptag.audio.headers import ExpectedLength, expected_length, mpeg_frame


def written(samples, rate=22_050, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(("container", "endian"), [("WAV", "LITTLE"), ("WAV", "BIG"), ("WAVEX", "LITTLE")])
def test_wav_tells_its_frames(music, container, subtype, endian):
    file = written(music.samples[:1234], format=container, subtype=subtype, endian=endian)
    assert expected_length(file) == ExpectedLength(frames=1234)


def test_wav_of_unknown_size_tells_nothing(music):
    data = bytearray(written(music.samples[:1234], format="WAV").getvalue())
    place = data.index(b"data") + 4
    for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        data[place : place + 4] = struct.pack("<I", size)
        assert expected_length(io.BytesIO(bytes(data))) == ExpectedLength()


def test_compressed_wav_tells_nothing(music):
    assert expected_length(written(music.samples[:5000], format="WAV", subtype="IMA_ADPCM")) == ExpectedLength()


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24", "FLOAT"])
def test_aiff_tells_its_frames(music, subtype):
    assert expected_length(written(music.samples[:1234], format="AIFF", subtype=subtype)) == ExpectedLength(frames=1234)


def test_mp3_lengths_what_it_holds_and_the_encoder_added(music):
    file = written(music.part(3), 44_100, format="MP3", bitrate_mode="VARIABLE")
    expected = expected_length(file)
    assert expected.frames - expected.slack <= 3 * 44_100 <= expected.frames
    assert expected.slack == 4 * 1152


def test_ogg_ends_with_a_mark(media):
    data = (media / "void-sensor.ogg").read_bytes()
    assert expected_length(io.BytesIO(data)) == ExpectedLength()
    assert expected_length(io.BytesIO(data + b"more")) == ExpectedLength()
    assert expected_length(io.BytesIO(data[:-1])) == ExpectedLength(cut=True)
    # whole pages, but not the last
    assert expected_length(io.BytesIO(data[: data.rindex(b"OggS")])) == ExpectedLength(cut=True)


def test_nothing_is_expected_of_other_bytes():
    rng = np.random.default_rng(0)
    for size in (0, 1, 3, 11, 12, 63, 64, 5000):
        assert expected_length(io.BytesIO(rng.bytes(size))) == ExpectedLength()
        for magic in (b"RIFFxxxxWAVE", b"FORMxxxxAIFF", b"ID3\x04\0\0\0\0\0\0", b"\xff\xfb\x90\x00"):
            assert expected_length(io.BytesIO(magic[:size] + rng.bytes(size))).frames is None


def test_frames_of_a_real_mp3_follow_one_another(demo_clip):
    data = demo_clip.read_bytes()
    position = samples = 0
    while position < len(data):
        frame = mpeg_frame(data[position : position + 4])
        assert frame is not None
        position += frame.length
        samples += frame.samples
    assert position == len(data)
    assert samples == pytest.approx(30 * 44_100, abs=3000)


@pytest.mark.parametrize(
    "header", [b"", b"\xff\xfb\x90", b"\xff\xfb\xf0\x00", b"\xff\xfb\x00\x00", b"\xff\xfb\x9c\x00", b"\xff\xf9\x90\x00"]
)
def test_what_is_no_layer_three_header(header):
    assert mpeg_frame(header) is None
