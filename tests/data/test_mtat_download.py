import shutil

import pytest
import weights_server as ws
from dataset_makers import make_mtat, mtat_clip
from test_split_zip import write_parts, zipped

from samptag.data.download import download_mtat, unpack_mtat
from samptag.data.formats import open_dataset
from samptag.errors import DatasetError

pytestmark = pytest.mark.usefixtures("impatient")

CLIPS = {f"{number:x}/artist-album-01-song_{number}-0-29.mp3": {"guitar"} for number in range(16)}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What the site offers: both tables and a zip of 16 clips in three parts."""
    folder = tmp_path_factory.mktemp("site")
    clip = mtat_clip()
    make_mtat(folder / "unpacked", CLIPS, audio=clip)
    (folder / "unpacked" / "annotations_final.csv").rename(folder / "annotations_final.csv")
    (folder / "clip_info_final.csv").write_text('"clip_id"\t"mp3_path"\n')
    write_parts(folder, zipped([(key, clip) for key in CLIPS]))
    return folder


@pytest.fixture
def site(published):
    with ws.FileServer(published) as site:
        yield site


def test_fetched_joined_unpacked_and_ready(tmp_path, site):
    reports = []
    folder = tmp_path / "new" / "mtat"
    count = download_mtat(folder, url=site.url, progress=lambda *report: reports.append(report))
    assert count == 5 + 16
    assert open_dataset(folder).counts() == {"train": 12, "valid": 1, "test": 3}
    assert {what for what, _, _ in reports} == {
        "annotations_final.csv",
        "clip_info_final.csv",
        "mp3.zip.001",
        "mp3.zip.002",
        "mp3.zip.003",
        "unpacking",
    }
    assert not list(folder.glob("*.part*"))


def test_a_broken_connection_goes_on_where_it_stopped(tmp_path, site, published):
    site.answers = [ws.whole, ws.whole, ws.dropped, ws.dropped, ws.dropped, ws.whole]
    download_mtat(tmp_path, url=site.url)
    assert len(open_dataset(tmp_path).clips) == 16
    for path in published.glob("mp3.zip.*"):
        assert site.sent[path.name] == path.stat().st_size, "bytes were sent twice"


def test_a_download_given_up_is_taken_up_by_the_next(tmp_path, site, published, monkeypatch):
    site.answers = [ws.dropped, ws.whole]
    monkeypatch.setattr("samptag.fetch.ATTEMPTS", 1)
    with pytest.raises(DatasetError, match="to do it by hand, fetch"):
        download_mtat(tmp_path, url=site.url)
    assert list(tmp_path.glob("*.part"))
    download_mtat(tmp_path, url=site.url)
    assert len(open_dataset(tmp_path).clips) == 16
    assert site.sent["annotations_final.csv"] == (published / "annotations_final.csv").stat().st_size


def test_what_is_there_is_not_fetched_again(tmp_path, site):
    download_mtat(tmp_path, url=site.url)
    site.sent.clear()
    for part in tmp_path.glob("mp3.zip.*"):
        part.unlink()
    assert download_mtat(tmp_path, url=site.url) == 0
    assert site.sent == {}


def test_a_part_cut_by_another_program_is_fetched_again(tmp_path, site, published):
    whole = (published / "mp3.zip.002").read_bytes()
    (tmp_path / "mp3.zip.002").write_bytes(whole[:1000])
    download_mtat(tmp_path, url=site.url)
    assert (tmp_path / "mp3.zip.002").read_bytes() == whole
    assert len(open_dataset(tmp_path).clips) == 16


def test_a_file_the_site_does_not_have_is_one_line(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with (
        ws.FileServer(empty) as site,
        pytest.raises(DatasetError, match=r"cannot fetch annotations_final\.csv: .*404.*, fetch http"),
    ):
        download_mtat(tmp_path / "mtat", url=site.url)


def test_without_network_the_message_says_how_to_do_it_by_hand(tmp_path, site, published, monkeypatch):
    monkeypatch.setenv("SAMPTAG_OFFLINE", "1")
    for name in ("annotations_final.csv", "clip_info_final.csv", "mp3.zip.001"):
        with pytest.raises(DatasetError, match=rf"SAMPTAG_OFFLINE.*{name} and save it as"):
            download_mtat(tmp_path, url=site.url)
        shutil.copy(published / name, tmp_path)
    assert site.requests == []


def test_unpacking_alone_needs_no_network(tmp_path, published, monkeypatch):
    monkeypatch.setenv("SAMPTAG_OFFLINE", "1")
    for path in published.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert unpack_mtat(tmp_path) == 16
    assert len(open_dataset(tmp_path).clips) == 16


def test_nothing_to_unpack_is_one_line(tmp_path):
    with pytest.raises(DatasetError, match=r"no mp3\.zip\.001 to unpack"):
        unpack_mtat(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        unpack_mtat(tmp_path / "absent")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, site):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        download_mtat(tmp_path / "file" / "mtat", url=site.url)
