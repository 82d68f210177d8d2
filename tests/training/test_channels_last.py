"""What a training on CUDA runs, run on the CPU: convolutions lie channels-last there, and the results are the same.

`training_forward` and `Stepper` choose the layout by the device they are told, so the CPU can take CUDA's path.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.model import SampleCNN, config_from_name
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.fused import Workers, training_forward
from samptag.training.recipe import MODERN, PAPER
from samptag.training.trainer import Stepper

SUMMED = nn.BCEWithLogitsLoss(reduction="sum")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def network(name: str) -> tuple[SampleCNN, Tensor]:
    """A model without dropout, whose draws follow the order in memory, and three segments."""
    torch.manual_seed(1)
    model = SampleCNN(config_from_name(name, n_tags=7))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model, 0.1 * torch.randn(3, model.config.input_length)


def step(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The loss of one step, its gradients left in the parameters."""
    labels = torch.arange(len(x) * 7).view(-1, 7).remainder(2).double()
    loss = F.binary_cross_entropy_with_logits(forward(x), labels)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize(
    "name",
    [
        "samplecnn-3-4-9",
        "samplecnn-2-6-4",  # even kernels pad by hand
        "samplecnn-3-4-9-se",
        "samplecnn-3-4-9-res",
        "samplecnn-3-4-9-rese-multi",
        "samplecnn-3-4-9-won-rese",
        "frame-raw-3-4-50-27",
        "frame-mel-3-4-256-128",
    ],
)
def test_loss_gradients_and_statistics_are_those_of_the_model(name: str):
    model, x = network(name)
    # float64, so that rounding never decides which of two nearly equal frames is the largest of its pool
    model, x = model.double(), x.double()
    twin = copy.deepcopy(model)
    config = TrainConfig(data="", recipe=PAPER)
    forward = training_forward(model, config, device=CUDA, processes=Processes(), workers=Workers(1))
    torch.testing.assert_close(step(forward, x), step(twin, x))
    for (key, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=key)
    for (key, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=key)


def stepper(device: torch.device) -> Stepper:
    """A training on this machine's processor that lays its weights out as `device` would have them."""
    model, _ = network("samplecnn-3-4-9-won-rese")
    config = TrainConfig(data="songs", recipe=replace(MODERN, mixed_precision=False))
    return Stepper(model, config, device=device, processes=Processes(), objective=SUMMED)


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
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-4, msg=name)
