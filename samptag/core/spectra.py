"""What the filters of a model on raw waveforms respond to, as spectra, after Lee 2017.

A filter of a deep layer has no spectrum. As in the paper, gradient ascent on the input, starting from noise, finds the
sound that makes its output largest, and that sound's spectrum is shown.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag.core.config import ModelConfig
from samptag.core.model import Model, PlainBlock, SampleCNN
from samptag.text import Progress

# The paper's choice for its 3^9 model: about the length of a usual analysis frame.
INPUT_SAMPLES = 729
# Each step is half as loud as the sound, so that less than a thousandth of the initial noise is left.
STEPS = 20
STEP_SIZE = 0.5
# Root mean square of every sound on the way: that of ordinary music.
LOUDNESS = 0.1


@dataclass(frozen=True)
class LayerSpectra:
    """Spectra of the filters of one layer, sorted by centre frequency."""

    layer: int  # 1 for the front end, 2 for the first module after it, and so on
    frequencies: NDArray[np.float64]  # (bins,), Hz, from 0 to half the sample rate
    magnitudes: NDArray[np.float32]  # (n_filters, bins), in [0, 1]: the highest of each filter is 1
    centres: NDArray[np.float64]  # (n_filters,), Hz where each filter's spectrum is highest, ascending


def filter_spectra(model: Model, *, progress: Progress | None = None) -> list[LayerSpectra]:
    """The spectra of a model's filters, layer by layer, up to the layer that takes 729 samples.

    For 3^9 this takes most of a minute: `progress` counts layers. A ValueError if the front end has no filters.
    """
    if not isinstance(model, SampleCNN) or model.config.front_end != "raw":
        raise ValueError(f"{model.config.name} starts with mel bands, which are not learned")
    config = model.config
    depth = round(np.log(INPUT_SAMPLES / config.first_stride) / np.log(config.m))
    layers = [model.front, *model.body][: max(depth, 1) + 1]
    # No longer than what a filter of the layer takes, so that no noise is left beside it.
    lengths = [_samples_taken(config, modules) for modules in range(len(layers))]
    sounds = []
    for number, length in enumerate(lengths, 1):
        if progress is not None:
            progress("layers", number - 1, len(layers))
        sounds.append(_loudest_inputs(layers[:number], length))
    return [_sorted_spectra(number, each, max(lengths), config.sample_rate) for number, each in enumerate(sounds, 1)]


def _samples_taken(config: ModelConfig, modules: int) -> int:
    """The samples that a filter after so many modules takes: all that the front end makes its frames of."""
    frames: int = config.m**modules
    while frames * config.first_stride < config.first_filter:
        frames *= config.m
    return frames * config.first_stride


def _loudest_inputs(layers: list[Any], samples: int) -> NDArray[np.float32]:
    """For each filter of the last of `layers`, the sound that makes its output largest, shape (n_filters, samples)."""
    last = layers[-1]
    # Before the ReLU, so that a filter that does not respond to noise has a gradient, too.
    norm = last.bn if isinstance(last, PlainBlock) else last.bn2
    outputs: list[Tensor] = []
    hook = norm.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    generator = torch.Generator().manual_seed(0)
    sounds = LOUDNESS * torch.randn(norm.num_features, samples, generator=generator)
    for _ in range(STEPS):
        sounds.requires_grad_(True)
        x = sounds
        for layer in layers:
            x = layer(x)
        # At one place only: the mean over time is largest for sounds that repeat with every frame, whatever the filter.
        # There is one sound for each filter; the diagonal pairs them.
        output = outputs.pop()
        activation = output[:, :, 0, output.shape[3] // 2].diagonal().sum()
        (gradient,) = torch.autograd.grad(activation, sounds)
        with torch.no_grad():
            sounds = _loudness(sounds + STEP_SIZE * _loudness(gradient))
    hook.remove()
    result: NDArray[np.float32] = sounds.detach().numpy()
    return result


def _loudness(sounds: Tensor) -> Tensor:
    """The sounds, each at the same root mean square."""
    return sounds * (LOUDNESS / sounds.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-12))


def _sorted_spectra(layer: int, sounds: NDArray[np.float32], n_fft: int, sample_rate: int) -> LayerSpectra:
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate).astype(np.float64)
    magnitudes = np.abs(np.fft.rfft(sounds, n=n_fft, axis=1))
    magnitudes /= np.maximum(magnitudes.max(axis=1, keepdims=True), 1e-12)
    centres = frequencies[magnitudes.argmax(axis=1)]
    order = np.argsort(centres, kind="stable")
    return LayerSpectra(layer, frequencies, magnitudes[order].astype(np.float32), centres[order])
