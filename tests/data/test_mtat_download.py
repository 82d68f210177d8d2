import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from dataset_makers import make_mtat, mtat_clip
from test_split_zip import write_parts, zipped

from samptag.data.download import download_mtat, unpack_mtat
from samptag.data.formats import open_dataset
from samptag.errors import DatasetError

pytestmark = pytest.mark.usefixtures("impatient")

CLIPS = {f"{number:x}/artist-album-01-song_{number}-0-29.mp3": {"guitar"} for number in range(16)}


class Site:
    """A localhost site of several files with byte ranges; `drops` ends so many answers in the middle."""

    def __init__(self, folder):
        self.folder = folder
        self.drops = 0
        self.sent = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body):
                path = site.folder / self.path.rsplit("/", 1)[-1]
                if not path.is_file():
                    self.send_error(404)
                    return
                content = path.read_bytes()
                match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
                start = int(match[1]) if match else 0
                self.send_response(206 if match else 200)
                self.send_header("Content-Length", str(len(content) - start))
                if match:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if not body:
                    return
                rest = content[start:]
                if site.drops and len(rest) > 1000:
                    site.drops -= 1
                    rest = rest[: len(rest) // 2]
                site.sent[path.name] = site.sent.get(path.name, 0) + len(rest)
                self.wfile.write(rest)

            def log_message(self, *arguments):
                """Keep the test output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


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
    with Site(published) as site:
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
    site.drops = 3
    download_mtat(tmp_path, url=site.url)
    assert len(open_dataset(tmp_path).clips) == 16
    for path in published.glob("mp3.zip.*"):
        assert site.sent[path.name] == path.stat().st_size, "bytes were sent twice"


def test_a_download_given_up_is_taken_up_by_the_next(tmp_path, site, published, monkeypatch):
    site.drops = 1
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
        Site(empty) as site,
        pytest.raises(DatasetError, match=r"cannot fetch annotations_final\.csv: .*404.*, fetch http"),
    ):
        download_mtat(tmp_path / "mtat", url=site.url)


def test_without_network_the_message_says_how_to_do_it_by_hand(tmp_path, site, monkeypatch):
    monkeypatch.setenv("SAMPTAG_OFFLINE", "1")
    with pytest.raises(DatasetError, match=r"SAMPTAG_OFFLINE.*annotations_final\.csv and save it as"):
        download_mtat(tmp_path, url=site.url)
    assert site.sent == {}


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
