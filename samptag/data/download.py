"""Fetching MagnaTagATune from where it is published, as a zip in parts that are read as one."""

import io
import logging
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path, PureWindowsPath

from samptag.data.formats.mtat import ANNOTATIONS, ZIP_PARTS, listed_clips
from samptag.data.listing import find_audio_root, list_audio
from samptag.data.measure import require_space
from samptag.errors import DatasetError, DownloadError
from samptag.fetch import Checksums, fetch, remote_size
from samptag.files import locked, os_errors_as, os_reason
from samptag.text import Progress

# The Music Informatics Research Group at City, University of London, keeps the data set.
MTAT_URL = "https://mirg.city.ac.uk/datasets/magnatagatune/"
_TABLES = (ANNOTATIONS, "clip_info_final.csv")
_COPY_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def download_mtat(folder: Path, *, url: str = MTAT_URL, progress: Progress | None = None) -> int:
    """Make MagnaTagATune complete in `folder`; returns the number of files fetched and unpacked, 0 if it was complete.

    Files that are there are not fetched again, nor is the zip once every listed clip is unpacked. `progress` counts the
    bytes of one file after another, and then of unpacking.
    """
    with _lock(folder):
        count = sum(_fetch(folder, name, url=url, progress=progress) for name in _TABLES)
        if _is_unpacked(folder):
            return count
        _require_space_for_parts(folder, url=url)
        count += sum(_fetch(folder, name, url=url, progress=progress) for name in ZIP_PARTS)
        return count + unpack(find_parts(folder), folder, progress=progress)


def unpack_mtat(folder: Path, *, progress: Progress | None = None) -> int:
    """Unpack mp3.zip.001 and its further parts (or mp3.zip) in `folder`; returns the number of clips unpacked."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    with _lock(folder):
        return unpack(find_parts(folder), folder, progress=progress)


def _is_unpacked(folder: Path) -> bool:
    keys = listed_clips(folder / ANNOTATIONS)
    try:
        audio = list_audio(find_audio_root(folder, keys, looked_for="the folders 0 to f"))
    except DatasetError:
        return False
    return all(audio.find(key) for key in keys)


def _fetch(folder: Path, name: str, *, url: str, progress: Progress | None) -> bool:
    """Fetch one file unless it is there in the size that the server gives; returns whether it was fetched."""
    target = folder / name
    size = remote_size(url + name)
    if target.is_file():
        if size in (None, target.stat().st_size):
            return False
        logger.warning("%s: has %d bytes instead of %d; fetching it again", target, target.stat().st_size, size)
    try:
        fetch(url + name, target, checksums=Checksums(size=size), progress=progress)
    except DownloadError as error:
        raise DatasetError(str(error)) from error
    return True


def _require_space_for_parts(folder: Path, *, url: str) -> None:
    missing = sum(remote_size(url + name) or 0 for name in ZIP_PARTS if not (folder / name).is_file())
    held = sum((folder / name).stat().st_size for name in ZIP_PARTS if (folder / name).is_file())
    partial = sum(path.stat().st_size for path in folder.glob("mp3.zip.*.part"))
    # MP3 does not compress: unpacked, the clips take about what the zip takes.
    needed = missing - partial + missing + held
    require_space(folder, needed, what="MagnaTagATune, zip and clips,", advice="make room or choose another folder")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = locked(folder / ".samptag.lock", waiting_for=f"another process that is filling {folder}")
    with os_errors_as(DatasetError, f"{folder}: cannot be written"), lock:
        yield


class _JoinedFile(io.RawIOBase):
    """Several files read as one, in their order: a split zip's parts are the zip cut into pieces."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._files = [path.open("rb") for path in paths]
        self._starts = [0, *accumulate(path.stat().st_size for path in paths)]
        self._position = 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        for file, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if self._position < end:  # fewer bytes than asked for where a part ends
                file.seek(self._position - start)
                count = file.readinto(memoryview(buffer)[: end - self._position])
                self._position += count
                return int(count)
        return 0


def find_parts(folder: Path) -> list[Path]:
    """mp3.zip.001, .002 and so on, in order and without a gap, or the whole mp3.zip."""
    parts = sorted(path for path in folder.glob("mp3.zip.[0-9][0-9][0-9]") if path.is_file())
    for number, path in enumerate(parts, start=1):
        if path.suffix != f".{number:03d}":
            raise DatasetError(f"{folder}: mp3.zip.{number:03d} is missing; fetch it before unpacking")
    if not parts and not (folder / "mp3.zip").is_file():
        raise DatasetError(f"{folder}: no {ZIP_PARTS[0]} to unpack; 'samptag data download mtat {folder}' fetches it")
    return parts or [folder / "mp3.zip"]


def unpack(parts: Sequence[Path], folder: Path, *, progress: Progress | None = None) -> int:
    """Unpack the zip whose `parts` are given, in order; returns the number of files written to `folder`.

    Files that are there are kept. Every name is checked before the first file is written: none may lead out of
    `folder`.
    """
    name = parts[0].name
    try:
        with _JoinedFile(parts) as joined, zipfile.ZipFile(io.BufferedReader(joined, _COPY_BYTES)) as archive:
            entries = [(entry, _target(folder, entry, archive=name)) for entry in archive.infolist()]
            files = [(entry, target) for entry, target in entries if not entry.is_dir()]
            missing = [(e, path) for e, path in files if not path.is_file() or path.stat().st_size != e.file_size]
            total = sum(entry.file_size for entry, _ in missing)
            require_space(folder, total, what=f"unpacking {name}", advice="make room")
            done = 0
            for entry, target in missing:
                _extract(archive, entry, target)
                done += entry.file_size
                if progress:
                    progress("unpacking", done, total)
            return len(missing)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        message = f"not a complete zip, or a part is missing or damaged: {error}; delete it and fetch it again"
        raise DatasetError(f"{parts[0]}: {message}") from None
    except OSError as error:
        raise DatasetError(f"{folder}: {name} cannot be unpacked: {os_reason(error)}") from None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    # Not flushed to the disk file by file, which would take longer than all the rest: after a power cut, files that do
    # not have their full size are unpacked again.
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with archive.open(entry) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _target(folder: Path, entry: zipfile.ZipInfo, *, archive: str) -> Path:
    """Where an entry goes: inside `folder`, after following links in it, or an error."""
    path, target = PureWindowsPath(entry.filename), folder / entry.filename  # Windows separates by either slash
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.anchor or ".." in path.parts or is_link or not target.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{archive}: entry {entry.filename!r} leads out of {folder}; nothing was unpacked")
    return target
