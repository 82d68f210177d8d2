"""One file from a URL, checked before it gets its name; what was fetched before a break is not fetched again.

While it is fetched the file is called ``NAME.part``, with its address and ETag beside it in ``NAME.part.json``, so that
a later attempt continues where the earlier one stopped and never joins two different versions. The checksums decide in
any case: a continued download that fails them is fetched once more from its first byte.
"""

import http.client
import json
import logging
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import samptag
from samptag.errors import DownloadError
from samptag.pretrained.checksums import Checksums, unexpected_kind

__all__ = ["FetchPolicy", "Progress", "by_hand", "fetch"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes there will be (None: not known)."""

_BLOCK = 1 << 16
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_RANGE_REFUSED = 416


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """How patient a download is.

    Parameters
    ----------
    attempts : int
        Failures in a row, without a byte gained between them, after which it gives up.
    backoff_seconds : float
        Pause after the first failure; it doubles with every further one in a row.
    timeout_seconds : float
        Longest silence of the server.
    """

    attempts: int = 5
    backoff_seconds: float = 1.0
    timeout_seconds: float = 30.0


class _PassingError(Exception):
    """A failure that may be gone at the next attempt."""


def by_hand(url: str, target: Path) -> str:
    """The sentence that tells a person how to do without the download."""
    return f"to do it by hand, fetch {url} and save it as {target}"


def fetch(
    url: str,
    target: Path,
    *,
    checksums: Checksums,
    policy: FetchPolicy | None = None,
    progress: Progress | None = None,
) -> None:
    """Put the file at `url` at `target`, complete and verified, or leave `target` as it is.

    The folder of `target` must exist. Two calls for one target must not run at the same time: the caller holds a lock.

    Raises
    ------
    DownloadError
        The server refuses, stays away for `policy.attempts` attempts, or sends something else; or the disk is full.
    """
    policy = policy or FetchPolicy()
    part = _Part(target, url)
    restarted = False
    while True:
        continued = _complete(part, checksums, policy, progress)
        kind = unexpected_kind(part.path)
        problem = f"it is {kind}" if kind else checksums.problem(part.path)
        if problem is None:
            part.finish()
            return
        part.discard()
        if restarted or not continued:
            raise DownloadError(f"what came from {url} is not the expected file: {problem}; {by_hand(url, target)}")
        restarted = True
        logger.info("%s: the continued download is not the expected file (%s); starting again", url, problem)


def _complete(part: "_Part", checksums: Checksums, policy: FetchPolicy, progress: Progress | None) -> bool:
    """Receive until the part has all its bytes; whether some of them came over an earlier connection."""
    failures, best = 0, part.size
    while True:
        try:
            return _receive(part, checksums.size, policy.timeout_seconds, progress)
        except _PassingError as error:
            if part.size > best:
                failures, best = 0, part.size
            failures += 1
            if failures >= policy.attempts:
                raise DownloadError(
                    f"cannot fetch {part.url}: {error} ({failures} attempts); {by_hand(part.url, part.target)}"
                ) from error
            pause = policy.backoff_seconds * 2 ** (failures - 1)
            logger.info("%s: %s; next attempt in %g s", part.url, error, pause)
            time.sleep(pause)


def _receive(part: "_Part", size: int | None, timeout_seconds: float, progress: Progress | None) -> bool:
    """Append to the part until it is complete; whether it continued what was there."""
    if size is not None and part.size >= size:
        return True
    offset = part.size
    try:
        with urllib.request.urlopen(_request(part), timeout=timeout_seconds) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                total = _continued_total(part, response)
            else:
                offset, total = 0, _content_length(response)
                part.start(etag=response.headers.get("ETag"))
            if size is not None and total is not None and total != size:
                part.discard()
                raise DownloadError(
                    f"{part.url} now has {total} bytes instead of {size}; {by_hand(part.url, part.target)}"
                )
            _copy(response, part, total if total is not None else size, progress)
    except urllib.error.HTTPError as error:
        error.close()
        _refused(part, error)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"cannot trust the server of {part.url}: {error.reason}; {by_hand(part.url, part.target)}"
            ) from error
        raise _PassingError(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise _PassingError(str(error) or type(error).__name__) from error
    if total is not None and part.size < total:
        raise _PassingError(f"the connection ended after {part.size} of {total} bytes")
    return offset > 0


def _request(part: "_Part") -> urllib.request.Request:
    # A compressed answer could not be continued, and its length would not be the file's.
    headers = {"User-Agent": f"samptag/{samptag.__version__}", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.etag and not part.etag.startswith("W/"):
            headers["If-Range"] = part.etag
    return urllib.request.Request(part.url, headers=headers)


def _copy(response: Any, part: "_Part", total: int | None, progress: Progress | None) -> None:
    if progress:
        progress(part.size, total)
    with _disk_errors(part.path):
        file = part.path.open("ab")
    with file:
        while block := response.read1(_BLOCK):
            # Flushed at once: what was received must be there to continue from, whatever ends this process.
            with _disk_errors(part.path):
                file.write(block)
                file.flush()
            part.size += len(block)
            if progress:
                progress(part.size, total)


def _continued_total(part: "_Part", response: Any) -> int | None:
    """The size of the whole file that a partial answer belongs to; the part starts anew where it does not fit."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    etag = response.headers.get("ETag")
    if match is None or int(match[1]) != part.size or (part.etag and etag and etag != part.etag):
        part.discard()
        raise _PassingError("the server continued another version of the file")
    return None if match[2] == "*" else int(match[2])


def _content_length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _refused(part: "_Part", error: urllib.error.HTTPError) -> NoReturn:
    """Tell a refusal that may pass from one that will not."""
    reason = f"the server says {error.code} {error.reason}"
    if error.code == _RANGE_REFUSED:
        part.discard()
    elif error.code not in _WORTH_ANOTHER_TRY:
        raise DownloadError(f"cannot fetch {part.url}: {reason}; {by_hand(part.url, part.target)}") from error
    raise _PassingError(reason) from error


class _Part:
    """The file while it is fetched, with a note of where it comes from."""

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.url = url
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self.etag: str | None = None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            note = None
        if isinstance(note, dict) and note.get("url") == url and self.path.is_file():
            self.etag = note.get("etag")
            self.size = self.path.stat().st_size
        else:
            self.size = 0

    def start(self, *, etag: str | None) -> None:
        """Begin from the first byte."""
        self.etag = etag
        self.size = 0
        with _disk_errors(self.path):
            self.path.write_bytes(b"")
            self._note.write_text(json.dumps({"url": self.url, "etag": etag}), encoding="utf-8")

    def discard(self) -> None:
        """Forget what was fetched."""
        self.etag = None
        self.size = 0
        with _disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete file its name."""
        with _disk_errors(self.path):
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.target)
            self._note.unlink(missing_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """A disk that fails is told apart from a server that fails: both raise OSError."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"cannot write {path}: {error.strerror or error}") from error
