"""Training speed of 3^9 on the CPU: the fused layers against plain PyTorch, in segments a second.

Three ways to do the same training step (forward, loss, backward, SGD with Nesterov momentum) take turns, so that
whatever else the machine does hits all of them; medians and ratios are printed:

- ``conv1d``: the textbook net, Conv1d + BatchNorm1d + ReLU + MaxPool1d, batch 32;
- ``modules``: samptag's own modules, batch 23;
- ``fused``: samptag's training forward pass, batch 23, the paper's.

``--cpu-time`` counts processor seconds of all threads instead of seconds on the clock (times the number of cores): the
figure to trust while other programs compute.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import machine
from samptag.core.model import SampleCNN, config_from_name
from samptag.training import Processes, Workers
from samptag.training.fused import training_forward

NAME = "samplecnn-3-9"
PAPER_BATCH = 23
TEXTBOOK_BATCH = 32


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
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(forward(x), labels).backward()
        optimiser.step()

    def step_by_workers() -> None:
        assert workers is not None
        with workers.in_charge():
            step()

    return Contender(name, batch, step if workers is None else step_by_workers)


def contenders(names: list[str]) -> list[Contender]:
    """Those that are named, each with a net of its own."""
    made = []
    if "conv1d" in names:
        net = textbook_net()
        made.append(contender("conv1d", net, net, TEXTBOOK_BATCH))
    if "modules" in names:
        model = SampleCNN(config_from_name(NAME))
        made.append(contender("modules", model, model, PAPER_BATCH))
    if "fused" in names:
        model, workers = SampleCNN(config_from_name(NAME)), Workers()
        forward = training_forward(
            model, device=torch.device("cpu"), processes=Processes(), workers=workers, frozen_encoder=False
        )
        made.append(contender("fused", model, forward, PAPER_BATCH, workers))
    return made


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
    parser.add_argument("--only", nargs="+", default=["conv1d", "modules", "fused"], help="contenders by name")
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    clock = (lambda: time.process_time() / threads) if options.cpu_time else time.perf_counter
    rates = measure(contenders(options.only), rounds=options.rounds, clock=clock)
    kind = "processor time" if options.cpu_time else "wall clock"
    print(machine.header())
    print(f"training {NAME}, {threads} threads, {options.rounds} rounds in turn, {kind}")
    first = next(iter(rates))
    base = statistics.median(rates[first])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(
            f"{name:8} {middle:6.2f} segments/s (from {min(values):.2f} to {max(values):.2f}), "
            f"{middle / base:.2f} x {first}"
        )


if __name__ == "__main__":
    main([])
