"""Any sound file as a stream of mono float32 blocks at the model's sample rate.

Files are read forward to their end, whatever the header says about it, and nothing seeks in a lossy file. Channels are
averaged before resampling; levels are left alone. Memory does not depend on the file's length.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from samptag.audio.resample import Resampler
from samptag.audio.source import Block, Source, SourceError
from samptag.errors import AudioError
from samptag.files import os_errors_as, os_reason
from samptag.text import printable

# The kinds of music files that libsndfile reads.
_SNDFILE_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3"}
    | {".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav", ".wave"}
)
# The kinds that need PyAV.
_FFMPEG_SUFFIXES = frozenset(
    {".3gp", ".aac", ".ac3", ".ape", ".m4a", ".m4b", ".mka", ".mp4", ".mpc", ".tta", ".webm", ".wma", ".wv"}
)
# The first bytes of ASF (wma), Matroska, ADTS (aac), AC-3, Monkey's Audio, WavPack, Musepack and True Audio files.
_FFMPEG_BEGINNINGS = (
    *(b"\x30\x26\xb2\x75", b"\x1a\x45\xdf\xa3", b"\xff\xf1", b"\xff\xf9", b"\x0b\x77"),
    *(b"MAC ", b"wvpk", b"MPCK", b"MP+", b"TTA1"),
)

# The suffixes, in lower case, of the files that a walk through a folder picks up.
SUFFIXES: frozenset[str] = _SNDFILE_SUFFIXES | _FFMPEG_SUFFIXES
# A header with a rate (Hz) outside this range is damaged: no music has such a rate, and at 1 Hz one second of samples
# would become six hours of sound.
MIN_RATE, MAX_RATE = 1_000, 1_000_000
# The largest sample value taken for sound: float files may hold unscaled 32-bit integers, but nothing larger is meant.
MAX_VALUE = 2.0**31
# The int16 value of full scale: with it, a 16-bit file at the model's rate comes through unchanged.
SCALE = 32_768


@contextmanager
def open_audio(source: str | os.PathLike[str] | IO[bytes], *, sample_rate: int) -> Iterator[AudioStream]:
    """A sound file, open during a with block; iterating over it gives its sound at `sample_rate` Hz.

    A file object that cannot seek, such as a pipe, is first copied to a temporary file. Raises an AudioError if the
    file cannot be opened or no decoder can read it; iterating raises one if the file holds no sound.
    """
    with ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            name = printable(os.fspath(source))
            try:
                file: IO[bytes] = stack.enter_context(open(source, "rb", buffering=0))
            except (OSError, ValueError) as error:
                raise AudioError(f"{name}: {os_reason(error)}") from error
        else:
            name = printable(str(getattr(source, "name", "<stream>")))
            file = source
        with os_errors_as(AudioError, name):
            reader = _open_reader(_seekable(file, stack), name=name)
        stack.callback(reader.close)
        if not MIN_RATE <= reader.native_rate <= MAX_RATE:
            raise AudioError(f"{name}: its header gives a sample rate of {reader.native_rate} Hz; the file is damaged")
        yield AudioStream(reader, name=name, sample_rate=sample_rate)


class AudioStream:
    """The sound of one file; made by `open_audio`."""

    def __init__(self, reader: Source, *, name: str, sample_rate: int) -> None:
        self._reader, self._name = reader, name
        self._resampler = Resampler(reader.native_rate, sample_rate)
        self.native_rate = reader.native_rate  # the file's own sample rate in Hz
        self.n_decoded = 0  # frames so far, at the native rate
        self.warnings: list[str] = []  # what was wrong with a file that could be decoded; complete after the last block

    @property
    def duration(self) -> float:
        """Seconds decoded so far."""
        return self.n_decoded / self.native_rate

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of mono float32, (samples,), of any size, at the requested sample rate: the whole file, once.

        Samples that are NaN, infinite or beyond ±2^31 become zero, with a warning. Raises an AudioError at the end if
        there was no sample, or none that is a finite number.
        """
        bad = 0
        for block in self._reader.blocks():
            self.n_decoded += len(block)
            mono, bad_here = _mono(block)
            bad += bad_here
            ready = self._resampler.push(mono)
            if len(ready):
                yield ready
        if self.n_decoded == 0:
            raise AudioError(f"{self._name}: no sound in it (0 samples could be decoded)")
        if bad == self.n_decoded:
            raise AudioError(f"{self._name}: no sound in it (no sample is a finite number)")
        if bad:
            self.warnings.append(f"{bad} of {self.n_decoded} samples are not finite numbers and count as zero")
        self.warnings.extend(self._reader.warnings)
        rest = self._resampler.finish()
        if len(rest):
            yield rest


def to_int16(block: NDArray[np.float32]) -> NDArray[np.int16]:
    """Every sample times `SCALE`, rounded to little-endian int16; values out of its range saturate."""
    rounded: NDArray[np.float32] = np.rint(block * np.float32(SCALE))
    return np.clip(rounded, -SCALE, SCALE - 1).astype(np.dtype("<i2"))


def _mono(block: Block) -> tuple[NDArray[np.float32], int]:
    """The mean over channels, a new array (frames,), and how many frames held a value that cannot be sound."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono = _channel_mean(block)
        # the minimum and maximum pass NaN on, and cost less than a check of every value
        if mono.max() <= MAX_VALUE and mono.min() >= -MAX_VALUE:
            return mono, 0
        unsound = ~(np.abs(block) <= MAX_VALUE)
    return _channel_mean(np.where(unsound, np.float32(0), block)), int(unsound.any(axis=1).sum())


def _channel_mean(block: Block) -> NDArray[np.float32]:
    mono: NDArray[np.float32] = block[:, 0].copy()
    for channel in block.T[1:]:
        mono += channel
    mono *= np.float32(1.0 / block.shape[1])
    return mono


def _open_reader(file: IO[bytes], *, name: str) -> Source:
    """The first decoder that can read the file."""
    from samptag.audio.sndfile import SndfileSource

    if file.seek(0, io.SEEK_END) == 0:
        raise AudioError(f"{name}: the file is empty")
    try:
        return SndfileSource(file)
    except SourceError as error:
        reason = f"libsndfile: {error}"
    try:
        from samptag.audio.ffmpeg import FfmpegSource

        return FfmpegSource(file)
    except SourceError as error:
        raise AudioError(f"{name}: not a sound file that can be decoded ({reason}; FFmpeg: {error})") from error
    except ImportError as error:
        if Path(name).suffix.lower() in _FFMPEG_SUFFIXES or _is_for_ffmpeg(file):
            raise AudioError(f"{name}: needs PyAV: pip install 'samptag[av]' ({reason})") from error
        raise AudioError(f"{name}: not a sound file that can be decoded ({reason})") from None


def _is_for_ffmpeg(file: IO[bytes]) -> bool:
    """Whether the file begins like those that need PyAV, since its name may not tell."""
    file.seek(0)
    begin = file.read(8)
    return begin[4:] == b"ftyp" or begin.startswith(_FFMPEG_BEGINNINGS)


def _seekable(file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """The file itself, or a temporary copy if it cannot seek; decoders look at the end of a file first."""
    if file.seekable():
        return file
    copy: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(prefix="samptag-", buffering=0))  # noqa: SIM115 (the stack closes it)
    shutil.copyfileobj(file, copy, 1 << 20)
    return copy
