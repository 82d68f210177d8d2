"""What headers say: an MP3's frames, bit rates and length, and how much sound a file should hold.

libsndfile corrects these numbers to what it finds, so they are read here: only they tell a truncated file from a short
one. Nothing is guessed that a header does not say for certain, since an intact file must never be called truncated.
Tables and layouts of MPEG audio layer III are those of ISO/IEC 11172-3, section 2.4, and 13818-3; those of
MPEG-2.5 follow its usual extension.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

# kbit/s by the index in the header; index 0 (free) and 15 (forbidden) are not supported
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_RATES_1 = (44_100, 48_000, 32_000)
# LAME, and so libsndfile, writes MPEG-2.5 up to this bit rate only.
_HIGHEST_KBITS_2_5 = 64
ID3V1_SIZE = 128
# The longest Ogg page: 27 bytes of header, 255 of lacing values, 255 segments of 255 bytes.
_OGG_PAGE = 27 + 255 + 255 * 255
_OGG_END_OF_STREAM = 4
# Sizes from here up mean "unknown": programs that write to a pipe leave a little less than 0x7FFFFFFF, 0xFFFFFFFF or
# the like.
_UNKNOWN_SIZE = 0x7FFF_0000
# MP3 frames that may be missing from an intact file: the encoder's delay and padding, cut by a gapless decoder.
_MP3_SLACK_FRAMES = 4
# The last frames of an MP3 are looked for in so many bytes at its end: a dozen of the longest (1441).
_MP3_TAIL = 16 << 10
# So many headers in a row, each where the one before says it is, are no coincidence.
_MP3_CHAIN = 4


@dataclass(frozen=True)
class MpegFrame:
    """What one frame's header says."""

    sample_rate: int  # Hz
    samples: int  # of every channel in the frame
    length: int  # bytes from this header to the next
    side_end: int  # bytes from here to the end of the side information, where a Xing header begins

    def find_info(self, data: bytes) -> int | None:
        """The place of a Xing or Info header in `data`, which begins with this frame; None: it is a frame of sound."""
        places = (self.side_end, self.side_end + 2)  # some writers count the checksum in
        return next((place for place in places if data[place : place + 4] in (b"Xing", b"Info")), None)


@lru_cache(maxsize=4096)
def mpeg_frame(header: bytes) -> MpegFrame | None:
    """The frame whose first four bytes are `header`; None if they are not a header of layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = header[1] >> 3 & 3  # 0: MPEG-2.5, 2: MPEG-2, 3: MPEG-1
    kbits = (_BITRATES_1 if version == 3 else _BITRATES_2)[header[2] >> 4]
    rate_index = header[2] >> 2 & 3
    if version == 1 or kbits == 0 or rate_index == 3:
        return None
    rate = _RATES_1[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if version == 3 else 576
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    padding = header[2] >> 1 & 1
    return MpegFrame(rate, samples, samples // 8 * kbits * 1000 // rate + padding, 4 + side)


def bit_rates(sample_rate: int) -> tuple[int, ...]:
    """The constant bit rates in kbit/s, ascending, that an MP3 of `sample_rate` (Hz) may have; () if no MP3 has it."""
    if sample_rate in _RATES_1:
        return _BITRATES_1[1:-1]
    if 2 * sample_rate in _RATES_1:
        return _BITRATES_2[1:-1]
    if 4 * sample_rate in _RATES_1:
        return tuple(kbits for kbits in _BITRATES_2 if 0 < kbits <= _HIGHEST_KBITS_2_5)
    return ()


def skip_id3v2(file: IO[bytes]) -> int:
    """The position behind the ID3v2 tags at the start of a seekable file: there may be several, or none."""
    position = 0
    while True:
        file.seek(position)
        tag = file.read(10)
        # a size in four bytes of seven bits, ten of header and perhaps as many of footer
        if tag[:3] != b"ID3" or len(tag) < 10 or max(tag[6:]) > 0x7F:
            return position
        size = sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & 0x10 else 0)


def id3v1(data: bytes) -> bytes | None:
    """The ID3v1 tag (`ID3V1_SIZE` bytes) at the end of a file's last bytes; None where there is none."""
    tail = data[-ID3V1_SIZE:]
    return tail if len(tail) == ID3V1_SIZE and tail[:3] == b"TAG" else None


def mp3_seconds(path: Path) -> float:
    """Seconds of audio in the whole frames of an MPEG layer III file; 0.0 when it holds none.

    Decoders differ in whether they cut the encoder's padding; this is the same on every machine.
    """
    with path.open("rb") as file:
        position = skip_id3v2(file)
        file.seek(0)
        data = file.read()
    end = len(data) - len(id3v1(data) or b"")
    counted: dict[int, int] = {}  # sample rate -> samples
    in_sync, first = False, True
    while position + 4 <= end:
        frame = mpeg_frame(data[position : position + 4])
        following = position + frame.length if frame else end
        # Bytes that look like a header by chance are exposed by whatever is where the next one should be.
        if frame and not in_sync and following + 4 <= end and not mpeg_frame(data[following : following + 4]):
            frame = None
        if frame is None:
            found = data.find(b"\xff", position + 1)
            position, in_sync = (found if found >= 0 else end), False
            continue
        if following > end:
            break
        if not first or frame.find_info(data[position:following]) is None:
            counted[frame.sample_rate] = counted.get(frame.sample_rate, 0) + frame.samples
        position, in_sync, first = following, True, False
    return sum(samples / rate for rate, samples in counted.items())


@dataclass(frozen=True)
class ExpectedLength:
    """What a header says about the sound that follows it."""

    frames: int | None = None  # (one sample of every channel) in the intact file; None if no header says
    slack: int = 0  # so many of them may be missing even from an intact file
    cut: bool = False  # the stream's end mark is missing


def expected_length(file: IO[bytes]) -> ExpectedLength:
    """What the header of a seekable binary file says; nothing for unknown formats. Moves the file's position."""
    file.seek(0)
    start = file.read(12)
    if start[:4] in {b"RIFF", b"RIFX"} and start[8:12] == b"WAVE":
        return ExpectedLength(frames=_wav_frames(file, order=">" if start[:4] == b"RIFX" else "<"))
    if start[:4] == b"FORM" and start[8:12] in {b"AIFF", b"AIFC"}:
        return ExpectedLength(frames=_aiff_frames(file))
    if start[:4] == b"OggS":
        return ExpectedLength(cut=_ogg_cut(file))
    return _mp3_length(file)


def iff_chunks(file: IO[bytes], *, order: str, start: int = 12, end: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of an IFF-like file, whose position is then at the chunk's first byte."""
    while end is None or start + 8 <= end:
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        size = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], size
        start += 8 + size + size % 2


def _wav_frames(file: IO[bytes], *, order: str) -> int | None:
    bytes_per_frame = 0
    for name, size in iff_chunks(file, order=order):
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
    for name, size in iff_chunks(file, order=">"):
        if name == b"COMM" and size >= 18:
            frames = int(struct.unpack(">xxI", file.read(6))[0])
            return frames if 0 < frames < _UNKNOWN_SIZE else None
    return None


def _ogg_cut(file: IO[bytes]) -> bool:
    """Whether the last page is incomplete or does not end a stream (RFC 3533, section 6)."""
    file.seek(max(0, file.seek(0, 2) - 2 * _OGG_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return page >= 0
    lacing = tail[page + 27 : page + 27 + tail[page + 26]]
    complete = page + 27 + tail[page + 26] + sum(lacing) <= len(tail)
    return not (complete and tail[page + 5] & _OGG_END_OF_STREAM)


def _mp3_length(file: IO[bytes]) -> ExpectedLength:
    """The frames counted in the Xing or Info header of most MP3s' first frame, and whether the file breaks off."""
    file.seek(skip_id3v2(file))
    start = file.read(64)
    frame = mpeg_frame(start[:4])
    if frame is None or len(start) < 64:
        return ExpectedLength()
    cut = _mp3_cut(file)
    info = frame.find_info(start)
    if info is not None and start[info + 7] & 1:
        count = int.from_bytes(start[info + 8 : info + 12], "big")
        return ExpectedLength(frames=count * frame.samples or None, slack=_MP3_SLACK_FRAMES * frame.samples, cut=cut)
    return ExpectedLength(cut=cut)


def _mp3_cut(file: IO[bytes]) -> bool:
    """Whether the last frame breaks off, by a chain of frames whose lengths lead to the end of the file or beyond it.

    False for a file that ends in anything else (tags, padding), and if no such chain is found.
    """
    file.seek(max(0, file.seek(0, 2) - _MP3_TAIL))
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
