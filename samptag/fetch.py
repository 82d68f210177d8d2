"""Downloads one file from a URL, resumes after an interruption, and checks the file before it gets its name.

Until then the file is called ``NAME.part``, and a later attempt resumes at its end. Size and checksums decide: a
resumed download that fails them may be a mixture of two versions, so it is fetched once more from the first byte.
"""

import hashlib
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import samptag
from samptag.errors import DownloadError
from samptag.files import os_errors_as, os_reason, sync
from samptag.text import Progress

logger = logging.getLogger(__name__)

# How many failures in a row, without a byte gained in between, end the attempts; the pause after the first of them,
# which doubles with each further one; and how long the server may be silent.
ATTEMPTS, BACKOFF_SECONDS, TIMEOUT_SECONDS = 5, 1.0, 30.0

_NETWORK_BLOCK = 1 << 16
_DISK_BLOCK = 1 << 20
_RANGE_REFUSED = 416
_WORTH_ANOTHER_TRY = {408, _RANGE_REFUSED, 425, 429, 500, 502, 503, 504}
# A compressed answer could not be continued, and its length would not be the file's.
_HEADERS = {"User-Agent": f"samptag/{samptag.__version__}", "Accept-Encoding": "identity"}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """The size and digests of a file, as far as they are known; digests are in lower-case hexadecimal."""

    size: int | None = None  # bytes
    sha256: str | None = None
    git_blob_sha1: str | None = None  # git's name of a file: of "blob", a space, the size, a zero byte, and the bytes

    def problem(self, path: Path) -> str | None:
        """What is wrong with the file at `path`, in a few words; None if it matches everything that is known of it."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size} bytes instead of {self.size}"
        blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        known = (("sha256", self.sha256, hashlib.sha256()), ("git blob id", self.git_blob_sha1, blob))
        for name, expected, digest in known:
            if expected is not None and (found := _hex_digest(path, digest)) != expected:
                return f"its {name} is {found} instead of {expected}"
        return None


def file_sha256(path: Path) -> str:
    """The sha256 of the file at `path`, 64 hexadecimal digits."""
    return _hex_digest(path, hashlib.sha256())


def _hex_digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(_DISK_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def unexpected_kind(path: Path) -> str | None:
    """What the file at `path` is, if servers often send such a thing in place of a file; else None."""
    with path.open("rb") as file:
        head = file.read(256)
    if head.startswith(_LFS_POINTER):
        return "a git-lfs pointer, not the file it stands for"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return None


class _PassingError(Exception):
    """A failure that another attempt may overcome."""


class _RefusedError(Exception):
    """A failure that no further attempt would overcome; the message is only the reason."""


def offline_asked() -> bool:
    """Whether ``SAMPTAG_OFFLINE`` forbids the network: it does unless it is unset, empty, 0, false or no."""
    return os.environ.get("SAMPTAG_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def remote_size(url: str) -> int | None:
    """The size in bytes that the server gives for the file at `url`; None if it gives none, or the network is off."""
    if offline_asked():
        return None
    request = urllib.request.Request(url, method="HEAD", headers=_HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return _content_length(response)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def fetch(
    url: str,
    target: Path,
    *,
    checksums: Checksums | None = None,
    offline: bool | None = None,
    what: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Download the file at `url` to `target`, complete and verified, or leave `target` as it is.

    The folder of `target` must exist. Two calls for one target must not run at the same time: use `files.locked`.
    `offline` says whether the network is forbidden; None asks ``SAMPTAG_OFFLINE``. `progress` counts bytes; it
    is told of `what`, by default the target's name.

    Raises a DownloadError, which says how to get the file by hand, when the network is forbidden; when the server
    refuses, fails `ATTEMPTS` times or sends something else; and when the file cannot be written.
    """
    checksums = checksums or Checksums()
    part = target.with_name(target.name + ".part")
    failures, best, restarted = 0, _held(part), False
    try:
        if offline_asked() if offline is None else offline:
            raise _RefusedError("the network is switched off (SAMPTAG_OFFLINE)")
        while True:
            try:
                continued = _receive(url, part, checksums.size, what or target.name, progress)
            except _PassingError as error:
                if _held(part) > best:
                    failures, best = 0, _held(part)
                failures += 1
                if failures >= ATTEMPTS:
                    raise _RefusedError(f"{error} ({failures} attempts)") from error
                pause = BACKOFF_SECONDS * 2 ** (failures - 1)
                logger.info("%s: %s; next attempt in %g s", url, error, pause)
                time.sleep(pause)
                continue
            kind = unexpected_kind(part)
            problem = f"it is {kind}" if kind else checksums.problem(part)
            if problem is None:
                break
            part.unlink()
            if restarted or not continued:
                raise _RefusedError(f"the server sent something other than the expected file: {problem}")
            restarted = True
            logger.info("%s: the resumed download is not the expected file (%s); starting again", url, problem)
    except _RefusedError as error:
        advice = f"to do it by hand, fetch {url} and save it as {target}"
        raise DownloadError(f"cannot fetch {target.name}: {error}; {advice}") from error
    with os_errors_as(DownloadError, f"cannot write {target}"):
        sync(part)
        part.replace(target)


def _receive(url: str, part: Path, size: int | None, what: str, progress: Progress | None) -> bool:
    """Append to the part until it is complete; returns whether some of its bytes came over an earlier connection."""
    held = _held(part)
    if size is not None and held >= size:
        return True
    request = urllib.request.Request(url, headers=_HEADERS | ({"Range": f"bytes={held}-"} if held else {}))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                held = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
                part.unlink()
                raise _PassingError("the server resumed at another byte than it was asked to")
            length = _content_length(response)
            total = size if length is None else held + length
            if total != size is not None:
                part.unlink(missing_ok=True)
                raise _RefusedError(f"it now has {total} bytes instead of {size}")
            _append(response, part, held, total, what, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_REFUSED:
            part.unlink(missing_ok=True)
        passing = error.code in _WORTH_ANOTHER_TRY
        raise (_PassingError if passing else _RefusedError)(f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        trusted = not isinstance(error.reason, ssl.SSLCertVerificationError)
        raise (_PassingError if trusted else _RefusedError)(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise _PassingError(os_reason(error)) from error
    if total is not None and _held(part) < total:
        raise _PassingError(f"the connection ended after {_held(part)} of {total} bytes")
    return held > 0


def _append(response: Any, part: Path, held: int, total: int | None, what: str, progress: Progress | None) -> None:
    # A failing disk must be told apart from a failing server: both raise OSError.
    cannot_write = f"cannot write {part}"
    if progress:
        progress(what, held, total)
    with os_errors_as(DownloadError, cannot_write):
        file = part.open("ab" if held else "wb")
    with file:
        while block := response.read1(_NETWORK_BLOCK):
            # Flushed at once, so that the next attempt can resume from here however this process ends.
            with os_errors_as(DownloadError, cannot_write):
                file.write(block)
                file.flush()
            held += len(block)
            if progress:
                progress(what, held, total)


def _held(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _content_length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None
