"""A digest of a file's audio that stays the same when its tags change.

Everything that players decode is hashed, and nothing that they only show: two files with equal digests play the same.
Known formats are MP3 (and others with ID3 and APEv2 tags at their ends: AAC, Monkey's Audio, WavPack, Musepack), FLAC,
Ogg, MP4, WAV, AIFF and ASF (WMA). Any other file, and one that breaks the rules of its format, is hashed whole, without
tags at its ends.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from samptag.audio.headers import ID3V1_SIZE, id3v1, iff_chunks, skip_id3v2

_BLOCK = 1 << 20
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_IFF_SOUND = frozenset({b"fmt ", b"data", b"ds64", b"COMM", b"SSND"})
_APE_FOOTER = 32


class _Odd(Exception):
    """The file breaks the rules of its format."""


def audio_digest(path: str | os.PathLike[str]) -> bytes:
    """The sha256 (32 bytes) of the file's audio, without tags, cover art and padding, or an OSError."""
    with open(path, "rb") as file:
        start, end = _without_ends(file)
        file.seek(start)
        head = file.read(16)
        kinds = {b"fLaC": _flac, b"OggS": _ogg, b"RIFF": _iff, b"RF64": _iff, b"FORM": _iff}
        update = kinds.get(head[:4]) or (_mp4 if head[4:8] == b"ftyp" else _asf if head == _ASF_HEADER else None)
        if update is not None:
            with suppress(_Odd, struct.error, IndexError):
                digest = hashlib.sha256(head[:4])
                update(file, start, end, digest)
                return digest.digest()
        digest = hashlib.sha256()
        _span(file, start, end, digest)
        return digest.digest()


def id3v1_of(path: str | os.PathLike[str]) -> bytes | None:
    """The ID3v1 tag in the last 128 bytes of the file; None where there is none."""
    with open(path, "rb") as file:
        return _id3v1(file, 0, file.seek(0, os.SEEK_END))


def _id3v1(file: IO[bytes], start: int, end: int) -> bytes | None:
    file.seek(max(start, end - ID3V1_SIZE))
    return id3v1(file.read())


def _without_ends(file: IO[bytes]) -> tuple[int, int]:
    """Where the file begins behind ID3v2 tags, and where it ends before APEv2 and ID3v1 tags."""
    end = file.seek(0, os.SEEK_END)
    start = min(skip_id3v2(file), end)
    if _id3v1(file, start, end):
        end -= ID3V1_SIZE
    if end - start >= _APE_FOOTER:
        file.seek(end - _APE_FOOTER)
        footer = file.read(_APE_FOOTER)
        if footer[:8] == b"APETAGEX":
            size, _, flags = struct.unpack("<III", footer[12:24])
            size += _APE_FOOTER if flags >> 31 else 0
            if size <= end - start:
                end -= size
    return start, max(start, end)


def _span(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    file.seek(start)
    left = end - start
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)


def _flac(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    """Hash STREAMINFO and the frames; the other metadata blocks are tags, pictures, seek tables and padding."""
    position, last = start + 4, False
    while not last:
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            raise _Odd
        last, kind, size = bool(head[0] & 0x80), head[0] & 0x7F, int.from_bytes(head[1:], "big")
        if kind == 0:
            digest.update(file.read(size))
        position += 4 + size
    _span(file, position, end, digest)


def _ogg(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    """Hash the packets of every stream, except the second (its comments), and the positions of its pages.

    When comments grow, pages are renumbered and begin elsewhere; packets stay the same (RFC 3533, section 6).
    """
    file.seek(start)
    packets: dict[bytes, int] = {}
    while file.tell() < end:
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            raise _Odd
        lacing = file.read(head[26])
        serial, granule = head[14:18], head[6:14]
        number = packets.setdefault(serial, 0)
        body = memoryview(file.read(sum(lacing)))
        place = 0
        for packet_end, size in _packet_parts(lacing):
            if number != 1:
                digest.update(body[place : place + size])
                digest.update(b"%d of %s ends" % (number, serial) if packet_end else b"")
            place, number = place + size, number + packet_end
        if number > 2 and granule not in (bytes(8), b"\xff" * 8):
            digest.update(granule)
        packets[serial] = number


def _packet_parts(lacing: bytes) -> Iterator[tuple[bool, int]]:
    """For each packet that a page holds a part of, whether the packet ends there, and the length of the part."""
    size = 0
    for value in lacing:
        size += value
        if value < 255:
            yield True, size
            size = 0
    if size:
        yield False, size


def _mp4(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    """Hash media data and the tracks' tables; chunk offsets relative to the media data, which moves when tags grow."""
    boxes = list(_boxes(file, start, end))
    media = next((body for kind, body, _ in boxes if kind == b"mdat"), None)
    if media is None:
        raise _Odd
    for kind, body, stop in boxes:
        if kind in (b"mdat", b"moof"):
            digest.update(kind)
            _span(file, body, stop, digest)
        elif kind == b"moov":
            for inner, first, last in _boxes(file, body, stop):
                if inner == b"trak":
                    _track(file, first, last, media, digest)


def _track(file: IO[bytes], start: int, end: int, media: int, digest: Any) -> None:
    for kind, body, stop in _boxes(file, start, end):
        if kind in (b"mdia", b"minf", b"stbl"):
            _track(file, body, stop, media, digest)
        elif kind in (b"stco", b"co64"):
            file.seek(body)
            table, form = file.read(stop - body), ">I" if kind == b"stco" else ">Q"
            for (offset,) in struct.iter_unpack(form, table[8:]):
                digest.update(b"%d " % (offset - media))
        else:
            digest.update(kind)
            _span(file, body, stop, digest)


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte of the content and end of each box between two positions."""
    position = start
    while position + 8 <= end:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        body = position + 8
        if size == 1:
            size, body = struct.unpack(">Q", file.read(8))[0], position + 16
        elif size == 0:
            size = end - position
        if size < body - position or position + size > end:
            raise _Odd
        yield kind, body, position + size
        position += size


def _iff(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    file.seek(start)
    order, found = "<" if file.read(4) != b"FORM" else ">", False
    for name, size in iff_chunks(file, order=order, start=start + 12, end=end):
        if name in _IFF_SOUND:
            body, found = file.tell(), True
            if body + size > end:
                raise _Odd  # written to a pipe, or cut short
            digest.update(name)
            _span(file, body, body + size, digest)
    if not found:
        raise _Odd


def _asf(file: IO[bytes], start: int, end: int, digest: Any) -> None:
    """Hash everything behind the header object, which holds the tags."""
    file.seek(start + 16)
    size = struct.unpack("<Q", file.read(8))[0]
    if not 30 <= size <= end - start:
        raise _Odd
    _span(file, start + size, end, digest)
