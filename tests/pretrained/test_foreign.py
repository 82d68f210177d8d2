"""Converted networks against forward passes written from the published layer lists with torch.nn.functional only."""

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from foreign_checkpoints import CHANNELS, sample_state, se_state
from torch import Tensor
from weights_server import LFS_POINTER

from samptag.errors import WeightsError
from samptag.pretrained.foreign import convert, read_tensors

STATES = {"sota-sample": sample_state, "sota-se": se_state}
State = dict[str, Tensor]


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


@pytest.mark.parametrize("layout", ["sota-sample", "sota-se"])
def test_missing_and_unknown_keys_are_named(layout: str):
    state = STATES[layout]()
    for key in [key for key in state if not key.endswith("num_batches_tracked")][::7]:
        without = {name: tensor for name, tensor in state.items() if name != key}
        with pytest.raises(WeightsError, match=f"a file .* lacks key '{key}'"):
            convert(without, layout=layout, n_tags=50, sample_rate=16_000, source="a file")
    with pytest.raises(WeightsError, match=r"unknown key 'spec\.window'"):
        convert(state | {"spec.window": torch.ones(3)}, layout=layout, n_tags=50, sample_rate=16_000, source="a file")


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
