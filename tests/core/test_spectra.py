"""What filters listen for, found by gradient ascent."""

import numpy as np
import pytest
import torch

from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN
from samptag.core.spectra import filter_spectra


def test_a_front_end_of_known_filters_gives_their_spectra():
    torch.manual_seed(0)
    model = SampleCNN(ModelConfig(m=3, n=3, first_filter=243, first_stride=243)).eval()
    model.front.conv.weight.requires_grad_(False)
    # Each filter a tone: what makes its output largest is that tone.
    hertz = np.linspace(200, 9000, 128)
    time = np.arange(243) / model.config.sample_rate
    tones = np.cos(2 * np.pi * hertz[:, None] * time)
    shuffled = np.random.default_rng(0).permutation(128)
    model.front.conv.weight.copy_(torch.from_numpy(tones[shuffled]).float()[:, None])
    front = filter_spectra(model)[0]
    np.testing.assert_allclose(front.centres, hertz, atol=22_050 / 243)
    assert (np.diff(front.centres) >= 0).all()
    np.testing.assert_allclose(front.magnitudes.max(axis=1), 1)


@pytest.mark.parametrize("block", ["plain", "se", "rese"])
def test_every_filter_of_every_layer_in_reach(block: str):
    torch.manual_seed(0)
    model = SampleCNN(ModelConfig(m=3, n=3, block=block, first_filter=81, first_stride=81)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers = filter_spectra(model)
    assert [layer.layer for layer in layers] == [1, 2, 3]  # 81, 243 and 729 samples
    assert [len(layer.centres) for layer in layers] == [128, 128, 128]
    for layer in layers:
        assert layer.magnitudes.shape == (len(layer.centres), 365)
        assert layer.frequencies[-1] == pytest.approx(22_050 / 2, abs=31)
        assert np.isfinite(layer.magnitudes).all()
    again = filter_spectra(model)
    assert all((one.magnitudes == two.magnitudes).all() for one, two in zip(layers, again, strict=True))
    assert all((before[name] == tensor).all() for name, tensor in model.state_dict().items())


def test_ascent_raises_what_it_climbs():
    """The sounds found excite their filters more than noise of the same loudness does."""
    from samptag.core.spectra import LOUDNESS, _loudest_inputs

    torch.manual_seed(0)
    model = SampleCNN(ModelConfig(m=3, n=3)).eval()
    layers = [model.front, model.body[0], model.body[1]]
    sounds = torch.from_numpy(_loudest_inputs(layers, 27))
    noise = LOUDNESS * torch.randn(*sounds.shape, generator=torch.Generator().manual_seed(1))

    def outputs(waveforms):
        found = []
        hook = model.body[1].bn.register_forward_hook(lambda module, arguments, output: found.append(output))
        with torch.no_grad():
            x = waveforms
            for layer in layers:
                x = layer(x)
        hook.remove()
        return found[0][:, :, 0, 1].diagonal()

    assert (outputs(sounds) > outputs(noise)).float().mean() > 0.99


def test_mel_bands_are_refused():
    with pytest.raises(ValueError, match="mel bands"):
        filter_spectra(SampleCNN(ModelConfig(m=3, n=3, first_filter=243, first_stride=243, front_end="mel")))
