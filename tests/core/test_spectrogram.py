"""The published networks over log-mel bands: what describes them, and their spectrograms against librosa's."""

import numpy as np
import pytest
import torch
from librosa_numbers import HTK, RECORDED, segment_of

from samptag.core.config import ModelConfig, SpectrogramConfig, config_from_dict
from samptag.core.mel import htk_filters
from samptag.core.model import build_model
from samptag.core.spectrogram_model import SpectrogramModel

# Samples and the vector's length, of the publications.
SIZES = {"musicnn": (48_128, 200), "vgg": (48_128, 256), "won-musicnn": (48_000, 200), "won-fcn": (464_000, 64)}


@pytest.fixture(scope="module")
def librosas():
    with np.load(RECORDED) as numbers:
        return dict(numbers)


def test_htk_filters_are_librosas(librosas):
    rate, n_fft, n_bands = HTK
    np.testing.assert_allclose(htk_filters(rate, n_fft=n_fft, n_bands=n_bands), librosas["htk"], atol=1e-5)


@pytest.mark.parametrize("architecture", SIZES)
def test_spectrograms_are_librosas(architecture: str, librosas):
    model = build_model(SpectrogramConfig(architecture=architecture))
    found = model.log_mel(torch.from_numpy(segment_of(model.config.input_length))[None])[0].numpy()
    recorded = "musicnn" if architecture == "vgg" else architecture
    power, frames = librosas[recorded], librosas[f"{recorded} frames"]
    # The package's networks hear all but the last one or two.
    count = {"musicnn": 188, "vgg": 187}.get(architecture, frames[-1] + 1)
    assert found.shape == (96, count)
    package = not architecture.startswith("won-")
    expected = np.log10(1 + 10_000 * power) if package else 10 * np.log10(np.maximum(power, 1e-10))
    heard = frames < count
    np.testing.assert_allclose(found[:, frames[heard]], expected[:, heard], atol=1e-4 if package else 1e-3)


@pytest.mark.parametrize("architecture", SIZES)
def test_shapes(architecture: str):
    config = SpectrogramConfig(architecture=architecture, n_tags=3)
    model = build_model(config).eval()
    assert isinstance(model, SpectrogramModel)
    assert (config.input_length, config.embedding_size) == SIZES[architecture]
    with torch.inference_mode():
        embedding = model.embed(torch.zeros(2, config.input_length))
        assert embedding.shape == (2, config.embedding_size)
        assert model.classify(embedding).shape == (2, 3)
        with pytest.raises(
            ValueError, match=rf"{architecture} takes waveforms of shape \(batch, {config.input_length}"
        ):
            model(torch.zeros(1, config.input_length - 1))


def test_descriptions():
    for architecture in SIZES:
        config = SpectrogramConfig(architecture=architecture, n_tags=7)
        assert config_from_dict(config.to_dict()) == config
        assert config.name == architecture
    assert isinstance(config_from_dict({"m": 3, "n": 9}), ModelConfig)
    for values, message in (
        ({"architecture": "crnn"}, "architecture"),
        ({"architecture": "vgg", "n_tags": 0}, "n_tags must be at least 1"),
        ({"architecture": "vgg", "n_tags": "50"}, "n_tags"),
        ({"architecture": "vgg", "sample_rate": 22_050}, "vgg takes sound at 16000 Hz, not 22050"),
        ({"architecture": "vgg", "m": 3}, "unknown model setting 'm'"),
    ):
        with pytest.raises(ValueError, match=message):
            config_from_dict(values)
