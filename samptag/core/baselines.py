"""The mel-spectrogram front end of the paper's frame-level baseline; its body is that of the raw-waveform networks.

The paper's other baseline, the frame-level raw waveform, is the strided front end with long filters and needs no code
of its own: `config_from_name("frame-raw-729-243")`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from samptag.core.config import ModelConfig

__all__ = ["MelFrontEnd", "mel_filters"]

# Lee 2017, section 4: magnitudes A are compressed to log(1 + 10 A).
COMPRESSION = 10.0
# Shorter windows are padded with zeros to this length, so that even the narrowest of 128 bands holds a bin of the FFT.
MIN_FFT_LENGTH = 729

# Slaney's mel scale: 200 mels to 3 kHz are linear below 1 kHz; above, 27 mels to every factor of 6.4.
_HZ_PER_MEL = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


class MelFrontEnd(nn.Module):
    """Compressed mel-spectrogram; (batch, samples) -> (batch, 128, 1, m**n), log(1 + 10 |A|).

    Hann window (periodic) of `first_filter` samples, hop of `first_stride`, bands from 0 Hz to half the sample rate on
    Slaney's scale with equal areas. It has no parameters, and its tables follow from the config, so neither is saved.

    Parameters
    ----------
    config : ModelConfig
        Gives window, hop, padding, number of bands (its front channels) and sample rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.length, self.hop, self.pads = config.first_filter, config.first_stride, config.front_pads
        self.n_fft = max(MIN_FFT_LENGTH, self.length)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.length) / self.length)
        filters = mel_filters(config.sample_rate, n_fft=self.n_fft, n_bands=config.front_channels)
        # from_numpy makes real tensors even where a model file's reader builds the network without memory.
        self.register_buffer("window", torch.from_numpy(window.astype(np.float32)), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The compressed mel bands of the waveforms' frames."""
        frames = F.pad(waveforms, self.pads).unfold(1, self.length, self.hop)
        # In float32 whatever the network computes in: half precision has no FFT of such lengths.
        windowed = frames.float() * self.window.float()
        magnitudes = torch.fft.rfft(windowed, n=self.n_fft).abs()  # (batch, frames, bins)
        bands = torch.log1p(COMPRESSION * F.linear(magnitudes, self.filters.float())).to(waveforms.dtype)
        return bands.transpose(1, 2).unsqueeze(2)


def mel_filters(sample_rate: int, *, n_fft: int, n_bands: int) -> NDArray[np.float32]:
    """Triangular mel bands from 0 Hz to half the sample rate, shape (n_bands, n_fft // 2 + 1).

    Slaney's Auditory Toolbox (1998) gives the scale and the normalisation by area: a band of b Hz has height 2 / b.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    n_fft : int
        Length of the Fourier transform in samples.
    n_bands : int
        Number of bands.
    """
    nyquist = sample_rate / 2
    highest = _KNEE_MEL + np.log(nyquist / _KNEE_HZ) / _LOG_STEP if nyquist > _KNEE_HZ else nyquist / _HZ_PER_MEL
    mels = np.linspace(0, highest, n_bands + 2)
    corners = np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL)))
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    filters: NDArray[np.float32] = (triangles * (2 / (high - low))).astype(np.float32)
    return filters
