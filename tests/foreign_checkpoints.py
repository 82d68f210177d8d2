"""Foreign checkpoints with random values; names and shapes from the layer lists of those who wrote them.

State_dicts as the repository of Won 2020 writes them, and the variables of the package musicnn's TensorFlow graphs.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
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


def fcn_state(n_tags: int = _N_TAGS) -> dict[str, Tensor]:
    """FCN over log-mel bands: spec_bn; conv, bn a layer; dense; and the spectrogram's own buffers."""
    random = torch.Generator().manual_seed(3)
    state = _norm("spec_bn", 1, random) | _SPEC
    for layer, (n_in, n_out) in enumerate(pairwise((1, 64, 128, 128, 128, 64)), start=1):
        state |= _conv(f"layer{layer}.conv", n_in, n_out, (3, 3), random) | _norm(f"layer{layer}.bn", n_out, random)
    return state | _dense("dense", 64, n_tags, random)


def musicnn_state(n_tags: int = _N_TAGS) -> dict[str, Tensor]:
    """Musicnn over log-mel bands: five layers side by side, three in the middle, two dense."""
    random = torch.Generator().manual_seed(4)
    state = _norm("spec_bn", 1, random) | _SPEC
    for layer, (n_out, *kernel) in enumerate([(204, 67, 7), (204, 38, 7), (51, 129), (51, 65), (51, 33)]):
        state |= _conv(f"layers.{layer}.conv", 1, n_out, kernel, random) | _norm(f"layers.{layer}.bn", n_out, random)
    for layer, n_in in enumerate((561, 64, 64), start=1):
        state |= _conv(f"layer{layer}.conv", n_in, 64, (7,), random) | _norm(f"layer{layer}.bn", 64, random)
    state |= _dense("dense1", 1506, 200, random) | _norm("bn", 200, random)
    return state | _dense("dense2", 200, n_tags, random)


_SPEC = {"spec.spectrogram.window": torch.ones(512), "spec.mel_scale.fb": torch.ones(257, 96)}


def tf_musicnn(n_tags: int = _N_TAGS) -> dict[str, np.ndarray]:
    """The package's musicnn: kernels (frames, bands, in, out), dense ones (in, out); two of Adam's slots."""
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), *[(length, 1, 1, 51) for length in (128, 64, 32)]]
    kernels += [(7, n_in, 1, 64) for n_in in (561, 64, 64)]
    names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 8))]
    return _tf(
        dict(zip(names, kernels, strict=True)) | {"dense": (1506, 200), "dense_1": (200, n_tags)},
        [1, *(kernel[-1] for kernel in kernels), 1506, 200],
    )


def tf_vgg(n_tags: int = _N_TAGS) -> dict[str, np.ndarray]:
    """The package's VGG: five kernels of 3 x 3; the classifier's inputs count 2 frames of 128 channels."""
    kernels = {f"{i}CNN": (3, 3, 1 if i == 1 else 128, 128) for i in range(1, 6)}
    return _tf(kernels | {"dense": (256, n_tags)}, [1, *[128] * 5])


def _tf(kernels: dict[str, tuple[int, ...]], norms: list[int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    state = {"beta1_power": np.array(0.5), "dense/kernel/Adam": np.zeros(kernels["dense"])}
    for name, shape in kernels.items():
        state[f"{name}/kernel"] = random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]) / 2)
        state[f"{name}/bias"] = 0.1 * random.standard_normal(shape[-1])
    for place, size in enumerate(norms):
        name = f"batch_normalization_{place}" if place else "batch_normalization"
        state[f"{name}/gamma"], state[f"{name}/moving_variance"] = 0.5 + random.random((2, size))
        state[f"{name}/beta"], state[f"{name}/moving_mean"] = 0.3 * random.standard_normal((2, size))
    return {name: values.astype("f4") for name, values in state.items()}


def _shapes() -> list[tuple[int, int, tuple[int]]]:
    kernels = [(3,)] * 10 + [(1,)]
    return list(zip(CHANNELS[:-1], CHANNELS[1:], kernels, strict=True))


def _conv(name: str, n_in: int, n_out: int, kernel: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
    weight = torch.randn(n_out, n_in, *kernel, generator=random) / (n_in * math.prod(kernel) / 2) ** 0.5
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
