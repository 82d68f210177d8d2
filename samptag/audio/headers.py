"""How much sound a file's own header tells of: the only way to know a truncated file from a short one.

libsndfile corrects these numbers to what it finds, so they are read here. What a header does not tell for certain is
not guessed: an intact file must never be called truncated.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from samptag.audio.mpeg import mpeg_frame, skip_id3v2

__all__ = ["ExpectedLength", "expected_length"]

# The longest Ogg page: 27 bytes of header, 255 of lacing values, 255 segments of 255 bytes.
_OGG_PAGE = 27 + 255 + 255 * 255
_OGG_END_OF_STREAM = 4

# Sizes from here on mean "unknown": writers to a pipe leave 0x7FFFFFFF less something, 0xFFFFFFFF or the like.
_UNKNOWN_SIZE = 0x7FFF_0000

# MP3 frames that may be missing from an intact file: the encoder's delay and padding, cut by a gapless decoder.
_MP3_SLACK_FRAMES = 4

# Bytes at the end of an MP3 in which its last frames are looked for: a dozen of the longest (1441).
_MP3_TAIL = 16 << 10

# Headers in a row, each where the one before says, that are not taken for chance.
_MP3_CHAIN = 4


@dataclass(frozen=True)
class ExpectedLength:
    """What a header says of the sound behind it.

    Attributes
    ----------
    frames : int or None
        Frames (one sample of every channel) in the intact file; None where no header tells.
    slack : int
        So many of them may be missing from an intact file all the same.
    cut : bool
        The stream's end mark is missing.
    """

    frames: int | None = None
    slack: int = 0
    cut: bool = False


def expected_length(file: IO[bytes]) -> ExpectedLength:
    """What the header of a seekable binary file tells; nothing for formats not known here. Moves the position."""
    file.seek(0)
    start = file.read(12)
    if start[:4] in {b"RIFF", b"RIFX"} and start[8:12] == b"WAVE":
        return ExpectedLength(frames=_wav_frames(file, big_endian=start[:4] == b"RIFX"))
    if start[:4] == b"FORM" and start[8:12] in {b"AIFF", b"AIFC"}:
        return ExpectedLength(frames=_aiff_frames(file))
    if start[:4] == b"OggS":
        return ExpectedLength(cut=_ogg_cut(file))
    return _mp3_length(file)


def _chunks(file: IO[bytes], *, order: str) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of an IFF-like file, with the position at the chunk's first byte."""
    position = 12
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        size = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], size
        position += 8 + size + size % 2


def _wav_frames(file: IO[bytes], *, big_endian: bool) -> int | None:
    order = ">" if big_endian else "<"
    bytes_per_frame = 0
    for name, size in _chunks(file, order=order):
        if name == b"fmt ":
            layout = file.read(16)
            # compressed codings (not PCM 1, float 3, extensible 0xFFFE) have blocks of many frames
            if len(layout) == 16 and struct.unpack(order + "H", layout[:2])[0] in {1, 3, 0xFFFE}:
                bytes_per_frame = struct.unpack(order + "H", layout[12:14])[0]
        elif name == b"data":
            known = bytes_per_frame and 0 < size < _UNKNOWN_SIZE
            return int(size // bytes_per_frame) if known else None
    return None


def _aiff_frames(file: IO[bytes]) -> int | None:
    for name, size in _chunks(file, order=">"):
        if name == b"COMM" and size >= 18:
            frames = int(struct.unpack(">xxI", file.read(6))[0])
            return frames if 0 < frames < _UNKNOWN_SIZE else None
    return None


def _ogg_cut(file: IO[bytes]) -> bool:
    """Whether the last page is incomplete or does not end a stream (RFC 3533, section 6)."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 2 * _OGG_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return page >= 0
    lacing = tail[page + 27 : page + 27 + tail[page + 26]]
    complete = page + 27 + tail[page + 26] + sum(lacing) <= len(tail)
    return not (complete and tail[page + 5] & _OGG_END_OF_STREAM)


def _mp3_length(file: IO[bytes]) -> ExpectedLength:
    """Frames by the Xing or Info header that most encoders put into an MP3's first frame, and how the file ends."""
    file.seek(skip_id3v2(file))
    start = file.read(64)
    frame = mpeg_frame(start[:4])
    if frame is None or len(start) < 64:
        return ExpectedLength()
    cut = _mp3_cut(file)
    info = frame.find_info(start)
    if info is not None and start[info + 7] & 1:
        count = int(struct.unpack(">I", start[info + 8 : info + 12])[0])
        return ExpectedLength(frames=count * frame.samples or None, slack=_MP3_SLACK_FRAMES * frame.samples, cut=cut)
    return ExpectedLength(cut=cut)


def _mp3_cut(file: IO[bytes]) -> bool:
    """Whether the last frame breaks off: frames that follow one another by their lengths, up to the end of the file.

    Nothing is said of files that end in anything else (tags, padding), nor where no chain of frames is found.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _MP3_TAIL))
    tail = file.read()
    start = -1
    while (start := tail.find(b"\xff", start + 1)) >= 0:
        position, links = start, 0
        while (frame := mpeg_frame(tail[position : position + 4])) is not None:
            position += frame.length
            links += 1
        if links >= _MP3_CHAIN:
            return position > len(tail)
    return False
