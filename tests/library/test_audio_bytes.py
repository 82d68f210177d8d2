import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from music_library import FORMATS, MEDIA, make_rare

from samptag.library.audio_bytes import audio_digest
from samptag.library.fields import TagFile

RARE = ["bay.3gp", "bay.ape", "bay.mp2", "bay.oga", "bay.tta", "bay.wv", "void-sensor.mpc"]


@pytest.fixture(scope="module")
def every_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_rare(tmp_path_factory.mktemp("formats"))
    assert sorted(path.name for path in folder.iterdir()) == RARE
    for name in FORMATS:
        shutil.copyfile(MEDIA / name, folder / name)
    return folder


@pytest.mark.parametrize("name", [*FORMATS, *RARE])
def test_tags_do_not_change_the_digest(name: str, every_format: Path, tmp_path: Path):
    copy = Path(shutil.copyfile(every_format / name, tmp_path / name))
    before = audio_digest(copy)
    tags = TagFile(str(copy))
    tags.set("genre", ["Ambient"])
    tags.set("comment", ["x" * 70_000])  # more than an Ogg page, an MP3's padding or a free box holds
    tags.save()
    assert copy.read_bytes() != (every_format / name).read_bytes()
    assert audio_digest(copy) == before
    assert np.array_equal(decoded(copy), decoded(every_format / name))


@pytest.mark.parametrize("name", [*FORMATS, *RARE])
def test_a_changed_byte_of_sound_changes_the_digest(name: str, every_format: Path, tmp_path: Path):
    data = bytearray((every_format / name).read_bytes())
    data[len(data) * 2 // 3] ^= 1
    copy = tmp_path / name
    copy.write_bytes(data)
    assert audio_digest(copy) != audio_digest(every_format / name)


def test_digests_tell_all_clips_apart():
    clips = [path for path in MEDIA.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert len({audio_digest(path) for path in clips}) == len(clips)


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_tags_of_other_kinds_at_the_ends_do_not_count(suffix: str, tmp_path: Path):
    source = next(path for path in MEDIA.iterdir() if path.suffix == suffix)
    id3v2 = b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)
    with_footer = b"ID3\x04\x00\x10\x00\x00\x02\x01" + bytes(257) + b"3DI\x04\x00\x10\x00\x00\x02\x01"
    item = b"\x03\x00\x00\x00\x00\x00\x00\x00Genre\x00Pop"
    size = (len(item) + 32).to_bytes(4, "little")
    ape = item + b"APETAGEX" + (2000).to_bytes(4, "little") + size + b"\x01\x00\x00\x00" + bytes(12)
    copy = tmp_path / f"x{suffix}"
    copy.write_bytes(id3v2 + with_footer + source.read_bytes() + ape + b"TAG" + bytes(125))
    assert audio_digest(copy) == audio_digest(source)


def test_a_tag_of_no_possible_size_hides_no_sound(tmp_path: Path):
    sound = (MEDIA / "eastern-dreams.mp3").read_bytes()
    digests = set()
    for start in (0, 9999):
        (tmp_path / "song.mp3").write_bytes(b"ID3\x04\0\0\xff\xff\xff\xff" + sound[start:])
        digests.add(audio_digest(tmp_path / "song.mp3"))
    assert len(digests) == 2


def test_an_offset_that_points_elsewhere_changes_the_digest_of_mp4(tmp_path: Path):
    data = (MEDIA / "honor-bound.m4a").read_bytes()
    place = data.index(b"stco") + 12
    broken = tmp_path / "x.m4a"
    broken.write_bytes(data[:place] + bytes([data[place], data[place + 1], data[place + 2] ^ 1]) + data[place + 3 :])
    assert audio_digest(broken) != audio_digest(MEDIA / "honor-bound.m4a")


@pytest.mark.parametrize(
    "data", [b"", b"OggS", b"fLaC", b"RIFF\x00\x00\x00\x00WAVE", b"ID3", bytes(200), b"\x00\x00\x00\x10ftyp"]
)
def test_what_is_no_sound_file_has_a_digest_too(data: bytes, tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert len(audio_digest(path)) == 32


def decoded(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
