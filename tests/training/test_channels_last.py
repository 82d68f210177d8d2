"""What a training on CUDA runs, run on the CPU: every convolution of a step works channels-last, with the same results.

`training_forward` and `Stepper` choose the layout by the device they are told, so the CPU can take CUDA's path.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from samptag.core.model import Convolution, FrameConvolution, SampleCNN, config_from_name
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.fused import Workers, training_forward
from samptag.training.recipe import MODERN, PAPER
from samptag.training.trainer import Stepper

SUMMED = nn.BCEWithLogitsLoss(reduction="sum")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NAMES = [
    "samplecnn-3-4-9",
    "samplecnn-2-6-4",  # even kernels pad by hand
    "samplecnn-3-4-9-se",
    "samplecnn-3-4-9-res",
    "samplecnn-3-4-9-rese-multi",
    "samplecnn-3-4-9-won-rese",
    "frame-raw-3-4-50-27",
    "frame-mel-3-4-256-128",
]
PICTURES = ("convolution", "batch_norm", "max_pool2d", "constant_pad", "threshold", "relu")


class LayoutWatch(TorchDispatchMode):
    """Notes the layout of every picture that enters an operation on pictures, forward and backward, weights too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()  # the operations met
        self.wrong: list[str] = []  # operation and argument of every picture that is not channels-last

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if any(word in name for word in PICTURES):
            self.seen.add(name)
            for place, value in enumerate(args):
                if (
                    isinstance(value, Tensor)
                    and value.ndim == 4
                    and not value.is_contiguous(memory_format=torch.channels_last)
                ):
                    self.wrong.append(f"{name}, argument {place}: {tuple(value.shape)} with strides {value.stride()}")
        return func(*args, **(kwargs or {}))


def network(name: str) -> tuple[SampleCNN, Tensor]:
    torch.manual_seed(1)
    model = SampleCNN(config_from_name(name, n_tags=7))
    return model, 0.1 * torch.randn(3, model.config.input_length)


def without_dropout(model: SampleCNN) -> SampleCNN:
    """`model`, its dropout switched off: the draws follow the order in memory."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def path(model: SampleCNN, *, device: torch.device) -> Callable[[Tensor], Tensor]:
    config = TrainConfig(data="", recipe=PAPER)
    return training_forward(model, config, device=device, processes=Processes(), workers=Workers(1))


def step(forward: Callable[[Tensor], Tensor], x: Tensor, *, mixed: bool = False) -> Tensor:
    """The loss of one step, its gradients left in the parameters."""
    labels = torch.arange(len(x) * 7).view(-1, 7).remainder(2).double()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = forward(x)
    loss = F.binary_cross_entropy_with_logits(logits.double(), labels)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_no_picture_of_a_step_lies_otherwise(name: str, mixed: bool):
    model, x = network(name)
    forward = path(model, device=CUDA)
    with LayoutWatch() as watch:
        step(forward, x, mixed=mixed)
    assert watch.wrong == []
    assert {"convolution", "convolution_backward", "max_pool2d_with_indices"} <= watch.seen


@pytest.mark.parametrize("name", NAMES)
def test_loss_gradients_and_statistics_are_those_of_the_other_layout(name: str):
    model, x = network(name)
    # float64, so that rounding never decides which of two nearly equal frames is the largest of its pool
    model, x = without_dropout(model).double(), x.double()
    twin = copy.deepcopy(model)

    def scatter(module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        return (arguments[0].contiguous(),)

    for module in twin.modules():
        if isinstance(module, Convolution | nn.BatchNorm2d) and not isinstance(module, FrameConvolution):
            module.register_forward_pre_hook(scatter)
    with LayoutWatch() as watch:
        loss = step(twin, x)
    assert watch.wrong, "the twin was to compute in the contiguous layout"
    torch.testing.assert_close(step(path(model, device=CUDA), x), loss)
    for (key, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=key)
    for (key, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=key)


def test_the_cpu_keeps_the_weights_as_they_are():
    model, _ = network("samplecnn-3-4-9-res")
    path(model, device=CPU)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def stepper(device: torch.device) -> Stepper:
    """A training on this machine's processor that lays its weights out as `device` would have them."""
    model, _ = network("samplecnn-3-4-9-won-rese")
    config = TrainConfig(data="songs", recipe=replace(MODERN, mixed_precision=False))
    return Stepper(without_dropout(model), config, device=device, processes=Processes(), objective=SUMMED)


def take_step(training: Stepper, number: int) -> None:
    _, x = network("samplecnn-3-4-9-won-rese")
    rng = np.random.default_rng(number)
    training.step(x, torch.eye(3, 7), batch_size=len(x), spent=0.1, number=number, rng=rng)


@pytest.mark.parametrize(("before", "after"), [(CPU, CUDA), (CUDA, CPU)], ids=["cpu-cuda", "cuda-cpu"])
def test_a_training_goes_on_in_the_other_layout(before: torch.device, after: torch.device):
    through, resumed = stepper(before), stepper(after)
    take_step(through, 1)
    resumed.load_state_dict(copy.deepcopy(through.state_dict()))
    for training in (through, resumed):
        take_step(training, 2)
    ours, theirs = (training.state_dict()["model"] for training in (resumed, through))
    filters = [name for name, tensor in theirs.items() if tensor.ndim == 3]
    assert any(ours[name].stride() != theirs[name].stride() for name in filters)
    for name in filters:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-4, msg=name)
