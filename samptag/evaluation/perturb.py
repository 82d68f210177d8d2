"""Degraded sound: noise, gain, MP3 coding and low-pass filtering of a clip's waveform on its way to the model.

Every perturbation works block by block, in memory that does not grow, and returns as many samples as it gets.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from samptag.audio.decode import open_audio
from samptag.audio.headers import bit_rates
from samptag.errors import UsageError

Block = npt.NDArray[np.float32]

_UNITS = {
    "noise": {"": 1.0, "db": 1.0},
    "gain": {"": 1.0, "db": 1.0},
    "mp3": {"": 1.0, "k": 1.0, "kbps": 1.0, "kbit": 1.0, "kbit/s": 1.0},
    "lowpass": {"": 1.0, "hz": 1.0, "k": 1000.0, "khz": 1000.0},
}
_FORMS = "noise:SNRdB, gain:dB, mp3:KBITSk or lowpass:Hz, e.g. noise:20dB, gain:-6, mp3:32k, lowpass:4000"
_WRITTEN = {"noise": "noise:{:g}dB", "gain": "gain:{:+g}dB", "mp3": "mp3:{:g}k", "lowpass": "lowpass:{:g}Hz"}

_MP3_DELAY = 576 + 529  # samples in front: LAME's encoder delay and the decoder's; a LAME "Info" frame removes both
# LAME lowers the level before it codes (measured at every rate on 50 to 1000 Hz: .945 to .950 from 16 to 160 kbit/s,
# .970 at 192, .980 at 224, 1.000 above), which is undone here: the effect of a lower level is for `gain` to show.
_LAME_SCALE, _LAME_SCALES = 0.95, {192: 0.97, 224: 0.98, 256: 1.0, 320: 1.0}
_STOP_BAND_DB = 80.0
_BLOCK = 1 << 16  # samples read back at a time


@dataclass(frozen=True)
class Perturbation:
    """One way to make a clip sound worse; docs/evaluation.md describes them."""

    kind: Literal["noise", "gain", "mp3", "lowpass"]
    amount: float  # dB of noise (below the clip's RMS) and gain, kbit/s, or Hz of the low-pass

    @property
    def name(self) -> str:
        """The perturbation as reports name it, e.g. ``noise:20dB``."""
        return _WRITTEN[self.kind].format(self.amount)

    def check(self, sample_rate: int) -> None:
        """Raise `UsageError` when this perturbation cannot be applied at `sample_rate` (Hz)."""
        option = f"--perturb {self.name}"
        if self.kind == "lowpass" and self.amount >= sample_rate / 2:
            raise UsageError(f"{option}: the model hears nothing above {sample_rate / 2:g} Hz; give a lower frequency")
        if self.kind == "mp3":
            rates = bit_rates(sample_rate)
            if not rates:
                raise UsageError(f"{option}: an MP3 cannot have the model's sample rate, {sample_rate} Hz")
            if self.amount not in rates:
                known = ", ".join(map(str, rates))
                raise UsageError(f"{option}: at {sample_rate} Hz an MP3 has one of {known} kbit/s")

    def apply(self, blocks: Iterable[Block], *, sample_rate: int, key: str, seed: int = 0) -> Iterator[Block]:
        """The blocks of one clip, (samples,), at `sample_rate` Hz, degraded; `key` and `seed` decide the noise."""
        self.check(sample_rate)
        if self.kind == "noise":
            digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
            return _noisy(blocks, self.amount, np.random.default_rng(np.frombuffer(digest, dtype=np.uint32)))
        if self.kind == "mp3":
            return _through_mp3(blocks, round(self.amount), sample_rate)
        if self.kind == "lowpass":
            return _filtered(blocks, _lowpass_taps(self.amount, sample_rate))
        factor = np.float32(10 ** (self.amount / 20))
        return (block * factor for block in blocks)


def parse_perturbation(text: str) -> Perturbation:
    """The perturbation that `text` names: noise:20dB, gain:-6, mp3:32k, lowpass:4000, lowpass:8kHz or the like."""
    match = re.fullmatch(r"(noise|gain|mp3|lowpass):([+-]?\d+(?:\.\d+)?) ?([a-z/]*)", text.strip().lower())
    if not match or match[3] not in _UNITS[match[1]]:
        raise UsageError(f"--perturb {text}: write {_FORMS}")
    kind, amount = match[1], float(match[2]) * _UNITS[match[1]][match[3]]
    if kind in ("mp3", "lowpass") and amount <= 0:
        raise UsageError(f"--perturb {text}: {amount:g} must be greater than 0; write {_FORMS}")
    return Perturbation(kind, amount)  # type: ignore[arg-type]  # the pattern admits these four words only


def _noisy(blocks: Iterable[Block], snr_db: float, rng: np.random.Generator) -> Iterator[Block]:
    """`blocks` plus white noise; the clip waits in a file until its RMS is known."""
    with tempfile.TemporaryFile() as spool:
        energy, n_samples = 0.0, 0
        for block in blocks:
            energy += float(np.square(block, dtype=np.float64).sum())
            n_samples += len(block)
            spool.write(block.tobytes())
        level = np.float32(np.sqrt(energy / max(n_samples, 1)) * 10 ** (-snr_db / 20))
        spool.seek(0)
        while data := spool.read(_BLOCK * 4):
            clean = np.frombuffer(data, dtype=np.float32)
            yield clean + level * rng.standard_normal(len(clean), dtype=np.float32)


def _through_mp3(blocks: Iterable[Block], kbits: int, sample_rate: int) -> Iterator[Block]:
    """`blocks` after an MP3 encoder at `kbits` and its decoder, aligned, and as long and as loud as before."""
    scale = np.float32(_LAME_SCALES.get(kbits, _LAME_SCALE))
    with tempfile.TemporaryFile() as spool:
        n_samples = _write_mp3(spool, blocks, kbits, sample_rate)
        if not n_samples:
            return
        spool.seek(0)
        skip = 0 if b"Info" in spool.read(256) else _MP3_DELAY  # small frames have no room for LAME's delay note
        with open_audio(spool, sample_rate=sample_rate) as stream:
            for block in stream:
                kept = block[skip : skip + n_samples]
                skip = max(0, skip - len(block))
                n_samples -= len(kept)
                yield kept / scale


def _write_mp3(file: IO[bytes], blocks: Iterable[Block], kbits: int, sample_rate: int) -> int:
    """Encode `blocks` into `file`, a mono MP3 of `kbits` a second; the number of samples."""
    import soundfile

    low, *_, high = bit_rates(sample_rate)
    level = min((high - kbits) / (high - low), 0.999)  # libsndfile: 0 is the highest bit rate, 1 is refused
    n_samples = 0
    options = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": level}
    with soundfile.SoundFile(file, "w", sample_rate, 1, **options) as encoder:
        for block in blocks:
            encoder.write(block)
            n_samples += len(block)
    return n_samples


def _lowpass_taps(cutoff_hz: float, sample_rate: int) -> npt.NDArray[np.float64]:
    """Taps of a Kaiser-windowed sinc, an odd number, with unit gain at 0 Hz (length and shape: Kaiser 1974)."""
    width = 2 * np.pi * (cutoff_hz / 8) / sample_rate  # radians a sample from pass band to stop band
    half = int(np.ceil((_STOP_BAND_DB - 7.95) / (2.285 * width) / 2))
    n = np.arange(-half, half + 1)
    taps = np.sinc(2 * cutoff_hz / sample_rate * n) * np.kaiser(2 * half + 1, 0.1102 * (_STOP_BAND_DB - 8.7))
    return np.asarray(taps / taps.sum())


def _filtered(blocks: Iterable[Block], taps: npt.NDArray[np.float64]) -> Iterator[Block]:
    """`blocks` through a symmetric FIR filter, without its delay (overlap-save)."""
    memory: npt.NDArray[np.float64] = np.zeros(len(taps) - 1)
    early = len(taps) // 2  # outputs that come before the first sample's own
    for block in chain(blocks, [np.zeros(early, dtype=np.float32)]):
        window = np.concatenate((memory, block), dtype=np.float64)
        memory = window[len(window) - len(memory) :]
        size = 1 << (len(window) - 1).bit_length()
        product = np.fft.irfft(np.fft.rfft(window, size) * np.fft.rfft(taps, size), size)
        output = product[len(taps) - 1 : len(window)].astype(np.float32)
        yield output[early:]
        early = max(0, early - len(output))
