"""Augmentation of a batch of waveforms on the device they are on."""

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.training.recipe import Augmentation

# Width of the band limit's edge, as a share of the cut-off: a brick wall would ring audibly.
EDGE_SHARE = 0.1
# Width of each edge of the stopped band, in octaves.
EDGE_OCTAVES = 0.2
# The equaliser's bands are an octave apart, up to 16 kHz.
LOWEST_BAND_HZ, BANDS = 62.5, 9

Rows = NDArray[np.int64]


def augment(
    waveforms: Tensor, labels: Tensor, *, how: Augmentation, length: int, sample_rate: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The augmented batch, (segments, length), and its labels: speed, gain, polarity, mixup, noise, and filters.

    `waveforms`, float32, (segments, how.reach(length)), may be overwritten; `labels` are float32 in [0, 1], (examples,
    tags). Mixup is drawn for whole examples, whose segments follow one another, everything else for every segment, from
    `rng`; the noise itself comes from PyTorch's generator of the device.
    """
    batch, each = len(waveforms), len(waveforms) // len(labels)
    # always the same number of draws, so that one setting does not change what another one draws
    gain, flip, mix, noisy, limited = rng.random((5, batch))
    share = rng.beta(how.mixup_alpha, how.mixup_alpha, batch)
    partner = rng.permutation(len(labels))
    snr_db = rng.uniform(*how.noise_snr_db, batch)
    cutoff_hz = _even_octaves(rng, how.band_limit_hz, batch)
    faster, equalised, stopped = rng.random((3, batch))
    speed = (1 + how.speed) ** rng.uniform(-1, 1, batch)
    bands_db = rng.uniform(-how.equaliser_db, how.equaliser_db, (batch, BANDS))
    stop_hz = _even_octaves(rng, how.band_stop_hz, batch)
    octaves = rng.uniform(0, how.band_stop_octaves, batch)

    whole, waveforms = waveforms, waveforms[:, :length].contiguous()
    rows = np.flatnonzero(faster < how.speed_probability)
    if len(rows):
        waveforms[rows] = _played(whole[rows], speed[rows], length=length)
    factor = 10 ** ((2 * gain - 1) * how.gain_db / 20) * np.where(flip < how.polarity, -1, 1)
    waveforms.mul_(_column(factor, waveforms))
    mixed = np.flatnonzero(mix[::each] < how.mixup_probability)
    if len(mixed):
        shares = np.maximum(share, 1 - share)[::each][mixed]
        waveforms, labels = _mix(waveforms, labels, mixed, partner[mixed], shares)
    # Noise as `samptag.evaluation.perturb` adds it, but that to a clip of any length, this to a batch on its device.
    rows = np.flatnonzero(noisy < how.noise_probability)
    chosen = waveforms[rows]
    level = chosen.square().mean(dim=1, keepdim=True).sqrt_() * _column(10 ** (-snr_db[rows] / 20), waveforms)
    waveforms[rows] = chosen + torch.randn_like(chosen) * level
    filters = (
        (limited < how.band_limit_probability, partial(_band_limit, cutoff_hz)),
        (equalised < how.equaliser_probability, partial(_equaliser, bands_db)),
        (stopped < how.band_stop_probability, partial(_band_stop, stop_hz, octaves)),
    )
    return _filtered(waveforms, filters, sample_rate=sample_rate), labels


def _even_octaves(rng: np.random.Generator, limits: tuple[float, float], size: int) -> NDArray[np.float64]:
    """Frequencies between `limits`, drawn evenly on a logarithmic scale."""
    lowest, highest = limits
    return np.exp(rng.uniform(math.log(lowest), math.log(highest), size))


def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(like.device)[:, None]


def _played(waveforms: Tensor, speed: NDArray[np.float64], *, length: int) -> Tensor:
    """The first `length` samples of `waveforms` played at about `speed`, resampled by way of their spectra."""
    lengths = _quick_lengths(length, waveforms.shape[1])
    taken = lengths[np.abs(np.log(lengths / (length * speed[:, None]))).argmin(axis=1)].tolist()
    spectra = (torch.fft.rfft(waveform[:n], norm="forward") for waveform, n in zip(waveforms, taken, strict=True))
    return torch.stack([torch.fft.irfft(spectrum, n=length, norm="forward") for spectrum in spectra])


@cache
def _quick_lengths(length: int, longest: int) -> NDArray[np.int64]:
    """`length` itself, and all lengths up to `longest`, and as far below, that have no prime factor above 7.

    There are 21 of them for 3^9 and a speed of up to 6 %. Fourier transforms of other lengths took three times as long.
    """
    found = np.arange(length * length // longest, longest + 1)
    rest = found.copy()
    for prime in (2, 3, 5, 7):
        while (divisible := rest % prime == 0).any():
            rest[divisible] //= prime
    quick: NDArray[np.int64] = found[(rest == 1) | (found == length)]
    return quick


def _mix(
    waveforms: Tensor, labels: Tensor, rows: Rows, partners: Rows, shares: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Examples `rows` mixed with `partners`; the larger share is the row's own, so that each stays recognisable."""
    own = _column(shares, waveforms)
    examples, blended = waveforms.view(len(labels), -1), labels.clone()
    mixed = examples.clone()
    mixed[rows] = examples[rows] * own + examples[partners] * (1 - own)
    blended[rows] = labels[rows] * own + labels[partners] * (1 - own)
    return mixed.view(waveforms.shape), blended


# The segments it applies to, and its response, (rows, frequencies), for some of these rows at frequencies in Hz.
Filter = tuple[NDArray[np.bool_], Callable[[Rows, Tensor], Tensor]]


def _filtered(waveforms: Tensor, filters: tuple[Filter, ...], *, sample_rate: int) -> Tensor:
    """`waveforms` after the filters that apply to them; may be overwritten."""
    rows = np.flatnonzero(np.any([chosen for chosen, _ in filters], axis=0))
    if len(rows):
        length = waveforms.shape[1]
        spectrum = torch.fft.rfft(waveforms[rows])
        hz = torch.arange(spectrum.shape[1], device=waveforms.device) * (sample_rate / length)
        for chosen, response in filters:
            inside = np.flatnonzero(chosen[rows])
            if len(inside):
                spectrum[inside] *= response(rows[inside], hz)
        waveforms[rows] = torch.fft.irfft(spectrum, n=length)
    return waveforms


def _band_limit(cutoff_hz: NDArray[np.float64], rows: Rows, hz: Tensor) -> Tensor:
    """The response of a low-pass at the cut-off, with a raised-cosine edge."""
    cutoff = _column(cutoff_hz[rows], hz)
    position = ((hz - cutoff) / (EDGE_SHARE * cutoff)).clamp_(0, 1)
    return 0.5 + 0.5 * torch.cos(math.pi * position)


def _band_stop(centre_hz: NDArray[np.float64], octaves: NDArray[np.float64], rows: Rows, hz: Tensor) -> Tensor:
    """The response that removes a band so many octaves wide, with raised-cosine edges outside it."""
    apart = (_octave(hz) - torch.log2(_column(centre_hz[rows], hz))).abs_() - _column(octaves[rows] / 2, hz)
    return 0.5 - 0.5 * torch.cos(math.pi * (apart / EDGE_OCTAVES).clamp_(0, 1))


def _equaliser(bands_db: NDArray[np.float64], rows: Rows, hz: Tensor) -> Tensor:
    """The response of a graphic equaliser: a level for each band, and between them straight lines, dB over octaves."""
    place = (_octave(hz) - math.log2(LOWEST_BAND_HZ)).clamp_(0, BANDS - 1)
    weights = (1 - (place - torch.arange(BANDS, device=hz.device)[:, None]).abs_()).clamp_(min=0)
    levels = torch.from_numpy(bands_db[rows].astype(np.float32)).to(hz.device)
    return 10 ** (levels @ weights / 20)


def _octave(hz: Tensor) -> Tensor:
    """The binary logarithm; 0 Hz counts as 1 Hz."""
    return torch.log2(hz.clamp(min=1))
