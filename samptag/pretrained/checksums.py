"""What a file must be: its size, its sha256, its git blob id, and what it looks like when it is something else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Checksums", "file_sha256", "unexpected_kind"]

_BLOCK = 1 << 20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """The known size and digests of a file; None where a value is not known.

    Parameters
    ----------
    size : int or None
        Bytes.
    sha256 : str or None
        64 lower-case hexadecimal digits.
    git_blob_sha1 : str or None
        The id git gives the file: sha1 of the word ``blob``, a space, the size, a zero byte, and the bytes; 40 digits.
    """

    size: int | None = None
    sha256: str | None = None
    git_blob_sha1: str | None = None

    def problem(self, path: Path) -> str | None:
        """What is wrong with the file at `path` in a few words, or None when all that is known of it agrees.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size} bytes instead of {self.size}"
        sha256 = hashlib.sha256()
        blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if self.sha256 is not None:
                    sha256.update(block)
                if self.git_blob_sha1 is not None:
                    blob.update(block)
        if self.sha256 is not None and sha256.hexdigest() != self.sha256:
            return f"its sha256 is {sha256.hexdigest()} instead of {self.sha256}"
        if self.git_blob_sha1 is not None and blob.hexdigest() != self.git_blob_sha1:
            return f"its git blob id is {blob.hexdigest()} instead of {self.git_blob_sha1}"
        return None


def file_sha256(path: Path) -> str:
    """The sha256 of the file at `path`, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unexpected_kind(path: Path) -> str | None:
    """What the file at `path` is, when it is one of the usual things that come instead of weights; else None.

    A git-lfs pointer comes from a repository that moved its files to LFS storage (or from a clone without LFS), a web
    page from a proxy, a login or an error page sent as success.
    """
    with path.open("rb") as file:
        head = file.read(256)
    if head.startswith(_LFS_POINTER):
        return "a git-lfs pointer, not the file it stands for"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not weights"
    return None
