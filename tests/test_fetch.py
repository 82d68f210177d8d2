import hashlib
import random
import socket
from pathlib import Path

import pytest
import weights_server as ws

from samptag.errors import DownloadError
from samptag.fetch import Checksums, fetch

pytestmark = pytest.mark.usefixtures("impatient")

CONTENT = random.Random(0).randbytes(300_000)
BY_HASH = Checksums(sha256=hashlib.sha256(CONTENT).hexdigest())
BY_BLOB = Checksums(git_blob_sha1=ws.git_blob(CONTENT))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


def get(server: ws.FileServer, target: Path, *, checksums: Checksums = BY_HASH, progress=None) -> None:
    fetch(server.url, target, checksums=checksums, progress=progress)


def only_file(target: Path) -> bool:
    return [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("checksums", [BY_HASH, BY_BLOB, Checksums(size=len(CONTENT), sha256=BY_HASH.sha256)])
def test_whole_file_arrives_with_progress(target: Path, checksums: Checksums):
    seen = []
    with ws.FileServer(CONTENT) as server:
        get(server, target, checksums=checksums, progress=lambda *report: seen.append(report))
    assert target.read_bytes() == CONTENT
    assert only_file(target)
    assert seen[0] == (target.name, 0, len(CONTENT))
    assert seen[-1] == (target.name, len(CONTENT), len(CONTENT))


def test_dropped_connections_are_continued_where_they_broke(target: Path):
    """As often as it takes: only attempts that gain nothing are limited to three in a row."""
    with ws.FileServer(CONTENT, *[ws.dropped] * 4, ws.whole) as server:
        get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, *(f"bytes={start}-" for start in (150_000, 225_000, 262_500, 281_250))]


def test_server_that_continues_elsewhere_starts_over(target: Path):
    with ws.FileServer(CONTENT, ws.dropped, ws.elsewhere, ws.whole) as server:
        get(server, target, checksums=Checksums())  # which would find it out, too
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=150000-", None]


def test_server_without_ranges_starts_over(target: Path):
    with ws.FileServer(CONTENT, ws.dropped_without_ranges, ws.without_ranges) as server:
        get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=150000-"]


def test_length_that_lies_is_given_up(target: Path):
    with ws.FileServer(CONTENT, ws.dropped_without_ranges) as server, pytest.raises(DownloadError) as caught:
        get(server, target)
    # The first attempt gains bytes, but not the second and the third.
    assert len(server.requests) == 3
    assert "the connection ended after 150000 of 300000 bytes" in str(caught.value)
    assert server.url in str(caught.value)
    assert str(target) in str(caught.value)
    assert not target.exists()


def test_killed_download_is_continued_by_the_next_process(target: Path):
    class Killed(BaseException):
        pass

    def kill(what: str, done: int, total: int | None) -> None:
        if done > 100_000:
            raise Killed

    with ws.FileServer(CONTENT) as server:
        with pytest.raises(Killed):
            get(server, target, progress=kill)
        kept = target.with_name("weights.bin.part").stat().st_size
        assert 100_000 < kept < len(CONTENT)
        get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={kept}-"]


def test_part_of_another_version_is_fetched_once_more(target: Path):
    with ws.FileServer(bytes(300_000), ws.dropped, ws.failing) as server:
        with pytest.raises(DownloadError):
            get(server, target)
        del server.requests[:]
        server.content, server.answers = CONTENT, [ws.whole]
        get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=150000-", None]


def test_part_of_another_file_does_not_end_up_in_this_one(target: Path):
    with ws.FileServer(bytes(300_000), ws.dropped, ws.failing) as server, pytest.raises(DownloadError):
        get(server, target)
    with ws.FileServer(CONTENT) as server:
        get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=150000-", None]


def test_complete_part_is_taken_without_a_request_when_the_size_is_known(target: Path):
    with ws.FileServer(CONTENT, ws.dropped, ws.failing) as server:
        with pytest.raises(DownloadError):
            get(server, target)
        target.with_name("weights.bin.part").write_bytes(CONTENT)
        del server.requests[:]
        get(server, target, checksums=Checksums(size=len(CONTENT), sha256=BY_HASH.sha256))
    assert server.requests == []
    assert target.read_bytes() == CONTENT


def test_part_longer_than_the_file_is_fetched_anew(target: Path):
    with ws.FileServer(CONTENT, ws.dropped, ws.failing) as server:
        with pytest.raises(DownloadError):
            get(server, target)
        target.with_name("weights.bin.part").write_bytes(CONTENT + b"more")
        server.answers = [ws.whole]
        get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("checksums", [BY_HASH, BY_BLOB])
def test_altered_file_is_refused_and_nothing_stays(target: Path, checksums: Checksums):
    with (
        ws.FileServer(CONTENT, ws.altered) as server,
        pytest.raises(DownloadError, match="other than the expected file"),
    ):
        get(server, target, checksums=checksums)
    assert list(target.parent.iterdir()) == []


def test_altered_file_over_broken_connections_is_refused(target: Path):
    with ws.FileServer(CONTENT, ws.dropped, ws.altered) as server, pytest.raises(DownloadError, match="sha256"):
        get(server, target)
    # The continued one may have been two versions: it gets a second chance from the first byte, and no third.
    assert server.requests == [None, "bytes=150000-", None]
    assert list(target.parent.iterdir()) == []


def test_truncated_file_is_refused(target: Path):
    with (
        ws.FileServer(CONTENT, ws.shorter) as server,
        pytest.raises(DownloadError, match="other than the expected file"),
    ):
        get(server, target)
    with ws.FileServer(CONTENT, ws.shorter) as server, pytest.raises(DownloadError, match="299900 bytes instead of"):
        get(server, target, checksums=Checksums(size=len(CONTENT), sha256=BY_HASH.sha256))
    assert list(target.parent.iterdir()) == []


def test_slow_server_is_waited_for_as_long_as_it_sends(target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("samptag.fetch.TIMEOUT_SECONDS", ws.SILENCE_SECONDS)
    with ws.FileServer(CONTENT, ws.slow) as server:
        get(server, target)
    assert server.requests == [None]
    assert target.read_bytes() == CONTENT


def test_silent_server_is_asked_again(target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("samptag.fetch.TIMEOUT_SECONDS", ws.SILENCE_SECONDS)
    with ws.FileServer(CONTENT, ws.stalled, ws.whole) as server:
        get(server, target)
    assert server.requests == [None, "bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_failing_server_is_asked_again(target: Path):
    with ws.FileServer(CONTENT, ws.failing, ws.failing, ws.whole) as server:
        get(server, target)
    assert target.read_bytes() == CONTENT


def test_server_that_keeps_failing_is_given_up(target: Path):
    with ws.FileServer(CONTENT, ws.failing) as server, pytest.raises(DownloadError, match=r"503 .*3 attempts"):
        get(server, target)
    assert len(server.requests) == 3


def test_missing_file_is_not_asked_for_again(target: Path):
    with ws.FileServer(CONTENT, ws.not_found) as server, pytest.raises(DownloadError) as caught:
        get(server, target)
    assert len(server.requests) == 1
    assert "the server says 404" in str(caught.value)
    assert f"fetch {server.url} and save it as {target}" in str(caught.value)


@pytest.mark.parametrize(("answer", "what"), [(ws.lfs_pointer, "a git-lfs pointer"), (ws.web_page, "a web page")])
def test_something_else_sent_as_success_is_named(target: Path, answer, what: str):
    with ws.FileServer(CONTENT, answer) as server, pytest.raises(DownloadError, match=what):
        get(server, target)
    assert list(target.parent.iterdir()) == []


def test_nobody_at_the_address(target: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/weights.bin"
        with pytest.raises(DownloadError, match="refused"):
            fetch(url, target, checksums=BY_HASH)


def test_disk_that_cannot_be_written_is_not_taken_for_the_network(tmp_path: Path):
    with ws.FileServer(CONTENT) as server, pytest.raises(DownloadError, match="cannot write"):
        get(server, tmp_path / "no such folder" / "weights.bin")
    assert len(server.requests) == 1
