"""The mel front end against librosa's filters and a spectrogram computed frame by frame."""

import numpy as np
import pytest
import torch
from librosa_numbers import RECORDED, SLANEY
from settled_nets import mono_segments

from samptag.core.config import config_from_name
from samptag.core.mel import mel_filters
from samptag.core.model import MelFrontEnd, SampleCNN


@pytest.fixture(scope="module")
def librosas():
    with np.load(RECORDED) as numbers:
        return dict(numbers)


@pytest.mark.parametrize(("sample_rate", "n_fft", "n_bands"), SLANEY)
def test_filters_are_librosas(sample_rate: int, n_fft: int, n_bands: int, librosas):
    ours = mel_filters(sample_rate, n_fft=n_fft, n_bands=n_bands)
    np.testing.assert_allclose(ours, librosas[f"{sample_rate}-{n_fft}-{n_bands}"], rtol=1e-5, atol=1e-8)


def test_no_band_of_the_baseline_is_empty():
    assert (mel_filters(22_050, n_fft=729, n_bands=128).max(axis=1) > 0).all()


@pytest.mark.parametrize("name", ["frame-mel-729-729", "frame-mel-729-243", "frame-mel-243-81", "frame-mel-1024-243"])
def test_spectrogram_is_the_papers(name: str, music, librosas):
    config = config_from_name(name)
    segment = mono_segments(music.samples, config.input_length, 3)[1]
    with torch.inference_mode():
        bands = MelFrontEnd(config)(torch.from_numpy(segment)[None])
    assert bands.shape == (1, 128, 1, config.frames)

    window, hop = config.first_filter, config.first_stride
    n_fft = max(729, window)
    padded = np.pad(segment.astype(np.float64), ((window - hop) // 2, window - hop - (window - hop) // 2))
    filters = librosas[f"22050-{n_fft}-128"]
    hann = np.hanning(window + 1)[:-1]
    for frame in (0, 1, config.frames // 2, config.frames - 1):
        magnitude = np.abs(np.fft.rfft(padded[frame * hop : frame * hop + window] * hann, n_fft))
        expected = np.log(1 + 10 * filters @ magnitude)
        np.testing.assert_allclose(bands[0, :, 0, frame], expected, rtol=1e-4, atol=1e-5)


def test_the_front_end_has_nothing_to_save_or_train():
    config = config_from_name("frame-mel-729-243")
    model = SampleCNN(config)
    assert not [name for name in model.state_dict() if name.startswith("front")]
    assert not list(model.front.parameters())


def test_the_front_end_is_whole_where_the_network_is_built_without_memory():
    config = config_from_name("frame-mel-729-243")
    with torch.device("meta"):
        front = SampleCNN(config).front
    assert front.filters.device.type == front.window.device.type == "cpu"
    np.testing.assert_array_equal(front.filters, MelFrontEnd(config).filters)
