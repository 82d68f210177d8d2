"""The student in training: samptag's fused layers, frozen lower layers, and heads that give spectrograms."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE
from samptag.core.mel import mel_filters
from samptag.core.model import SampleCNN
from samptag.engine.folding import fold
from samptag.training import FusedForward, Processes, Workers

__all__ = ["CROP", "MelHead", "Student", "mel_heads", "one_by_one"]

CROP = 6_561  # samples: 27 frames after body module 3, 9 after module 4
_LEAST_POWER = 1e-4
_LEAST_SPREAD = 0.1  # of a band, in powers of ten: silent bands are not blown up


class MelHead(nn.Module):
    """A linear layer from a module's output to a log-mel spectrogram of the same frames.

    Parameters
    ----------
    channels : int
        Of the module.
    window, hop, bands : int
        Of the spectrogram; the hop is the module's, in samples.
    """

    filters: Tensor
    taper: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, *, window: int, hop: int, bands: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        self.linear = nn.Linear(channels, bands)
        filters = torch.from_numpy(mel_filters(SAMPLE_RATE, n_fft=window, n_bands=bands))
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("taper", torch.hann_window(window), persistent=False)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("spread", torch.ones(bands))

    @torch.no_grad()
    def measure(self, waveforms: Tensor) -> None:
        """Take each band's mean and spread from typical music, (batch, samples)."""
        self.mean.zero_()
        self.spread.fill_(1.0)
        target = self.target(waveforms)
        self.mean.copy_(target.mean((0, 1)))
        self.spread.copy_(target.std((0, 1)) + _LEAST_SPREAD)

    @torch.no_grad()
    def target(self, waveforms: Tensor) -> Tensor:
        """The spectrogram in units of each band's spread: (batch, samples) -> (batch, samples / hop, bands)."""
        frames = waveforms.shape[1] // self.hop
        before = (self.window - self.hop) // 2
        padded = F.pad(waveforms, (before, self.window - self.hop - before))
        spectrum = torch.stft(padded, self.window, self.hop, window=self.taper, center=False, return_complex=True)[
            :, :, :frames
        ]
        mel = torch.log10(_LEAST_POWER + self.filters @ spectrum.abs().square())
        return (mel.transpose(1, 2) - self.mean) / self.spread

    def loss(self, features: Tensor, waveforms: Tensor, *, edge: int = 0) -> Tensor:
        """Mean squared error of the spectrogram that `features`, (batch, frames, channels), give.

        `edge` frames at both ends are left out: there a crop's filters reach into zeros that are no music.
        """
        inside = slice(edge, features.shape[1] - edge)
        return F.mse_loss(self.linear(features[:, inside]), self.target(waveforms)[:, inside])


def mel_heads(model: SampleCNN) -> nn.ModuleDict:
    """The heads of the student, by the body module that they sit on."""
    channels = model.config.channels
    return nn.ModuleDict(
        {
            "3": MelHead(channels[3], window=512, hop=243, bands=64),
            "4": MelHead(channels[4], window=1024, hop=729, bands=96),
        }
    )


class Student:
    """The passes of one phase of the training.

    Parameters
    ----------
    model : SampleCNN
        The plain 3^9 net; its parameters are used.
    heads : nn.ModuleDict
        See `mel_heads`.
    frozen : int
        Front end and body modules below this one stay as they are; 0: all of the net learns.
    workers : Workers

    Raises
    ------
    ValueError
        The model is another net.
    """

    def __init__(self, model: SampleCNN, heads: nn.ModuleDict, *, frozen: int, workers: Workers) -> None:
        self.model, self.heads, self.frozen = model, heads, frozen
        self._layers = FusedForward(model, processes=Processes(), workers=workers)
        if self._layers.front is None or self._layers.top is None:
            raise ValueError(f"{model.config.name} is not the plain net on samples")
        self._first, self._top = self._layers.front, self._layers.top
        self._lower = _frozen_layers(model, frozen, workers) if frozen else self._front

    @property
    def lower_shape(self) -> tuple[int, int]:
        """Frames and channels of what `lower` gives of a segment."""
        config = self.model.config
        return config.m ** (config.n - self.frozen), (config.front_channels, *config.channels)[self.frozen]

    def filters(self) -> list[nn.Parameter]:
        """Of what this phase trains, the weights of the body's and the top's convolutions, (out, in, kernel)."""
        return [layer.convolution.weight for layer in (*self._layers.body[self.frozen :], self._top)]

    def parameters(self) -> list[nn.Parameter]:
        """What this phase trains."""
        still = [self.model.front, *self.model.body[: self.frozen]] if self.frozen else []
        fixed = {id(p) for module in still for p in module.parameters()}
        return [p for p in (*self.model.parameters(), *self.heads.parameters()) if id(p) not in fixed]

    def frozen_state(self) -> dict[str, Tensor]:
        """The tensors of what stays as it is, by their names in the model."""
        below = ("front.", *(f"body.{i}." for i in range(self.frozen))) if self.frozen else ()
        return {name: tensor for name, tensor in self.model.state_dict().items() if name.startswith(below)}

    def crop_loss(self, crops: Tensor) -> Tensor:
        """The error of the spectrograms of crops, (batch, CROP)."""
        features = self._features(self._lower(crops), last=max(map(int, self.heads)))
        return self._spectral(features, crops, edge=1)

    def __call__(self, waveforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, (batch, tags), embeddings, (batch, 512), and the error of the spectrograms.

        Parameters
        ----------
        waveforms : Tensor
            Segments, (batch, 59 049).
        """
        features = self._features(self._lower(waveforms), last=len(self.model.body) - 1)
        return *self._classified(features), self._spectral(features, waveforms, edge=0)

    def lower(self, waveforms: Tensor) -> Tensor:
        """What the first module that is trained hears: (batch, 59 049) -> (batch, frames, channels)."""
        return self._without_pads(self._lower(waveforms))

    def upper(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of segments of which `lower` gave `frames`."""
        padded = F.pad(frames, (0, 0, *self._layers.pads))
        return self._classified(self._features(padded, last=len(self.model.body) - 1))

    def _classified(self, features: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        embeddings = self._top(features[len(self.model.body) - 1]).flatten(1)
        return self.model.classify(embeddings), embeddings

    def _spectral(self, features: Mapping[int, Tensor], waveforms: Tensor, *, edge: int) -> Tensor:
        total = torch.zeros(())
        for i, head in self.heads.items():
            total = total + cast(MelHead, head).loss(features[int(i)], waveforms, edge=edge)
        return total

    def _front(self, waveforms: Tensor) -> Tensor:
        return self._first(waveforms.unsqueeze(2))

    def _features(self, x: Tensor, *, last: int) -> Mapping[int, Tensor]:
        """What the body modules from the lowest trained one to `last` make of `x`, without the zeros around it."""
        features = {}
        for i in range(self.frozen, last + 1):
            x = self._layers.body[i](x)
            padded = i + 1 < len(self.model.body)
            features[i] = self._without_pads(x) if padded else x
        return features

    def _without_pads(self, x: Tensor) -> Tensor:
        left, right = self._layers.pads
        return x[:, left : x.shape[1] - right]


def _frozen_layers(model: SampleCNN, depth: int, workers: Workers) -> Callable[[Tensor], Tensor]:
    """Waveforms -> what body module `depth` gets: the lower layers as in tagging, running statistics folded in."""
    folded = fold(model)
    pads = (model.config.m - 1) // 2, model.config.m // 2

    def one(waveform: Tensor) -> Tensor:
        x = folded.front(waveform[None])
        for block in folded.body[:depth]:
            x = block(x)
        return F.pad(x.squeeze(2).transpose(1, 2), (0, 0, *pads))

    return lambda waveforms: one_by_one(one, waveforms, workers)


def one_by_one(work: Callable[[Tensor], Tensor], items: Tensor, workers: Workers) -> Tensor:
    """What `work` makes of each item alone, spread over the threads.

    Parameters
    ----------
    work : callable
        (...) -> (1, ...).
    items : Tensor
        (n, ...), n >= 1.
    workers : Workers

    Returns
    -------
    Tensor
        (n, ...).
    """
    n = min(workers.n_threads, len(items))
    parts = workers.run(lambda part: torch.cat([work(item) for item in items[part::n]]), n)
    result = torch.empty(len(items), *parts[0].shape[1:])
    for part, values in enumerate(parts):
        result[part::n] = values
    return result
