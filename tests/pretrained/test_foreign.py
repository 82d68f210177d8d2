"""Converted networks against forward passes written from the published layer lists with torch.nn.functional only."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_checkpoints import CHANNELS, fcn_state, musicnn_state, sample_state, se_state, tf_musicnn, tf_vgg
from torch import Tensor
from weights_server import LFS_POINTER

from samptag.errors import WeightsError
from samptag.pretrained.foreign import convert, read_tensors

State = dict[str, Tensor]


def tensors(arrays: dict[str, np.ndarray]) -> State:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


STATES = {
    "sota-sample": sample_state,
    "sota-se": se_state,
    "sota-fcn": fcn_state,
    "sota-musicnn": musicnn_state,
    "tf-musicnn": lambda n_tags=50: tensors(tf_musicnn(n_tags)),
    "tf-vgg": lambda n_tags=50: tensors(tf_vgg(n_tags)),
}


def normalised(x: Tensor, state: State, name: str) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)


def convolved(x: Tensor, state: State, name: str, *, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv1d(x, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[2] // 2)


def dense(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def sample_forward(state: State, waveforms: Tensor) -> Tensor:
    x = waveforms.unsqueeze(1)
    for layer in range(1, 12):
        x = convolved(x, state, f"layer{layer}.conv", stride=3 if layer == 1 else 1)
        x = F.relu(normalised(x, state, f"layer{layer}.bn"))
        if 2 <= layer <= 10:
            x = F.max_pool1d(x, 3)
    return dense(x.squeeze(-1), state, "dense")


def se_forward(state: State, waveforms: Tensor) -> Tensor:
    x = waveforms.unsqueeze(1)
    for layer in range(1, 12):
        name, stride = f"layer{layer}", 3 if layer == 1 else 1
        y = F.relu(normalised(convolved(x, state, f"{name}.conv_1", stride=stride), state, f"{name}.bn_1"))
        y = normalised(convolved(y, state, f"{name}.conv_2"), state, f"{name}.bn_2")
        excited = torch.sigmoid(dense(F.relu(dense(y.mean(dim=2), state, f"{name}.dense1")), state, f"{name}.dense2"))
        y = y * excited.unsqueeze(-1)
        if CHANNELS[layer - 1] != CHANNELS[layer] or stride != 1:
            x = normalised(convolved(x, state, f"{name}.conv_3", stride=stride), state, f"{name}.bn_3")
        x = F.relu(x + y)
        if 2 <= layer <= 10:
            x = F.max_pool1d(x, 3)
    x = F.relu(normalised(dense(x.squeeze(-1), state, "dense1"), state, "bn"))
    return dense(x, state, "dense2")


def fcn_forward(state: State, bands: Tensor) -> Tensor:
    x = normalised(bands.unsqueeze(1), state, "spec_bn")
    for layer, pool in enumerate([(2, 4), (2, 4), (2, 4), (3, 5), (4, 4)], start=1):
        x = F.conv2d(x, state[f"layer{layer}.conv.weight"], state[f"layer{layer}.conv.bias"], padding=1)
        x = F.max_pool2d(F.relu(normalised(x, state, f"layer{layer}.bn")), pool)
    return dense(x.flatten(1), state, "dense")


def musicnn_forward(state: State, bands: Tensor) -> Tensor:
    x = normalised(bands.unsqueeze(1), state, "spec_bn")
    parts = []
    for layer in (0, 1):
        name = f"layers.{layer}"
        y = F.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=(0, 3))
        parts.append(F.relu(normalised(y, state, f"{name}.bn")).amax(2))
    for layer in (2, 3, 4):
        y = convolved(x.mean(2), state, f"layers.{layer}.conv")
        parts.append(F.relu(normalised(y, state, f"layers.{layer}.bn")))
    levels = [torch.cat(parts, dim=1)]
    for layer in (1, 2, 3):
        y = F.relu(normalised(convolved(levels[-1], state, f"layer{layer}.conv"), state, f"layer{layer}.bn"))
        levels.append(y if layer == 1 else y + levels[-1])
    x = torch.cat(levels, dim=1)
    x = torch.cat([x.amax(2), x.mean(2)], dim=1)
    return dense(F.relu(normalised(dense(x, state, "dense1"), state, "bn")), state, "dense2")


def tf_normalised(x: Tensor, state: State, number: int) -> Tensor:
    """Over the last axis, with TensorFlow's epsilon."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    scale = state[f"{name}/gamma"] / (state[f"{name}/moving_variance"] + 1e-3).sqrt()
    return (x - state[f"{name}/moving_mean"]) * scale + state[f"{name}/beta"]


def tf_convolved(x: Tensor, state: State, name: str) -> Tensor:
    """(batch, frames, bands, channels), without padding; the filters are (frames, bands, in, out)."""
    y = F.conv2d(x.permute(0, 3, 1, 2), state[f"{name}/kernel"].permute(3, 2, 0, 1), state[f"{name}/bias"])
    return F.relu(y).permute(0, 2, 3, 1)


def tf_padded(x: Tensor, frames: tuple[int, int], bands: tuple[int, int] = (0, 0)) -> Tensor:
    return F.pad(x, (0, 0, *bands, *frames))


def tf_dense(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}/kernel"] + state[f"{name}/bias"]


def tf_musicnn_forward(state: State, bands: Tensor) -> Tensor:
    x = tf_normalised(bands.mT.unsqueeze(-1), state, 0)
    names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 8))]
    # Where an even filter is to keep the length, TensorFlow has the odd zero behind.
    pads = [(3, 3), (3, 3), (63, 64), (31, 32), (15, 16)]
    parts = [
        tf_normalised(tf_convolved(tf_padded(x, pads[i]), state, names[i]), state, i + 1).amax(2) for i in range(5)
    ]
    levels = [torch.cat(parts, dim=-1)]
    for i in (5, 6, 7):
        y = tf_convolved(tf_padded(levels[-1].unsqueeze(-1), (3, 3)), state, names[i]).squeeze(2)
        y = tf_normalised(y, state, i + 1)
        levels.append(y if i == 5 else y + levels[-1])
    x = torch.cat(levels, dim=-1)
    # For every channel its maximum and its mean, side by side.
    x = torch.stack([x.amax(1), x.mean(1)], dim=-1).flatten(1)
    return tf_dense(
        tf_normalised(F.relu(tf_dense(tf_normalised(x, state, 9), state, "dense")), state, 10), state, "dense_1"
    )


def tf_vgg_forward(state: State, bands: Tensor) -> Tensor:
    x = tf_normalised(bands.mT.unsqueeze(-1), state, 0)
    for i, (size, stride) in enumerate([((4, 1), 2), *[((2, 2), 2)] * 3, ((4, 4), 4)], start=1):
        x = tf_normalised(tf_convolved(tf_padded(x, (1, 1), (1, 1)), state, f"{i}CNN"), state, i)
        x = F.max_pool2d(x.permute(0, 3, 1, 2), size, stride).permute(0, 2, 3, 1)
    return tf_dense(x.flatten(1), state, "dense")


@pytest.mark.parametrize(
    ("layout", "forward", "length"),
    [
        ("sota-fcn", fcn_forward, 464_000),
        ("sota-musicnn", musicnn_forward, 48_000),
        ("tf-musicnn", tf_musicnn_forward, 48_128),
        ("tf-vgg", tf_vgg_forward, 48_128),
    ],
)
def test_converted_spectrogram_net_gives_the_published_nets_numbers(layout: str, forward, length: int):
    """From the log-mel bands on, which test_spectrogram.py compares with librosa's."""
    state = STATES[layout]()
    model = convert(state, layout=layout, n_tags=50, sample_rate=16_000, source="a file").double()
    waveforms = 0.1 * torch.randn(1, length, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    exact = {key: tensor.double() for key, tensor in state.items()}
    with torch.inference_mode():
        expected, found = forward(exact, model.log_mel(waveforms)), model(waveforms)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert not model.training


@pytest.mark.parametrize(("layout", "forward"), [("sota-sample", sample_forward), ("sota-se", se_forward)])
def test_converted_net_gives_the_published_nets_numbers(layout: str, forward):
    state = STATES[layout]()
    model = convert(state, layout=layout, n_tags=50, sample_rate=16_000, source="a file")
    waveforms = 0.3 * torch.randn(1, 59_049, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    waveforms[:, :3] = 1.0  # what stands in front of the first sample must be one zero
    # In double precision the order of additions leaves no room: only the same function gives the same numbers.
    exact = {key: tensor.double() for key, tensor in state.items()}
    with torch.inference_mode():
        expected, found = forward(exact, waveforms), model.double()(waveforms)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (model.config.sample_rate, model.config.input_length) == (16_000, 59_049)
    assert not model.training


@pytest.mark.parametrize("layout", ["sota-sample", "sota-se"])
def test_front_padding_is_heard(layout: str):
    """The comparison above would not pass without the zero in front: shifting the waveform changes the logits."""
    state = STATES[layout]()
    model = convert(state, layout=layout, n_tags=50, sample_rate=16_000, source="a file")
    waveforms = 0.3 * torch.randn(1, 59_049, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        difference = (model(waveforms) - model(waveforms.roll(-1, dims=1))).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("layout", STATES)
def test_missing_and_unknown_keys_are_named(layout: str):
    state = STATES[layout]()
    weights = [key for key in state if not key.startswith("spec.") and "Adam" not in key and "power" not in key]
    for key in [key for key in weights if not key.endswith("num_batches_tracked")][::7]:
        without = {name: tensor for name, tensor in state.items() if name != key}
        with pytest.raises(WeightsError, match=f"a file .* lacks key '{key}'"):
            convert(without, layout=layout, n_tags=50, sample_rate=16_000, source="a file")
    with pytest.raises(WeightsError, match=r"unknown key 'other/window'"):
        convert(state | {"other/window": torch.ones(3)}, layout=layout, n_tags=50, sample_rate=16_000, source="a file")


def test_one_layout_is_not_taken_for_the_other():
    with pytest.raises(WeightsError, match=r"layout sota-se: it lacks key 'layer1\.conv_1\.weight' and"):
        convert(sample_state(), layout="sota-se", n_tags=50, sample_rate=16_000, source="a file")


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        # The port that uses kernel 3 in the last convolution is another net.
        ("layer11.conv.weight", torch.zeros(512, 512, 3), r"\(512, 512, 3\) instead of \(512, 512, 1\)"),
        ("layer4.bn.running_var", torch.ones(128), r"\(128,\) instead of \(256,\)"),
        ("dense.weight", torch.zeros(49, 512), r"'dense.weight' has the shape \(49, 512\) instead of \(50, 512\)"),
        ("layer2.conv.bias", torch.zeros(128, dtype=torch.int64), "has the type torch.int64"),
        ("layer2.conv.bias", torch.zeros(128, dtype=torch.complex64), "has the type torch.complex64"),
        ("layer2.bn.num_batches_tracked", torch.zeros(()), "has the type torch.float32"),
        ("layer2.conv.bias", torch.full((128,), torch.nan), "not finite"),
    ],
)
def test_wrong_tensors_are_named(key: str, tensor: Tensor, message: str):
    with pytest.raises(WeightsError, match=message):
        convert(sample_state() | {key: tensor}, layout="sota-sample", n_tags=50, sample_rate=16_000, source="a file")


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("conv2d/kernel", (38, 7, 1, 204), r"\(38, 7, 1, 204\) instead of \(7, 38, 1, 204\)"),
        ("conv2d_6/kernel", (7, 1, 64, 64), r"\(7, 1, 64, 64\) instead of \(7, 64, 64\)"),
        ("dense/kernel", (200, 1506), r"\(200, 1506\) instead of \(1506, 200\)"),
        ("batch_normalization_9/beta", (2, 753), r"\(2, 753\) instead of \(1506,\)"),
    ],
)
def test_tensors_with_other_axes_are_named(key: str, shape: tuple[int, ...], expected: str):
    state = STATES["tf-musicnn"]() | {key: torch.zeros(shape)}
    with pytest.raises(WeightsError, match=f"'{key}' has the shape {expected}"):
        convert(state, layout="tf-musicnn", n_tags=50, sample_rate=16_000, source="a file")


def test_spectrogram_nets_hear_one_sample_rate():
    with pytest.raises(WeightsError, match="a file of the layout sota-fcn: won-fcn takes sound at 16000 Hz, not 22050"):
        convert(fcn_state(), layout="sota-fcn", n_tags=50, sample_rate=22_050, source="a file")


def test_checkpoints_from_before_the_batch_counters():
    state = {key: tensor for key, tensor in sample_state().items() if not key.endswith("num_batches_tracked")}
    model = convert(state, layout="sota-sample", n_tags=50, sample_rate=16_000, source="a file")
    assert model.state_dict()["front.bn.num_batches_tracked"] == 0


@pytest.mark.parametrize("zipped", [True, False])
def test_both_file_formats_of_pytorch_are_read(tmp_path: Path, zipped: bool):
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_tensors(tmp_path / "x.pth", layout="sota-sample")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


class Payload:
    """Pickled, this would leave a file behind when it is read by a careless reader."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.proof,)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path):
    proof = tmp_path / "proof"
    torch.save({"layer1.conv.weight": Payload(proof)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(proof)))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(WeightsError, match=name):
            read_tensors(tmp_path / name, layout="sota-sample")
    assert not proof.exists()


def test_files_that_are_no_checkpoint(tmp_path: Path):
    good = tmp_path / "good.pth"
    torch.save(sample_state(), good)
    cases = {
        "empty.pth": b"",
        "text.pth": b"not a checkpoint\n" * 100,
        "truncated.pth": good.read_bytes()[:-5000],
        "pointer.pth": LFS_POINTER,
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            read_tensors(tmp_path / name, layout="sota-sample")
    for name, value in {"list.pth": [torch.ones(2)], "nested.pth": {"state_dict": {}, "epoch": 3}}.items():
        torch.save(value, tmp_path / name)
        with pytest.raises(WeightsError, match="not a bare state_dict"):
            read_tensors(tmp_path / name, layout="sota-sample")
