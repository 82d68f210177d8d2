"""State_dicts as the repository of Won 2020 writes them, with random values; names and shapes from its layer lists."""

from functools import cache

import torch
from torch import Tensor

# Channels before layer 1 and after layers 1 to 11; layers 1 to 10 have a kernel of 3, layer 11 of 1.
CHANNELS = (1, 128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512)
_N_TAGS = 50


def sample_state(n_tags: int = _N_TAGS) -> dict[str, Tensor]:
    """SampleCNN: conv, bn a layer; dense."""
    return dict(_sample_state(n_tags))


def se_state(n_tags: int = _N_TAGS) -> dict[str, Tensor]:
    """SampleCNN + SE + residual: conv_1, bn_1, conv_2, bn_2, dense1, dense2, and conv_3, bn_3 where shapes change."""
    return dict(_se_state(n_tags))


@cache
def _sample_state(n_tags: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    state: dict[str, Tensor] = {}
    for layer, (n_in, n_out, kernel) in enumerate(_shapes(), start=1):
        state |= _conv(f"layer{layer}.conv", n_in, n_out, kernel, random)
        state |= _norm(f"layer{layer}.bn", n_out, random)
    return state | _dense("dense", 512, n_tags, random)


@cache
def _se_state(n_tags: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    state: dict[str, Tensor] = {}
    for layer, (n_in, n_out, kernel) in enumerate(_shapes(), start=1):
        name = f"layer{layer}"
        state |= _conv(f"{name}.conv_1", n_in, n_out, kernel, random) | _norm(f"{name}.bn_1", n_out, random)
        state |= _conv(f"{name}.conv_2", n_out, n_out, kernel, random) | _norm(f"{name}.bn_2", n_out, random)
        state |= _dense(f"{name}.dense1", n_out, n_out, random) | _dense(f"{name}.dense2", n_out, n_out, random)
        if n_in != n_out or layer == 1:
            state |= _conv(f"{name}.conv_3", n_in, n_out, kernel, random) | _norm(f"{name}.bn_3", n_out, random)
    state |= _dense("dense1", 512, 512, random) | _norm("bn", 512, random)
    return state | _dense("dense2", 512, n_tags, random)


def _shapes() -> list[tuple[int, int, int]]:
    kernels = [3] * 10 + [1]
    return list(zip(CHANNELS[:-1], CHANNELS[1:], kernels, strict=True))


def _conv(name: str, n_in: int, n_out: int, kernel: int, random: torch.Generator) -> dict[str, Tensor]:
    weight = torch.randn(n_out, n_in, kernel, generator=random) / (n_in * kernel / 2) ** 0.5
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(n_out, generator=random)}


def _norm(name: str, size: int, random: torch.Generator) -> dict[str, Tensor]:
    return {
        f"{name}.weight": 0.5 + torch.rand(size, generator=random),
        f"{name}.bias": 0.3 * torch.randn(size, generator=random),
        f"{name}.running_mean": 0.3 * torch.randn(size, generator=random),
        f"{name}.running_var": 0.5 + torch.rand(size, generator=random),
        f"{name}.num_batches_tracked": torch.tensor(12_345),
    }


def _dense(name: str, n_in: int, n_out: int, random: torch.Generator) -> dict[str, Tensor]:
    weight = torch.randn(n_out, n_in, generator=random) / n_in**0.5
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(n_out, generator=random)}
