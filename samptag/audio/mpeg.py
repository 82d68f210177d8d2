"""Headers of MPEG audio layer III frames (ISO/IEC 11172-3, section 2.4.1.3; MPEG-2.5 by its usual extension)."""

from dataclasses import dataclass

__all__ = ["MpegFrame", "mpeg_frame"]

# kbit/s by the index in the header; index 0 (free) and 15 (forbidden) are not read
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_RATES_1 = (44_100, 48_000, 32_000)


@dataclass(frozen=True)
class MpegFrame:
    """What one frame's header tells.

    Attributes
    ----------
    samples : int
        Samples of every channel in the frame.
    length : int
        Bytes from this header to the next.
    side_end : int
        Bytes from the header to the end of the side information, where a Xing header stands.
    """

    samples: int
    length: int
    side_end: int


def mpeg_frame(header: bytes) -> MpegFrame | None:
    """The frame whose first four bytes are `header`; None if they are no header of layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = header[1] >> 3 & 3  # 0: MPEG-2.5, 2: MPEG-2, 3: MPEG-1
    bitrate = (_BITRATES_1 if version == 3 else _BITRATES_2)[header[2] >> 4]
    rate_index = header[2] >> 2 & 3
    if version == 1 or bitrate == 0 or rate_index == 3:
        return None
    rate = _RATES_1[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if version == 3 else 576
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    padding = header[2] >> 1 & 1
    return MpegFrame(samples=samples, length=samples // 8 * bitrate * 1000 // rate + padding, side_end=4 + side)
