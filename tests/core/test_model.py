"""Networks of the family: their sizes, their layers against a second way to compute them, and finite outputs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from settled_nets import mono_segments, settled_net

from samptag.core.config import config_from_name
from samptag.core.model import ModelConfig, SampleCNN

BLOCKS = ("plain", "se", "res", "rese", "won-rese")


def batch_norm(x, state, name, epsilon):
    mean, var, scale, shift = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean[:, None]) / torch.sqrt(var[:, None] + epsilon) * scale[:, None] + shift[:, None]


def same_convolution(x, state, name):
    """A 'same' convolution as a sum over the filter's taps, zeros shared out as TensorFlow documents it."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    kernel, time = weight.shape[2], x.shape[2]
    before = (kernel - 1) // 2
    x = F.pad(x, (before, kernel - 1 - before))
    taps = [torch.einsum("oi,bit->bot", weight[:, :, k], x[:, :, k : k + time]) for k in range(kernel)]
    return sum(taps) + bias[:, None]


def excite(x, state, name):
    h = F.relu(F.linear(x.mean(2), state[f"{name}.dense1.weight"], state[f"{name}.dense1.bias"]))
    return x * torch.sigmoid(F.linear(h, state[f"{name}.dense2.weight"], state[f"{name}.dense2.bias"]))[:, :, None]


def front_by_hand(state, config, waveforms):
    return F.relu(
        batch_norm(
            F.conv1d(
                F.pad(waveforms[:, None], config.front_pads),
                state["front.conv.weight"],
                state["front.conv.bias"],
                stride=config.first_stride,
            ),
            state,
            "front.bn",
            config.bn_epsilon,
        )
    )


def plain_by_hand(model, waveforms):
    """The paper's layers as it lists them: convolution, batch normalisation, ReLU, max-pooling."""
    state, config = model.state_dict(), model.config
    x = front_by_hand(state, config, waveforms)
    for i in range(config.n):
        x = batch_norm(same_convolution(x, state, f"body.{i}.conv"), state, f"body.{i}.bn", config.bn_epsilon)
        x = F.max_pool1d(F.relu(x), config.m)
        if config.block == "se":
            x = excite(x, state, f"body.{i}.se")
    x = F.relu(batch_norm(same_convolution(x, state, "top.conv"), state, "top.bn", config.bn_epsilon))
    return F.linear(x[:, :, 0], state["head.weight"], state["head.bias"])


def residual_by_hand(model, waveforms):
    """Kim 2018: residual blocks, with excitation where the net has it, the last three blocks' maxima classified."""
    state, config = model.state_dict(), model.config
    x = front_by_hand(state, config, waveforms)
    maxima = []
    for i in range(config.n):
        name, beside = f"body.{i}", x
        if f"{name}.shortcut.conv.weight" in state:
            beside = same_convolution(x, state, f"{name}.shortcut.conv")
            beside = batch_norm(beside, state, f"{name}.shortcut.bn", config.bn_epsilon)
        x = same_convolution(x, state, f"{name}.conv1")
        x = F.relu(batch_norm(x, state, f"{name}.bn1", config.bn_epsilon))
        x = batch_norm(same_convolution(x, state, f"{name}.conv2"), state, f"{name}.bn2", config.bn_epsilon)
        x = excite(x, state, f"{name}.se") if config.block == "rese" else x
        x = F.max_pool1d(F.relu(x + beside), config.m)
        maxima.append(x.amax(2))
    x = F.linear(torch.cat(maxima[-3:], 1), state["hidden.linear.weight"], state["hidden.linear.bias"])
    x = F.relu(batch_norm(x[:, :, None], state, "hidden.bn", config.bn_epsilon))[:, :, 0]
    return F.linear(x, state["head.weight"], state["head.bias"])


def test_the_papers_model_has_its_number_of_parameters():
    assert sum(p.numel() for p in SampleCNN(ModelConfig()).parameters()) == 1_869_874


@pytest.mark.parametrize(
    "name",
    [
        "samplecnn-3-7",
        "samplecnn-4-5-16",
        "samplecnn-2-9",
        "samplecnn-5-4-25",
        "frame-raw-729-243",
        "samplecnn-3-7-se",
        "samplecnn-3-7-pad1",
    ],
)
def test_plain_blocks_are_the_papers_layers(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    with torch.inference_mode():
        waveforms = torch.from_numpy(segments)
        torch.testing.assert_close(model(waveforms), plain_by_hand(model, waveforms), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["samplecnn-3-7-rese-multi", "samplecnn-3-7-res-multi", "samplecnn-2-9-rese-multi"])
def test_residual_blocks_are_kims_layers(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    with torch.inference_mode():
        waveforms = torch.from_numpy(segments)
        torch.testing.assert_close(model(waveforms), residual_by_hand(model, waveforms), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("multi_level", [False, True])
def test_every_block_trains(block: str, multi_level: bool, music):
    config = ModelConfig(n=4, first_filter=27, first_stride=27, block=block, multi_level=multi_level, n_tags=3)
    torch.manual_seed(1)
    model = SampleCNN(config).train()
    waveforms = torch.from_numpy(mono_segments(music.samples, config.input_length, 4))
    loss = F.binary_cross_entropy_with_logits(model(waveforms), torch.eye(4)[:, :3])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A bias before batch normalisation is taken out again with the mean: its gradient is rounding.
        if name.endswith("weight"):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("name", "size", "n_hidden"),
    [
        ("samplecnn-3-7", 512, 0),
        ("samplecnn-3-7-rese", 512, 0),
        ("samplecnn-3-7-se-multi", 1024, 1),
        ("samplecnn-3-3-27-multi", 768, 1),
        ("samplecnn-3-7-won-rese", 512, 1),
    ],
)
def test_logits_are_the_classified_embedding(name: str, size: int, n_hidden: int, music):
    config = config_from_name(name, n_tags=7)
    model = SampleCNN(config).eval()
    assert (model.hidden is not None) == bool(n_hidden)
    waveforms = torch.from_numpy(mono_segments(music.samples, config.input_length, 2))
    with torch.inference_mode():
        embedding = model.embed(waveforms)
        assert embedding.shape == (2, size) == (2, config.embedding_size)
        assert (embedding >= 0).all()
        torch.testing.assert_close(model.classify(embedding), model(waveforms))


def test_state_keys_read_well():
    keys = set(SampleCNN(ModelConfig()).state_dict())
    assert {"front.conv.weight", "front.bn.running_var", "body.8.conv.bias", "top.bn.weight", "head.weight"} <= keys
    rese = SampleCNN(ModelConfig(block="rese", multi_level=True)).state_dict()
    assert rese["body.2.shortcut.conv.weight"].shape == (256, 128, 1)
    assert rese["body.2.conv1.weight"].shape == (256, 128, 3)
    assert rese["body.2.se.dense1.weight"].shape == (4096, 256)
    assert rese["hidden.linear.weight"].shape == (1024, 1024)
    won = SampleCNN(config_from_name("samplecnn-3-9-won-rese-pad1")).state_dict()
    assert won["front.shortcut.conv.weight"].shape == (128, 1, 3)
    assert won["front.conv2.weight"].shape == (128, 128, 3)
    assert won["body.2.shortcut.conv.weight"].shape == (256, 128, 3)
    assert won["body.2.se.dense1.weight"].shape == (256, 256)
    assert won["top.conv1.weight"].shape == (512, 512, 1)


def test_weights_are_drawn_as_the_authors_draw_them():
    torch.manual_seed(0)
    model = SampleCNN(ModelConfig())
    weight = model.body[4].conv.weight
    bound = np.sqrt(6 / (256 * 3))  # he_uniform: sqrt(6 / fan in)
    assert 0.99 * bound < weight.abs().max() <= bound
    assert abs(weight.std().item() / (bound / np.sqrt(3)) - 1) < 0.02
    assert not model.body[4].conv.bias.any()
    assert not model.head.bias.any()


@pytest.mark.parametrize("shape", [(2, 100), (59_049,), (1, 1, 59_049)])
def test_segments_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"samplecnn-3-9 takes waveforms of shape \(batch, 59049\)"):
        SampleCNN(ModelConfig())(torch.zeros(shape))
