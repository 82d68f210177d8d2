"""`--compile` makes the forward pass once, whatever the recipe does from step to step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from samptag.core.model import SampleCNN, config_from_name
from samptag.training import trainer
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.recipe import MODERN, Recipe
from samptag.training.trainer import Stepper

SUMMED = torch.nn.BCEWithLogitsLoss(reduction="sum")


class CountingBackend:
    """A compiler that counts the graphs it is given and runs them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        self.graphs += 1
        return graph


def training(recipe: Recipe, *, compiled: bool) -> Stepper:
    torch.manual_seed(0)
    # residual blocks, which the fused layers do not compute
    model = SampleCNN(replace(config_from_name("samplecnn-3-4-9-res", n_tags=3), dropout=0.0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = TrainConfig(data="songs", recipe=recipe, compiled=compiled)
    return Stepper(model, config, device=torch.device("cpu"), processes=Processes(), objective=SUMMED)


def test_one_graph_for_all_steps_and_batch_sizes(monkeypatch: pytest.MonkeyPatch):
    import torch._dynamo  # takes seconds, which collecting the tests should not

    backend = CountingBackend()
    torch._dynamo.reset()
    compile_ = torch.compile
    monkeypatch.setattr(trainer.torch, "compile", lambda model: compile_(model, backend=backend))
    steppers = [training(MODERN, compiled=compiled) for compiled in (True, False)]
    for number in range(1, 13):
        x = 0.1 * torch.randn(6 + number % 2, 729, generator=torch.Generator().manual_seed(number))
        for s in steppers:
            rng = np.random.default_rng(number)
            torch.manual_seed(number)
            s.step(x.clone(), torch.eye(len(x), 3), batch_size=len(x), spent=number / 20, number=number, rng=rng)
    assert backend.graphs == 1
    ours, theirs = (s.model.state_dict() for s in steppers)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3, msg=name)


def test_running_statistics_follow_fast_at_first():
    s = training(replace(MODERN, norm_warmup_steps=10), compiled=False)
    means, expected = [], torch.zeros(128)
    hook = s.model.front.conv.register_forward_hook(lambda module, given, out: means.append(out.mean(dim=(0, 2, 3))))
    for number in range(1, 6):
        x = 0.1 * torch.randn(4, 729, generator=torch.Generator().manual_seed(number))
        rng = np.random.default_rng(number)
        s.step(x, torch.eye(4, 3), batch_size=4, spent=0.1, number=number, rng=rng)
        expected = expected.lerp(means[-1].detach(), 10 / (10 + number - 1))
    hook.remove()
    torch.testing.assert_close(s.model.front.bn.running_mean, expected, rtol=1e-4, atol=1e-6)
    assert s.model.front.bn.momentum == s.model.config.bn_momentum
