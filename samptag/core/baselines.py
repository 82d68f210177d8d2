"""The mel-spectrogram front end of the paper's frame-level baseline; its body is that of the raw-waveform networks.

The paper's other baseline, the frame-level raw waveform, is the strided front end with long filters and needs no code
of its own: `config_from_name("frame-raw-729-243")`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.config import ModelConfig
from samptag.core.mel import COMPRESSION, mel_filters, mel_window

__all__ = ["MelFrontEnd"]


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
        window, self.n_fft = mel_window(config)
        filters = mel_filters(config.sample_rate, n_fft=self.n_fft, n_bands=config.front_channels)
        # from_numpy makes real tensors even where a model file's reader builds the network without memory.
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """The compressed mel bands of the waveforms' frames."""
        frames = F.pad(waveforms, self.pads).unfold(1, self.length, self.hop)
        # In float32 whatever the network computes in: half precision has no FFT of such lengths.
        windowed = frames.float() * self.window.float()
        magnitudes = torch.fft.rfft(windowed, n=self.n_fft).abs()  # (batch, frames, bins)
        bands = torch.log1p(COMPRESSION * F.linear(magnitudes, self.filters.float())).to(waveforms.dtype)
        return bands.transpose(1, 2).unsqueeze(2)
