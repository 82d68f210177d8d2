import av
import pytest
from dataset_makers import FULL_CLIP_SAMPLES, MEDIA, mtat_clip

from samptag.audio.decode import open_audio
from samptag.audio.headers import mp3_seconds

FRAME_SECONDS = 576 / 16_000


@pytest.fixture(scope="module")
def clip():
    return mtat_clip()


def test_agrees_with_the_decoder_up_to_the_encoder_padding(tmp_path, clip):
    (tmp_path / "clip.mp3").write_bytes(clip)
    with open_audio(tmp_path / "clip.mp3", sample_rate=16_000) as stream:
        decoded = sum(map(len, stream)) / 16_000
    # An encoder adds its own delay and fills its last frame: at most four frames, which a decoder may cut again.
    assert FULL_CLIP_SAMPLES / 16_000 <= decoded <= mp3_seconds(tmp_path / "clip.mp3") <= decoded + 4 * FRAME_SECONDS


def test_counts_the_frames_of_sound_that_ffmpeg_finds(demo_clip, write_sound, music):
    encoded = write_sound("x.mp3", music.part(2), bitrate_mode="VARIABLE")
    assert b"Xing" in encoded.read_bytes()[:100]  # whose frame holds no sound
    for path in (demo_clip, encoded):
        with av.open(path) as container:
            frames = sum(packet.size > 0 for packet in container.demux(audio=0))
        assert mp3_seconds(path) == pytest.approx(frames * 1152 / 44_100)


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_clip_is_shorter_by_what_was_cut(tmp_path, clip, kept):
    (tmp_path / "whole.mp3").write_bytes(clip)
    (tmp_path / "cut.mp3").write_bytes(clip[: int(len(clip) * kept)])
    whole = mp3_seconds(tmp_path / "whole.mp3")
    assert mp3_seconds(tmp_path / "cut.mp3") == pytest.approx(kept * whole, abs=2 * FRAME_SECONDS)


def test_tags_before_and_after_do_not_count(tmp_path, clip):
    # Frame syncs inside a tag's picture must not be taken for sound.
    picture = b"\xff\xfb\x90\x00" * 500
    size = len(picture)
    header = b"ID3\x04\x00\x00" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    (tmp_path / "plain.mp3").write_bytes(clip)
    (tmp_path / "tagged.mp3").write_bytes(header + picture + clip + b"TAG" + b"\xff" * 125)
    assert mp3_seconds(tmp_path / "tagged.mp3") == mp3_seconds(tmp_path / "plain.mp3")


def test_damage_in_the_middle_costs_only_the_damaged_frames(tmp_path, clip):
    (tmp_path / "plain.mp3").write_bytes(clip)
    middle = len(clip) // 2
    (tmp_path / "damaged.mp3").write_bytes(clip[:middle] + b"\0" * 1000 + clip[middle + 1000 :])
    lost = mp3_seconds(tmp_path / "plain.mp3") - mp3_seconds(tmp_path / "damaged.mp3")
    assert 0 < lost < 15 * FRAME_SECONDS


@pytest.mark.parametrize("content", [b"", b"\xff", b"<html>not found</html>" * 1000, bytes(100_000)])
def test_what_is_no_mp3_has_no_length(tmp_path, content):
    (tmp_path / "clip.mp3").write_bytes(content)
    assert mp3_seconds(tmp_path / "clip.mp3") == 0


def test_a_wave_file_in_disguise_has_next_to_no_length(tmp_path):
    (tmp_path / "clip.mp3").write_bytes((MEDIA / "bay.wav").read_bytes())
    assert mp3_seconds(tmp_path / "clip.mp3") < 0.1
