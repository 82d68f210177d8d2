"""Augmentation on real music: what each setting does, and that it is repeatable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from samptag.training.augment import augment
from samptag.training.recipe import MODERN, Augmentation

NOTHING = Augmentation()


@pytest.fixture(scope="module")
def music(media: Path) -> tuple[torch.Tensor, int]:
    samples, rate = soundfile.read(media / "eastern-dreams.mp3", dtype="float32", always_2d=True)
    return torch.from_numpy(samples[300_000 : 300_000 + 8 * 30_000, 0].copy()).view(8, 30_000), rate


def varied(music: tuple[torch.Tensor, int], how: Augmentation, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    waveforms, rate = music
    return augment(waveforms.clone(), torch.eye(8), how=how, sample_rate=rate, rng=np.random.default_rng(seed))


def test_no_augmentation_changes_nothing(music):
    waveforms, labels = varied(music, NOTHING)
    assert torch.equal(waveforms, music[0])
    assert torch.equal(labels, torch.eye(8))


def test_same_draws_same_batch(music):
    first, again = (varied(music, MODERN.augmentation, seed=5) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], varied(music, MODERN.augmentation, seed=6)[0])


def test_gain_and_polarity(music):
    waveforms, labels = varied(music, Augmentation(gain_db=6, polarity=0.5), seed=1)
    ratio = (waveforms * music[0]).sum(1) / music[0].square().sum(1)
    torch.testing.assert_close(waveforms, music[0] * ratio[:, None])
    assert (ratio < 0).any()
    assert (ratio > 0).any()
    assert ratio.abs().min() >= 10 ** (-6 / 20) - 1e-4
    assert ratio.abs().max() <= 10 ** (6 / 20) + 1e-4
    assert torch.equal(labels, torch.eye(8))


def test_mixup_mixes_labels_as_it_mixes_sounds(music):
    waveforms, labels = varied(music, Augmentation(mixup_probability=1), seed=2)
    torch.testing.assert_close(labels.sum(1), torch.ones(8))
    torch.testing.assert_close(waveforms, labels @ music[0], rtol=1e-4, atol=1e-6)
    assert (labels.diagonal() >= 0.5).all()
    assert (labels.diagonal() < 1).any()


def test_noise_has_the_asked_level(music):
    how = Augmentation(noise_probability=1, noise_snr_db=(20, 20))
    noise = varied(music, how)[0] - music[0]
    ratio = 10 * torch.log10(music[0].square().mean(1) / noise.square().mean(1))
    torch.testing.assert_close(ratio, torch.full((8,), 20.0), rtol=0, atol=0.3)


def test_band_limit_takes_out_the_top(music):
    how = Augmentation(band_limit_probability=1, band_limit_hz=(4000, 4000))
    waveforms, _ = varied(music, how)
    before, after = (torch.fft.rfft(x).abs().square().sum(0) for x in (music[0], waveforms))
    hz = torch.fft.rfftfreq(30_000, 1 / music[1])
    assert after[hz > 4500].sum() < 1e-6 * before[hz > 4500].sum()
    torch.testing.assert_close(after[hz < 3900], before[hz < 3900], rtol=1e-2, atol=1e-2)


def test_one_setting_does_not_move_the_draws_of_another(music):
    both = varied(music, Augmentation(gain_db=6, band_limit_probability=1), seed=3)[0]
    gain_only = varied(music, Augmentation(gain_db=6), seed=3)[0]
    low = torch.fft.rfft(both)[:, :500] - torch.fft.rfft(gain_only)[:, :500]
    assert low.abs().max() < 1e-2
    probabilities = replace(MODERN.augmentation, mixup_probability=0, noise_probability=0, band_limit_probability=0)
    assert not torch.equal(varied(music, probabilities, seed=3)[0], music[0])
