"""Fetching MagnaTagATune from where it is published."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from samptag.data.archive import find_parts, unpack
from samptag.data.formats.mtat import ANNOTATIONS, ZIP_PARTS, listed_clips
from samptag.data.listing import find_audio_root, list_audio
from samptag.data.measure import require_space
from samptag.errors import DatasetError, DownloadError
from samptag.fetch import Checksums, FetchPolicy, fetch, offline_asked, remote_size
from samptag.files import locked, os_errors_as

__all__ = ["MTAT_URL", "Progress", "download_mtat", "unpack_mtat"]

# The Music Informatics Research Group at City, University of London, keeps the data set.
MTAT_URL = "https://mirg.city.ac.uk/datasets/magnatagatune/"
_TABLES = (ANNOTATIONS, "clip_info_final.csv")

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done ("mp3.zip.001", "unpacking"), the bytes that are there and the bytes there will be."""

logger = logging.getLogger(__name__)


def download_mtat(
    folder: Path,
    *,
    url: str = MTAT_URL,
    policy: FetchPolicy | None = None,
    progress: Progress | None = None,
) -> int:
    """The number of files fetched and unpacked to make MagnaTagATune complete in `folder`; 0 when it was.

    What is there is not fetched again: a broken download goes on where it stopped, parts that are complete are kept,
    and the zip is left alone once every listed clip is unpacked. The parts may be deleted afterwards.

    Raises
    ------
    DatasetError
        The server cannot be reached or refuses, the network is switched off, there is too little space, or the zip is
        damaged.
    """
    with _lock(folder):
        count = sum(_fetch(folder, name, url=url, policy=policy, progress=progress) for name in _TABLES)
        if _is_unpacked(folder):
            return count
        _require_space_for_parts(folder, url=url)
        count += sum(_fetch(folder, name, url=url, policy=policy, progress=progress) for name in ZIP_PARTS)
        return count + _unpack(folder, progress)


def unpack_mtat(folder: Path, *, progress: Progress | None = None) -> int:
    """The number of clips unpacked from mp3.zip.001 and its further parts (or mp3.zip) in `folder`.

    Raises
    ------
    DatasetError
        There is no such zip, it is damaged or leads out of `folder`, or there is too little space.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    with _lock(folder):
        return _unpack(folder, progress)


def _unpack(folder: Path, progress: Progress | None) -> int:
    parts = find_parts(folder)
    if not parts:
        raise DatasetError(f"{folder}: no {ZIP_PARTS[0]} to unpack; 'samptag data download mtat {folder}' fetches it")
    report = None if progress is None else lambda done, total: progress("unpacking", done, total)
    return unpack(parts, folder, progress=report)


def _is_unpacked(folder: Path) -> bool:
    keys = listed_clips(folder / ANNOTATIONS)
    try:
        audio = list_audio(find_audio_root(folder, keys, looked_for="the folders 0 to f"))
    except DatasetError:
        return False
    return all(audio.find(key) for key in keys)


def _fetch(folder: Path, name: str, *, url: str, policy: FetchPolicy | None, progress: Progress | None) -> bool:
    """Fetch one file unless it is there, whole as far as the server tells; whether it was fetched."""
    target = folder / name
    size = None if offline_asked() else remote_size(url + name)
    if target.is_file():
        if size in (None, target.stat().st_size):
            return False
        logger.warning("%s: has %d bytes instead of %d; fetching it again", target, target.stat().st_size, size)
    report = None if progress is None else lambda done, total: progress(name, done, total)
    try:
        fetch(url + name, target, checksums=Checksums(size=size), policy=policy, progress=report)
    except DownloadError as error:
        raise DatasetError(str(error)) from error
    return True


def _require_space_for_parts(folder: Path, *, url: str) -> None:
    sizes = {name: remote_size(url + name) for name in ZIP_PARTS if not (folder / name).is_file()}
    held = sum((folder / name).stat().st_size for name in ZIP_PARTS if (folder / name).is_file())
    partial = sum(path.stat().st_size for path in folder.glob("mp3.zip.*.part"))
    missing = sum(size or 0 for size in sizes.values())
    # MP3 does not compress: unpacked, the clips take about what the zip takes.
    needed = missing - partial + missing + held
    advice = "make room or choose another folder"
    require_space(folder, max(0, needed), what="MagnaTagATune, zip and clips,", advice=advice)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    waiting_for = f"another process that is filling {folder}"
    with (
        os_errors_as(DatasetError, f"{folder}: cannot be written"),
        locked(folder / ".samptag.lock", waiting_for=waiting_for),
    ):
        yield
