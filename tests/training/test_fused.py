"""The fused layers give the values, gradients and running statistics of the modules they stand in for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
import torch.nn.functional as F
from paper_grid import grid_configs

from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN, config_from_name
from samptag.training import TrainConfig, fused
from samptag.training.distributed import Processes
from samptag.training.fused import FusedForward, Workers, training_forward
from samptag.training.recipe import PAPER

# The shallowest and the deepest network of each m; that all of the grid compute what they should, the core's tests say.
ENDS_OF_THE_GRID = [
    end(
        (config for config in grid_configs() if config.m == m),
        key=lambda config: (config.n, config.input_length),
    )
    for m in (2, 3, 4, 5)
    for end in (min, max)
]
NAMES = [
    "samplecnn-3-4-9",
    "samplecnn-2-6-4",
    "samplecnn-2-6-4-oddfront",
    "samplecnn-4-3-4",
    "samplecnn-5-3-2",
    "samplecnn-3-4-9-se",
    "samplecnn-3-4-9-multi",
    "frame-raw-3-4-50-27",
    "frame-mel-3-4-256-128",
    "samplecnn-3-4-9-pad1",
]


@pytest.fixture
def workers() -> Iterator[Workers]:
    pair = Workers(2)
    yield pair
    pair.close()


def segments(media: Path, *, length: int, n: int = 5) -> torch.Tensor:
    """Consecutive segments of real music, at its own rate, from a loud place on."""
    samples, _ = soundfile.read(media / "eastern-dreams.mp3", dtype="float32", always_2d=True)
    return torch.from_numpy(samples[200_000 : 200_000 + n * length, 0].copy()).view(n, length)


def pair(name: str, dtype: torch.dtype) -> tuple[SampleCNN, SampleCNN]:
    """A model with random batch norms, some of whose filters have a negative gamma, and its twin."""
    torch.manual_seed(1)
    config = replace(config_from_name(name, n_tags=7), dropout=0.0)
    model, twin = SampleCNN(config), SampleCNN(config)
    with torch.no_grad():
        for name_, parameter in model.named_parameters():
            if ".bn" in name_:
                parameter.copy_(torch.randn_like(parameter))
    twin.load_state_dict(model.state_dict())
    return model.to(dtype), twin.to(dtype)


@pytest.mark.parametrize(
    ("name", "piece_bytes"),
    [*((name, 20_000) for name in NAMES), *((name, fused.PIECE_BYTES) for name in NAMES[0::3])],
)
def test_fused_step_is_the_models_own(
    name: str, piece_bytes: int, media: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
):
    """In parts of one segment, and with pieces as large as usual in several whole segments."""
    monkeypatch.setattr(fused, "PIECE_BYTES", piece_bytes)
    # float64, so that rounding never decides which of two nearly equal frames is the largest of its pool
    model, twin = pair(name, torch.float64)
    x = segments(media, length=model.config.input_length).double()
    labels = torch.rand(len(x), 7, dtype=torch.float64)
    forward = FusedForward(model, processes=Processes(), workers=workers)
    # twice: the second pass works in the first one's buffers, and with fewer segments
    for batch in (x, x[:3]):
        for net, run in ((model, forward), (twin, twin)):
            net.zero_grad()
            F.binary_cross_entropy_with_logits(run(batch), labels[: len(batch)]).backward()
        for (key, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
            if key.endswith("conv.bias"):
                # the batch norm takes the bias out again: its gradient is zero, here exactly
                assert ours.grad is None
                assert theirs.grad.abs().max() < 1e-9
            else:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=key)
        for (key, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=key)


def test_fused_values_in_float32_are_the_models_own(media: Path, workers: Workers):
    model, _ = pair("samplecnn-3-5-9", torch.float32)
    _, twin = pair("samplecnn-3-5-9", torch.float64)
    x = segments(media, length=model.config.input_length)
    ours = FusedForward(model, processes=Processes(), workers=workers)(x)
    theirs = twin(x.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_silence_gives_its_gradient_to_one_frame_of_the_pool(media: Path, workers: Workers):
    """Where all frames are equal, max-pooling passes the gradient to the first; passing it to all would triple it."""
    model, twin = pair("samplecnn-3-4-9", torch.float32)
    x = segments(media, length=model.config.input_length)
    x[1:3] = 0
    for net, run in ((model, FusedForward(model, processes=Processes(), workers=workers)), (twin, twin)):
        F.binary_cross_entropy_with_logits(
            run(x), torch.rand(5, 7, generator=torch.Generator().manual_seed(2))
        ).backward()
        assert net.head.weight.grad is not None
    # rounding decides which of equal frames is largest; the size of the gradient does not depend on it
    ours, theirs = model.front.conv.weight.grad.norm(), twin.front.conv.weight.grad.norm()
    assert abs(ours / theirs - 1) < 0.02


def test_same_step_twice_is_the_same_bit_for_bit(media: Path, workers: Workers):
    gradients = []
    for _ in range(2):
        model, _ = pair("samplecnn-3-5-9", torch.float32)
        x = segments(media, length=model.config.input_length)
        FusedForward(model, processes=Processes(), workers=workers)(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("config", ENDS_OF_THE_GRID, ids=lambda config: config.name)
def test_the_ends_of_the_grid_learn(config: ModelConfig, media: Path, workers: Workers):
    torch.manual_seed(0)
    model = SampleCNN(replace(config, n_tags=3, dropout=0.0))
    x = segments(media, length=config.input_length, n=3)
    labels = torch.rand(len(x), 3).round()
    forward = FusedForward(model, processes=Processes(), workers=workers)
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)
    losses = []
    with workers.in_charge():
        for _ in range(2):
            optimiser.zero_grad()
            loss = F.binary_cross_entropy_with_logits(forward(x), labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in model.parameters() if parameter.ndim > 1
    )


@pytest.mark.parametrize("name", ["samplecnn-3-4-9-res", "samplecnn-3-4-9-rese-multi", "samplecnn-3-4-9-won-rese-pad1"])
def test_other_blocks_train_by_their_own_forward_pass(name: str, media: Path, workers: Workers):
    model = SampleCNN(config_from_name(name, n_tags=3))
    config = TrainConfig(data="", recipe=PAPER)
    forward = training_forward(model, config, device=torch.device("cpu"), processes=Processes(), workers=workers)
    assert forward is model
    forward(segments(media, length=model.config.input_length)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "name", ["samplecnn-3-4-9", "samplecnn-2-6-4-oddfront", "samplecnn-3-4-9-se-multi", "frame-mel-3-4-256-128"]
)
def test_frozen_modules_give_what_they_give_when_tagging(name: str, media: Path, workers: Workers):
    """In the precision of the model to rounding, in bfloat16 to its eight bits."""
    model, twin = pair(name, torch.float64)
    x = segments(media, length=model.config.input_length).double()
    for _ in range(3):  # running statistics of real music
        twin(x)
    model.load_state_dict(twin.state_dict())
    frozen = [model.front, *model.body[:3]]
    for module in frozen:
        module.eval().requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    exact = FusedForward(model, processes=Processes(), workers=workers, frozen_modules=3)
    result = exact(x)
    result.square().sum().backward()
    expected = model(x)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert all(p.grad is None for module in frozen for p in module.parameters())
    assert all(p.grad is not None for p in model.body[3].conv.parameters() if p.ndim > 1)
    for key, value in model.state_dict().items():
        if key.startswith(("front.", "body.0.", "body.1.", "body.2.")):
            assert torch.equal(value, before[key]), key
    rough = FusedForward(
        model.float(), processes=Processes(), workers=workers, frozen_modules=3, precision=torch.bfloat16
    )
    assert 0 < (rough(x.float()) - expected).abs().max() < 0.15 * expected.abs().max()


@pytest.mark.parametrize("name", ["samplecnn-3-4-9", "samplecnn-3-4-9-se", "frame-mel-3-4-256-128"])
def test_gradients_in_bfloat16_are_as_close_to_float32s_as_those_of_autocast(name: str, media: Path, workers: Workers):
    """Eight bits often decide otherwise which frame of a pool is the largest; PyTorch's own layers err as much."""
    exact, ours = pair(name, torch.float32)
    _, theirs = pair(name, torch.float32)
    x = segments(media, length=exact.config.input_length, n=16)
    labels = torch.rand(len(x), 7, generator=torch.Generator().manual_seed(2))
    for net, precision in ((exact, None), (ours, torch.bfloat16)):
        forward = FusedForward(net, processes=Processes(), workers=workers, precision=precision)
        F.binary_cross_entropy_with_logits(forward(x), labels).backward()
    with torch.autocast("cpu", torch.bfloat16):
        logits = theirs(x)
    F.binary_cross_entropy_with_logits(logits.float(), labels).backward()
    likeness: dict[str, list[float]] = {"ours": [], "theirs": []}
    for key, parameter in exact.named_parameters():
        if parameter.grad is None:
            continue
        for who, net in (("ours", ours), ("theirs", theirs)):
            grad = net.get_parameter(key).grad
            assert grad is not None
            assert grad.dtype == torch.float32
            likeness[who].append(F.cosine_similarity(grad.flatten(), parameter.grad.flatten(), dim=0).item())
            assert 0.85 < grad.norm() / parameter.grad.norm() < 1.15, (who, key)
    assert 0.9 < min(likeness["ours"]) < 1
    assert sum(likeness["ours"]) > sum(likeness["theirs"]) - 0.01 * len(likeness["ours"])
