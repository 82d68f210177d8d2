"""Augmentation of a batch of waveforms on the device they are on."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.training.recipe import Augmentation

__all__ = ["augment"]

# Width of the band limit's edge, as a share of the cut-off: a brick wall would ring audibly.
EDGE_SHARE = 0.1


def augment(
    waveforms: Tensor, labels: Tensor, *, how: Augmentation, sample_rate: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The varied batch: gain and polarity, then mixup, then noise, then the band limit.

    Parameters
    ----------
    waveforms : Tensor
        Float32, (batch, samples); may be overwritten.
    labels : Tensor
        Float32 in [0, 1], (batch, tags).
    how : Augmentation
    sample_rate : int
        In Hz.
    rng : numpy.random.Generator
        What is drawn; the noise itself comes from PyTorch's generator of the device.

    Returns
    -------
    tuple of Tensor
        Waveforms and labels, of the same shapes.
    """
    batch = len(waveforms)
    # always the same number of draws, so that one setting does not change what another one draws
    gain, flip, mix, noisy, limited = rng.random((5, batch))
    share = rng.beta(how.mixup_alpha, how.mixup_alpha, batch)
    partner = rng.permutation(batch)
    snr_db = rng.uniform(*how.noise_snr_db, batch)
    lowest, highest = how.band_limit_hz
    cutoff_hz = np.exp(rng.uniform(math.log(lowest), math.log(highest), batch))
    factor = 10 ** ((2 * gain - 1) * how.gain_db / 20) * np.where(flip < how.polarity, -1, 1)
    waveforms.mul_(_column(factor, waveforms))
    mixed = np.flatnonzero(mix < how.mixup_probability)
    if len(mixed):
        waveforms, labels = _mix(waveforms, labels, mixed, partner[mixed], np.maximum(share, 1 - share)[mixed])
    rows = np.flatnonzero(noisy < how.noise_probability)
    if len(rows):
        chosen = waveforms[rows]
        level = chosen.square().mean(dim=1, keepdim=True).sqrt_() * _column(10 ** (-snr_db[rows] / 20), waveforms)
        waveforms[rows] = chosen + torch.randn_like(chosen) * level
    rows = np.flatnonzero(limited < how.band_limit_probability)
    if len(rows):
        waveforms[rows] = _limit_band(waveforms[rows], _column(cutoff_hz[rows] / sample_rate, waveforms))
    return waveforms, labels


def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(like.device)[:, None]


def _mix(
    waveforms: Tensor,
    labels: Tensor,
    rows: NDArray[np.int64],
    partners: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> tuple[Tensor, Tensor]:
    """`rows` mixed with `partners`; the larger share is the row's own, so that every segment stays recognisable."""
    own = _column(shares, waveforms)
    mixed, blended = waveforms.clone(), labels.clone()
    mixed[rows] = waveforms[rows] * own + waveforms[partners] * (1 - own)
    blended[rows] = labels[rows] * own + labels[partners] * (1 - own)
    return mixed, blended


def _limit_band(waveforms: Tensor, cutoff: Tensor) -> Tensor:
    """`waveforms` without what lies above `cutoff` (in cycles a sample), with a raised-cosine edge."""
    spectrum = torch.fft.rfft(waveforms)
    frequency = torch.arange(spectrum.shape[1], device=waveforms.device) / waveforms.shape[1]
    position = ((frequency - cutoff) / (EDGE_SHARE * cutoff)).clamp_(0, 1)
    limited: Tensor = torch.fft.irfft(spectrum * (0.5 + 0.5 * torch.cos(math.pi * position)), n=waveforms.shape[1])
    return limited
