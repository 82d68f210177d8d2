"""Training speed of 3^9 on the CPU: the fused layers against plain PyTorch, in segments a second.

Ways to do the same training step (forward, loss, backward, SGD with Nesterov momentum) take turns, so that whatever
else the machine does hits all of them; medians and ratios are printed:

- ``conv1d``: the textbook net, Conv1d + BatchNorm1d + ReLU + MaxPool1d, batch 32;
- ``modules``: samptag's own modules, batch 23;
- ``fused``: samptag's training forward pass, batch 23, the paper's;
- ``frozen-2`` and ``frozen-4``: the same with the front end and so many of the lowest modules frozen;
- ``-bfloat16`` behind one of these: in mixed precision, where the processor multiplies bfloat16 in hardware. Its ratio
  is to the same in float32.

``--cpu-time`` counts processor seconds of all threads instead of seconds on the clock (times the number of cores): the
figure to trust while other programs compute.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import machine
from samptag.core.model import SampleCNN, config_from_name
from samptag.training import Processes, TrainConfig
from samptag.training.fused import Workers, training_forward
from samptag.training.recipe import MODERN

NAME = "samplecnn-3-9"
PAPER_BATCH = 23
TEXTBOOK_BATCH = 32
MIXED = "-bfloat16"
FROZEN_MODULES = {"fused": None, "frozen-2": 2, "frozen-4": 4}
NAMES = ["conv1d", "modules", *(name + precision for name in FROZEN_MODULES for precision in ("", MIXED))]


@dataclass(frozen=True)
class Contender:
    """One way to train: a step on the first `batch` segments."""

    name: str
    batch: int
    step: Callable[[], None]


def textbook_net() -> nn.Module:
    """3^9 as it is usually written down."""
    config = config_from_name(NAME)
    widths = (1, config.front_channels, *config.channels, config.channels[-1])
    layers: list[nn.Module] = [nn.Unflatten(1, (1, config.input_length))]
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        front, top = number == 0, number == config.n + 1
        kernel, stride, padding = (3, 3, 0) if front else (1, 1, 0) if top else (3, 1, 1)
        layers += [nn.Conv1d(n_in, n_out, kernel, stride, padding), nn.BatchNorm1d(n_out), nn.ReLU()]
        if not front and not top:
            layers.append(nn.MaxPool1d(3))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(widths[-1], config.n_tags))


def contender(
    name: str, model: nn.Module, forward: Callable[[Tensor], Tensor], batch: int, workers: Workers | None = None
) -> Contender:
    """A contender that trains `model` through `forward`."""
    config = config_from_name(NAME)
    x = torch.randn(batch, config.input_length).mul_(0.1)
    labels = torch.rand(batch, config.n_tags).round_()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(forward(x), labels).backward()
        optimiser.step()

    def step_by_workers() -> None:
        assert workers is not None
        with workers.in_charge():
            step()

    return Contender(name, batch, step if workers is None else step_by_workers)


def made(name: str) -> Contender:
    """The contender of this name, with a net of its own."""
    if name == "conv1d":
        net = textbook_net()
        return contender(name, net, net, TEXTBOOK_BATCH)
    model = SampleCNN(config_from_name(NAME))
    if name == "modules":
        return contender(name, model, model, PAPER_BATCH)
    frozen, workers = FROZEN_MODULES[name.removesuffix(MIXED)], Workers()
    for module in [] if frozen is None else [model.front, *model.body[:frozen]]:
        module.eval().requires_grad_(False)
    recipe = replace(MODERN, mixed_precision=name.endswith(MIXED))
    config = TrainConfig(data="", recipe=recipe, freeze_modules=frozen)
    forward = training_forward(model, config, device=torch.device("cpu"), processes=Processes(), workers=workers)
    return contender(name, model, forward, PAPER_BATCH, workers)


def measure(field: list[Contender], *, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Segments a second of every contender in every round, after one step to warm up."""
    for entrant in field:
        entrant.step()
    rates: dict[str, list[float]] = {entrant.name: [] for entrant in field}
    for _ in range(rounds):
        for entrant in field:
            started = clock()
            entrant.step()
            rates[entrant.name].append(entrant.batch / (clock() - started))
    return rates


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench train", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender takes its turn")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, for a busy machine")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    clock = (lambda: time.process_time() / threads) if options.cpu_time else time.perf_counter
    rates = measure([made(name) for name in options.only], rounds=options.rounds, clock=clock)
    kind = "processor time" if options.cpu_time else "wall clock"
    print(machine.header())
    print(f"training {NAME}, {threads} threads, {options.rounds} rounds in turn, {kind}")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        base = (
            name.removesuffix(MIXED) if name.removesuffix(MIXED) in rates and name.endswith(MIXED) else options.only[0]
        )
        print(
            f"{name:17} {medians[name]:6.2f} segments/s (from {min(values):.2f} to {max(values):.2f}), "
            f"{medians[name] / medians[base]:.2f} x {base}"
        )


if __name__ == "__main__":
    main([])
