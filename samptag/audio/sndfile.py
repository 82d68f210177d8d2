"""libsndfile as a forward-only source of blocks: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and some twenty more."""

import io
import os
from collections.abc import Iterator
from typing import IO

import numpy as np
import soundfile

from samptag.audio.headers import expected_length
from samptag.audio.source import Block, SourceError, partly_decoded

# Values (frames × channels) per read: of 2^14 to 2^17, the fastest for every format.
READ_VALUES = 1 << 16
# Reads that may fail in a row before the rest of the file is given up.
MAX_FAILED_READS = 64
# Frames by which an intact Ogg file may fall short of its own count: a stream cut by an editor starts inside a block,
# and the longest blocks have 8192 frames. One of 452 intact files was 0.01 s short.
OGG_SLACK = 8192
# libsndfile gives at least this many frames when a header does not say.
UNKNOWN_FRAMES = 1 << 62
# The part of an MP3 that must be left unread before decoding counts as stopped early: tags may follow the sound.
UNREAD_PART = 0.05


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that is never told to seek.

    soundfile seeks to where it already is after every read, and cuts reads at the header's frame count. Both are wrong
    for MP3, whose count may be an estimate and whose decoder loses its bit reservoir in a seek. It does neither for a
    file that says it cannot seek.
    """

    def seekable(self) -> bool:
        return False


class SndfileSource:
    """The sound that libsndfile reads from a seekable binary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._raw = file
        self._expected = expected_length(file)
        file.seek(0)
        # The descriptor of an unbuffered file, so that no read waits for Python.
        handle = file.fileno() if isinstance(file, io.FileIO) and os.name == "posix" else file
        try:
            self._file = _ForwardFile(handle, closefd=False)
        except soundfile.LibsndfileError as error:
            # libsndfile says that an MP3 without one whole frame does not exist
            reason = str(error.error_string).removeprefix("Error : ").rstrip(".").lower()
            raise SourceError("malformed" if error.code == 7 else reason) from error
        self.native_rate = int(self._file.samplerate)
        self._channels = int(self._file.channels)
        self._container = str(self._file.format)
        self.warnings: list[str] = []
        self._decoded = 0

    def close(self) -> None:
        """Free the decoder; the file object stays the caller's."""
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """Blocks of float32, (frames, channels), each valid until the next one is asked for."""
        buffer = np.empty((max(1, READ_VALUES // self._channels), self._channels), dtype=np.float32)
        failures = 0  # in a row
        skipped = False
        while failures <= MAX_FAILED_READS:
            got, failed = self._read(buffer)
            if not got and not failed:
                break
            if got:
                skipped = skipped or failures > 0
                failures = 0
                self._decoded += got
                yield buffer[:got]
            failures += failed
        self._judge(skipped=skipped)

    def _read(self, buffer: Block) -> tuple[int, bool]:
        """Frames read into buffer, and whether the decoder failed on the way."""
        buffer.fill(np.nan)
        try:
            return len(self._file.read(out=buffer)), False
        except soundfile.LibsndfileError:
            # libsndfile does not say how much of a failed read it had decoded, but that is in the buffer
            untouched = np.isnan(buffer).any(axis=1)
            return int(untouched.argmax()) if untouched.any() else len(buffer), True

    def _judge(self, *, skipped: bool) -> None:
        """Warn about missing sound. An error alone proves nothing: decoders stumble over tags after the sound."""
        expected, slack = self._expected.frames, self._expected.slack
        if expected is None and self._container in {"FLAC", "OGG"} and 0 < self._file.frames < UNKNOWN_FRAMES:
            expected, slack = int(self._file.frames), OGG_SLACK if self._container == "OGG" else 0
        seconds = self._decoded / self.native_rate
        if expected is not None and self._decoded < expected - slack:
            # an Ogg file's count is on its last page: if that is there, the missing sound came before it
            inside = skipped or self._unread_part() > 0 or (self._container == "OGG" and not self._expected.cut)
            flaw = "damaged" if inside else "truncated"
            self.warnings.append(partly_decoded(flaw, seconds, expected / self.native_rate))
        elif self._expected.cut:
            self.warnings.append(partly_decoded("truncated", seconds))
        elif skipped or (expected is None and self._container == "MP3" and self._unread_part() > UNREAD_PART):
            self.warnings.append(partly_decoded("damaged", seconds))

    def _unread_part(self) -> float:
        """How much of the file was never read, in [0, 1]; 0 if it ends in an APE tag (which may hold pictures)."""
        position = self._raw.tell()
        size = self._raw.seek(0, io.SEEK_END)
        self._raw.seek(max(0, size - 256))
        return 0.0 if b"APETAGEX" in self._raw.read() else (size - position) / size
