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
    return augment(
        waveforms.clone(), torch.eye(8), how=how, length=30_000, sample_rate=rate, rng=np.random.default_rng(seed)
    )


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


def levels(music: torch.Tensor, waveforms: torch.Tensor, rate: int, hz: float) -> torch.Tensor:
    """How much louder each segment has become around a frequency, in dB."""
    near = (torch.fft.rfftfreq(music.shape[1], 1 / rate) - hz).abs() < hz / 20
    before, after = (torch.fft.rfft(x).abs()[:, near].square().sum(1) for x in (music, waveforms))
    return 10 * torch.log10(after / before)


def test_the_equaliser_has_a_level_for_each_octave_and_lines_between(music):
    waveforms, _ = varied(music, Augmentation(equaliser_probability=1, equaliser_db=8), seed=4)
    bands = torch.stack([levels(music[0], waveforms, music[1], 62.5 * 2**band) for band in range(9)])
    assert bands.abs().max() <= 8.5
    assert bands.std(dim=0).min() > 1  # of every segment: its octaves differ
    assert bands.std(dim=1).min() > 1  # of every octave: its segments differ
    between = levels(music[0], waveforms, music[1], 1000 * 2**0.5)
    torch.testing.assert_close(between, bands[4:6].mean(dim=0), rtol=0, atol=1.0)
    flat, _ = varied(music, Augmentation(equaliser_probability=1, equaliser_db=0), seed=4)
    torch.testing.assert_close(flat, music[0], rtol=1e-4, atol=1e-5)


def test_the_band_stop_takes_out_a_band_and_nothing_else(music):
    how = Augmentation(band_stop_probability=1, band_stop_octaves=1e-9, band_stop_hz=(1000, 1000))
    spectrum = torch.fft.rfft(music[0])
    response = (torch.fft.rfft(varied(music, how)[0]).abs() / spectrum.abs().clamp(min=1e-3))[0]
    hz = torch.fft.rfftfreq(30_000, 1 / music[1])
    heard = spectrum[0].abs() > 0.1
    assert response[heard & ((hz - 1000).abs() < 5)].max() < 0.05
    outside = heard & ((hz < 1000 / 2**0.21) | (hz > 1000 * 2**0.21))
    torch.testing.assert_close(response[outside], torch.ones(int(outside.sum())), rtol=0, atol=0.02)
    wide = Augmentation(band_stop_probability=1, band_stop_octaves=4, band_stop_hz=(1000, 1000))
    ratio = levels(music[0], varied(music, wide)[0], music[1], 1200)
    assert (ratio < -20).any()
    assert levels(music[0], varied(music, wide)[0], music[1], 6000).abs().max() < 0.2


def test_speed_moves_pitch_and_tempo_together(media: Path):
    """A tone of 1 kHz that starts in the middle."""
    rate, length = 22_050, 20_000
    how = Augmentation(speed_probability=1, speed=0.1)
    reach = how.reach(length)
    time = torch.arange(reach, dtype=torch.float64) / rate
    tone = (torch.sin(2 * torch.pi * 1000 * time) * (torch.arange(reach) >= length // 2)).float().repeat(16, 1)
    rng = np.random.default_rng(0)
    waveforms, _ = augment(tone, torch.eye(16), how=how, length=length, sample_rate=rate, rng=rng)
    assert waveforms.shape == (16, length)
    begins = (waveforms.abs() > 0.2).float().argmax(dim=1)
    hz = torch.fft.rfft(waveforms).abs().argmax(dim=1) * rate / length
    torch.testing.assert_close(hz * begins, torch.full((16,), 1000.0 * length / 2), rtol=5e-3, atol=0)
    assert hz.min() < 950
    assert hz.max() > 1050
    assert 1000 / 1.1 - 2 <= hz.min() <= hz.max() <= 1100 + 2


def test_unchanged_speed_is_the_music_itself(music):
    how = Augmentation(speed_probability=1e-9, speed=0.1)
    waveforms, rate = music
    wide = torch.cat([waveforms, torch.ones(8, how.reach(30_000) - 30_000)], dim=1)
    rng = np.random.default_rng(0)
    played, _ = augment(wide, torch.eye(8), how=how, length=30_000, sample_rate=rate, rng=rng)
    assert torch.equal(played, waveforms)


def test_whole_examples_are_mixed(music):
    """Of four examples of two segments each, every segment with the one at its place in the other example."""
    waveforms, rate = music
    labels = torch.eye(4)
    mixed, blended = augment(
        waveforms.clone(),
        labels,
        how=Augmentation(mixup_probability=1),
        length=30_000,
        sample_rate=rate,
        rng=np.random.default_rng(2),
    )
    torch.testing.assert_close(blended.sum(1), torch.ones(4))
    assert (blended.diagonal() < 1).any()
    for place in range(2):
        torch.testing.assert_close(mixed[place::2], blended @ waveforms[place::2], rtol=1e-4, atol=1e-6)
