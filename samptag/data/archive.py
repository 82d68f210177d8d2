"""Zip archives in parts: read as one without joining them on the disk, and unpacked only inside the named folder."""

import io
import shutil
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from samptag.data.measure import require_space
from samptag.errors import DatasetError
from samptag.files import os_reason

__all__ = ["JoinedFile", "find_parts", "unpack"]

_COPY_BYTES = 1 << 20


class JoinedFile(io.RawIOBase):
    """Several files read as one, in their order.

    Parameters
    ----------
    paths : sequence of Path
        Whole files; a split zip's parts are the zip cut into pieces.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._files = [path.open("rb") for path in paths]
        self._starts = [0]
        for path in paths:
            self._starts.append(self._starts[-1] + path.stat().st_size)
        self._position = 0

    def close(self) -> None:
        """Close every part."""
        for file in self._files:
            file.close()
        super().close()

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be sought in: yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position, counted from the first part's first byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """The number of bytes read into `buffer`, fewer than asked where a part ends, 0 at the end of the last."""
        for file, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if self._position < end:
                file.seek(self._position - start)
                count = file.readinto(memoryview(buffer)[: end - self._position])
                self._position += count
                return int(count)
        return 0


def find_parts(folder: Path, *, stem: str = "mp3.zip") -> list[Path]:
    """`stem`.001, .002 and so on, in order, or the whole `stem`; empty when neither is there.

    Raises
    ------
    DatasetError
        A part in the middle is missing.
    """
    parts = sorted(path for path in folder.glob(f"{stem}.[0-9][0-9][0-9]") if path.is_file())
    if not parts:
        return [folder / stem] if (folder / stem).is_file() else []
    for number, path in enumerate(parts, start=1):
        if path.suffix != f".{number:03d}":
            raise DatasetError(f"{folder}: {stem}.{number:03d} is missing; fetch it before unpacking")
    return parts


def unpack(parts: Sequence[Path], folder: Path, *, progress: Callable[[int, int], None] | None = None) -> int:
    """The number of files written to `folder` from the zip that `parts` are, in order; those already there are kept.

    Every name is checked before the first file is written. A file is there whole, its checksum compared, or not.

    Parameters
    ----------
    parts : sequence of Path
        The zip, or its parts.
    folder : Path
        Nothing is written outside of it.
    progress : callable, optional
        Called with (bytes written, bytes in all).

    Raises
    ------
    DatasetError
        A name in the zip leads out of `folder`, the zip is damaged, or there is too little space.
    """
    name = parts[0].name
    try:
        with JoinedFile(parts) as joined, zipfile.ZipFile(io.BufferedReader(joined, _COPY_BYTES)) as archive:
            entries = [(entry, _target(folder, entry, archive=name)) for entry in archive.infolist()]
            missing = [
                (entry, target)
                for entry, target in entries
                if not entry.is_dir() and not (target.is_file() and target.stat().st_size == entry.file_size)
            ]
            total = sum(entry.file_size for entry, _ in missing)
            require_space(folder, total, what=f"unpacking {name}", advice="make room")
            done = 0
            for entry, target in missing:
                _extract(archive, entry, target)
                done += entry.file_size
                if progress:
                    progress(done, total)
            return len(missing)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        message = f"not a whole zip, or a part is missing or damaged: {error}; delete it and fetch it again"
        raise DatasetError(f"{parts[0]}: {message}") from None
    except OSError as error:
        raise DatasetError(f"{folder}: {name} cannot be unpacked: {os_reason(error)}") from None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    # Not forced to the disk file by file, which would take longer than all the rest: after a power cut, files that are
    # not of their full size are unpacked again.
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
    """Where an entry goes: inside `folder`, links in it followed, or an error."""
    path = PurePosixPath(entry.filename)
    windows = PureWindowsPath(entry.filename)
    target = folder / path
    if (
        path.is_absolute()
        or windows.drive
        or windows.root
        or ".." in (*path.parts, *windows.parts)
        or stat.S_ISLNK(entry.external_attr >> 16)
        or not target.resolve().is_relative_to(folder.resolve())
    ):
        raise DatasetError(f"{archive}: entry {entry.filename!r} leads out of {folder}; nothing was unpacked")
    return target
