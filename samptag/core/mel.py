"""The constants of the mel front end: its window, its bands and its compression; no torch."""

import numpy as np
from numpy.typing import NDArray

from samptag.core.config import ModelConfig

# Magnitudes A are compressed to log(1 + 10 A), as is usual in music tagging.
COMPRESSION = 10.0
# Shorter windows are padded with zeros to this length, so that even the narrowest of 128 bands has a bin of the FFT.
MIN_FFT_LENGTH = 729

# Slaney's mel scale: 200 mels to 3 kHz are linear below 1 kHz; above, 27 mels to every factor of 6.4.
_HZ_PER_MEL = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def mel_window(config: ModelConfig) -> tuple[NDArray[np.float32], int]:
    """The periodic Hann window of `first_filter` samples, and the length of the transform it is padded to."""
    length = config.first_filter
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return window.astype(np.float32), max(MIN_FFT_LENGTH, length)


def mel_filters(sample_rate: int, *, n_fft: int, n_bands: int) -> NDArray[np.float32]:
    """Triangular mel bands from 0 Hz to half the sample rate (Hz), shape (n_bands, n_fft // 2 + 1).

    Slaney's Auditory Toolbox (1998) gives the scale and the normalisation by area: a band of b Hz has height 2 / b.
    """
    nyquist = sample_rate / 2
    highest = _KNEE_MEL + np.log(nyquist / _KNEE_HZ) / _LOG_STEP if nyquist > _KNEE_HZ else nyquist / _HZ_PER_MEL
    mels = np.linspace(0, highest, n_bands + 2)
    corners = np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL)))
    heights = 2 / (corners[2:] - corners[:-2])
    return (_triangles(corners, sample_rate, n_fft) * heights[:, None]).astype(np.float32)


def htk_filters(sample_rate: int, *, n_fft: int, n_bands: int) -> NDArray[np.float32]:
    """As `mel_filters`, but on HTK's scale, 2595 log10(1 + f / 700), with bands of height 1: torchaudio's defaults."""
    mels = np.linspace(0, 2595 * np.log10(1 + sample_rate / 2 / 700), n_bands + 2)
    return _triangles(700 * (10 ** (mels / 2595) - 1), sample_rate, n_fft).astype(np.float32)


def _triangles(corners: NDArray[np.float64], sample_rate: int, n_fft: int) -> NDArray[np.float64]:
    """Triangles of height 1 over every three neighbours of `corners` (Hz), (len(corners) - 2, n_fft // 2 + 1)."""
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
