"""FFmpeg (PyAV) as a source of blocks for what libsndfile does not read: m4a, aac, wma and the like.

PyAV is an optional extra. It reads through the file object it is given, and only formats that hold the sound
themselves: playlists, which could make it open other files or addresses, are not among them.
"""

import errno
import io
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from samptag.audio.source import Block, SourceError, partly_decoded
from samptag.files import os_reason

# The FFmpeg demuxers that may be tried, and no others: above all, none for playlists.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)

# Samples per channel gathered before they are handed on: a single AAC frame (1024) is too short to work on.
GATHER = 1 << 14
# A container's duration may differ from the decoded sound by what encoders add at the ends.
SLACK_SECONDS = 1.0


class _CallbackFile:
    """A file for FFmpeg's callbacks, which return an error number where a file would raise.

    PyAV keeps an exception of a callback until its next call, even one for another file, and prints the traceback of a
    second exception. A damaged file can make FFmpeg seek to impossible places several times in a row.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failed = False

    def read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except (OSError, ValueError):
            self.failed = True
            return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL

    def tell(self) -> int:
        return self._file.tell()


class FfmpegSource:
    """The sound that FFmpeg decodes from a seekable binary file; raises an ImportError if PyAV is missing."""

    def __init__(self, file: IO[bytes]) -> None:
        import av

        file.seek(0)
        self._file = _CallbackFile(file)
        self._errors = (av.error.FFmpegError, ValueError)
        self._broken_packets = 0
        self.warnings: list[str] = []
        try:
            self._container: Any = av.open(
                self._file, mode="r", options={"format_whitelist": DEMUXERS}, metadata_errors="replace"
            )
        except self._errors as error:
            raise SourceError(os_reason(error).splitlines()[0].lower()) from error
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self) -> None:
        self._stream = self._container.streams.best("audio")
        if self._stream is None:
            raise SourceError("it holds no audio stream")
        frames = self._decode()
        first = next(frames, None)
        if first is None:
            raise SourceError("no sound could be decoded")
        self._frames = chain((first,), frames)
        # the header may give half the decoder's rate (HE-AAC), so the first frame's rate counts
        self.native_rate = int(first.sample_rate)
        self._channels = len(first.layout.channels)

    def close(self) -> None:
        """Free the decoder; the file object stays the caller's."""
        self._container.close()

    def blocks(self) -> Iterator[Block]:
        """Blocks of float32, (frames, channels), each valid until the next one is asked for."""
        held: list[Block] = []
        decoded = waiting = 0
        for frame in self._frames:
            if frame.sample_rate != self.native_rate or len(frame.layout.channels) != self._channels:
                self.warnings.append(f"damaged: the stream changes its layout after {decoded / self.native_rate:.1f} s")
                break
            held.append(_samples(frame))
            decoded += len(held[-1])
            waiting += len(held[-1])
            if waiting >= GATHER:
                yield np.concatenate(held)
                held, waiting = [], 0
        if waiting:
            yield np.concatenate(held)
        self._judge(decoded / self.native_rate)

    def _decode(self) -> Iterator[Any]:
        """Decoded frames; packets that cannot be decoded are counted and skipped."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except self._errors:
                    self._broken_packets += 1
        except self._errors:
            self._broken_packets += 1

    def _judge(self, seconds: float) -> None:
        stream = self._stream
        expected = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if seconds < expected - SLACK_SECONDS:
            self.warnings.append(partly_decoded("truncated", seconds, expected))
        elif (self._broken_packets or self._file.failed) and not self.warnings:
            self.warnings.append(partly_decoded("damaged", seconds))


def _samples(frame: Any) -> Block:
    """The frame's samples as float32 in [-1, 1], (samples, channels)."""
    values: NDArray[Any] = frame.to_ndarray()
    # planar: (channels, samples); packed: (1, samples * channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    samples: Block = values.astype(np.float32)
    if values.dtype == np.uint8:
        samples = (samples - np.float32(128)) / np.float32(128)
    elif np.issubdtype(values.dtype, np.integer):
        samples /= np.float32(-float(np.iinfo(values.dtype).min))
    return samples
