import io
import stat
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samptag.data.download import _JoinedFile, find_parts, unpack
from samptag.errors import DatasetError


def zipped(entries, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return buffer.getvalue()


def write_parts(folder, data, count=3, stem="mp3.zip"):
    size = len(data) // count + 1
    for number in range(count):
        part = folder / (f"{stem}.{number + 1:03d}")
        part.write_bytes(data[number * size : (number + 1) * size])
    return find_parts(folder)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_parts_read_as_the_whole(tmp_path_factory, pieces, data):
    folder = tmp_path_factory.mktemp("parts")
    paths = []
    for number, piece in enumerate(pieces):
        paths.append(folder / str(number))
        paths[-1].write_bytes(piece)
    whole = io.BytesIO(b"".join(pieces))
    size = len(whole.getvalue())
    with _JoinedFile(paths) as joined, io.BufferedReader(joined, 7) as reader:
        for _ in range(5):
            place = data.draw(st.integers(0, size + 3))
            count = data.draw(st.integers(0, size + 3))
            assert reader.seek(place) == whole.seek(place)
            assert reader.read(count) == whole.read(count)
        assert reader.seek(0, io.SEEK_END) == size


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_zip_in_parts_is_unpacked_once(tmp_path, method, count):
    content = {f"{number:x}/song {number}-0-29.mp3": bytes([number]) * 5000 * number for number in range(16)}
    parts = write_parts(tmp_path, zipped(content.items(), method), count)
    reports = []
    assert unpack(parts, tmp_path, progress=lambda *report: reports.append(report)) == 16
    assert {key: (tmp_path / key).read_bytes() for key in content} == content
    assert reports[-1] == ("unpacking", 600_000, 600_000)
    (tmp_path / "3/song 3-0-29.mp3").write_bytes(b"cut")
    assert unpack(parts, tmp_path) == 1
    assert (tmp_path / "3/song 3-0-29.mp3").read_bytes() == content["3/song 3-0-29.mp3"]
    assert unpack(parts, tmp_path) == 0


def link_entry(name, target):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.mark.parametrize(
    "entry",
    [
        ("../outside.mp3", b"x"),
        ("0/../../outside.mp3", b"x"),
        ("/tmp/outside.mp3", b"x"),
        ("0\\..\\..\\outside.mp3", b"x"),
        ("C:\\outside.mp3", b"x"),
        ("\\\\server\\share\\outside.mp3", b"x"),
        link_entry("0/link", "../../outside"),
    ],
    ids=lambda entry: str(entry[0]),
)
def test_no_entry_leads_out_of_the_folder(tmp_path, entry):
    folder = tmp_path / "mtat"
    folder.mkdir()
    parts = write_parts(folder, zipped([("0/good.mp3", b"music"), entry]))
    with pytest.raises(DatasetError, match=r"leads out of .*nothing was unpacked"):
        unpack(parts, folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mp3.zip.001", "mp3.zip.002", "mp3.zip.003", "mtat"]


def test_a_link_that_lies_in_the_folder_is_not_followed_out(tmp_path):
    folder = tmp_path / "mtat"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "0").symlink_to(outside)
    parts = write_parts(folder, zipped([("0/good.mp3", b"music")]))
    with pytest.raises(DatasetError, match="leads out of"):
        unpack(parts, folder)
    assert not list(outside.iterdir())


def test_a_missing_part_is_named(tmp_path):
    write_parts(tmp_path, zipped([("0/a.mp3", b"x" * 9000)]))
    (tmp_path / "mp3.zip.002").unlink()
    with pytest.raises(DatasetError, match=r"mp3\.zip\.002 is missing"):
        find_parts(tmp_path)


def test_a_last_part_that_is_missing_or_cut_is_told(tmp_path):
    data = zipped([(f"0/{number}.mp3", bytes([number]) * 9000) for number in range(9)])
    parts = write_parts(tmp_path, data)
    with pytest.raises(DatasetError, match=r"mp3\.zip\.001: not a complete zip"):
        unpack(parts[:2], tmp_path)
    parts[1].write_bytes(parts[1].read_bytes()[:-100])
    with pytest.raises(DatasetError, match="not a complete zip"):
        unpack(parts, tmp_path)


def test_a_damaged_file_in_the_zip_leaves_nothing_under_its_name(tmp_path):
    music = bytes(range(256)) * 40
    data = zipped([("0/a.mp3", music), ("0/b.mp3", b"b" * 5000)])
    parts = write_parts(tmp_path, data.replace(music[500:600], music[500:600][::-1]))
    with pytest.raises(DatasetError, match=r"0/a\.mp3"):
        unpack(parts, tmp_path)
    assert not list((tmp_path / "0").iterdir())


def test_no_space_is_told_before_anything_is_written(tmp_path):
    """A zip whose directory promises more than any disk holds."""
    data = bytearray(zipped([("0/a.mp3", b"music")]))
    entry = data.index(b"PK\x01\x02")
    # The size of the only file in the central directory becomes a zip64 one of 2^60 bytes.
    extra = b"\x01\x00\x08\x00" + (1 << 60).to_bytes(8, "little")
    head = data[entry : entry + 46]
    head[24:28] = b"\xff\xff\xff\xff"
    head[30:32] = len(extra).to_bytes(2, "little")
    end = data.index(b"PK\x05\x06")
    tail = data[end:]
    name = data[entry + 46 : entry + 46 + len("0/a.mp3")]
    directory = bytes(head) + bytes(name) + extra
    tail[12:16] = len(directory).to_bytes(4, "little")
    parts = write_parts(tmp_path, bytes(data[:entry]) + directory + bytes(tail))
    with pytest.raises(DatasetError, match=r"unpacking mp3\.zip\.001 needs about .*, but only .* free; make room"):
        unpack(parts, tmp_path)
    assert not (tmp_path / "0").exists()
