"""MPEG audio layer III: frame headers, bit rates, ID3v2 tags, and the length of a file by counting its frames.

Tables and layouts are those of ISO/IEC 11172-3, section 2.4, and 13818-3; MPEG-2.5 by its usual extension.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

__all__ = ["MpegFrame", "bit_rates", "mp3_seconds", "mpeg_frame", "skip_id3v2"]

# kbit/s by the index in the header; index 0 (free) and 15 (forbidden) are not read
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_RATES_1 = (44_100, 48_000, 32_000)
# LAME, and so libsndfile, writes MPEG-2.5 up to this bit rate only.
_HIGHEST_KBITS_2_5 = 64
_ID3V1_SIZE = 128


@dataclass(frozen=True)
class MpegFrame:
    """What one frame's header tells.

    Attributes
    ----------
    sample_rate : int
        Hz.
    samples : int
        Samples of every channel in the frame.
    length : int
        Bytes from this header to the next.
    side_end : int
        Bytes from the header to the end of the side information, where a Xing header stands.
    """

    sample_rate: int
    samples: int
    length: int
    side_end: int

    def find_info(self, data: bytes) -> int | None:
        """Where in `data`, which begins with this frame, a Xing or Info header stands; None: it is a frame of sound."""
        places = (self.side_end, self.side_end + 2)  # some writers count the checksum in
        return next((place for place in places if data[place : place + 4] in (b"Xing", b"Info")), None)


@lru_cache(maxsize=4096)
def mpeg_frame(header: bytes) -> MpegFrame | None:
    """The frame whose first four bytes are `header`; None if they are no header of layer III."""
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
    """The constant bit rates in kbit/s, ascending, that an MP3 of `sample_rate` (Hz) may have; none where none may.

    Examples
    --------
    >>> bit_rates(11_025)
    (8, 16, 24, 32, 40, 48, 56, 64)
    """
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
        if tag[:3] != b"ID3" or len(tag) < 10:
            return position
        # a size in four bytes of seven bits, ten of header and perhaps as many of footer
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & 0x10 else 0)


def mp3_seconds(path: Path) -> float:
    """Seconds of audio in the whole frames of an MPEG layer III file; 0.0 when it holds none.

    Counting frames gives the same length on every machine, where decoders differ in whether they cut the encoder's
    padding. A truncated last frame and a Xing or Info frame are not counted.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        position = skip_id3v2(file)
        file.seek(0)
        data = file.read()
    end = len(data) - (_ID3V1_SIZE if data[-_ID3V1_SIZE:][:3] == b"TAG" else 0)
    counted: dict[int, int] = {}  # sample rate -> samples
    in_sync, first = False, True
    while position + 4 <= end:
        frame = mpeg_frame(data[position : position + 4])
        # Bytes that look like a header by chance are found out by what stands where the next one should.
        if frame and not in_sync and position + frame.length + 4 <= end:
            following = position + frame.length
            frame = frame if mpeg_frame(data[following : following + 4]) else None
        if frame is None:
            found = data.find(b"\xff", position + 1)
            position, in_sync = (found if found >= 0 else end), False
            continue
        if position + frame.length > end:
            break
        if not first or frame.find_info(data[position : position + frame.length]) is None:
            counted[frame.sample_rate] = counted.get(frame.sample_rate, 0) + frame.samples
        position, in_sync, first = position + frame.length, True, False
    return sum(samples / rate for rate, samples in counted.items())
