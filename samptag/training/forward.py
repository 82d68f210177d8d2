"""The forward pass of a training step: the fast one where there is one, else the model's own."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samptag.core.baselines import MelFrontEnd
from samptag.core.blocks import Convolution
from samptag.core.model import SampleCNN
from samptag.training.distributed import Processes, synchronise_norms
from samptag.training.fused import FusedLayer
from samptag.training.pieces import Geometry
from samptag.training.workers import Workers

__all__ = ["FusedForward", "training_forward"]

Forward = Callable[[Tensor], Tensor]


def training_forward(
    model: SampleCNN, *, device: torch.device, processes: Processes, workers: Workers, frozen_encoder: bool
) -> Forward:
    """Waveforms (batch, input_length) -> logits (batch, n_tags), for training `model`.

    Parameters
    ----------
    model : SampleCNN
        On `device`; its batch norms are replaced where several processes share a batch, and on CUDA its filters are
        laid out channels-last.
    device : torch.device
    processes : Processes
    workers : Workers
        Used on the CPU.
    frozen_encoder : bool
        Train the classifier alone: the encoder runs as it does when tagging.
    """
    if device.type == "cuda":
        _lay_out_channels_last(model)
    if frozen_encoder:
        return lambda waveforms: model.classify(_frozen_embedding(model, waveforms))
    fast = device.type == "cpu" and model.config.block in ("plain", "se")
    synchronise_norms(model, processes, device=device)
    return FusedForward(model, processes=processes, workers=workers) if fast else model


def _lay_out_channels_last(model: SampleCNN) -> None:
    """Store the filters in the activations' layout, so that no step has to rearrange them; shapes and values stay.

    ``Module.to(memory_format=...)`` passes over them: it knows filters of four dimensions only.
    """
    for module in model.modules():
        if isinstance(module, Convolution):
            filters = module.weight.data.unsqueeze(2)
            module.weight.data = filters.contiguous(memory_format=torch.channels_last).squeeze(2)


def _frozen_embedding(model: SampleCNN, waveforms: Tensor) -> Tensor:
    with torch.no_grad():
        model.eval()
        embedding = model.embed(waveforms)
        model.train()
    return embedding


class FusedForward:
    """The forward pass of a plain or squeeze-and-excitation model by fused layers, on the CPU.

    Parameters
    ----------
    model : SampleCNN
        Its parameters are used and its running statistics updated.
    processes : Processes
    workers : Workers
    """

    def __init__(self, model: SampleCNN, *, processes: Processes, workers: Workers) -> None:
        self.model = model
        config = model.config
        lowest: Any = model.body[0]
        self.pads: tuple[int, int] = lowest.conv.pads
        reduce = processes.add if processes.world > 1 else None

        def fuse(block: Any, geometry: Geometry) -> FusedLayer:
            return FusedLayer(block.conv, block.bn, geometry=geometry, workers=workers, reduce=reduce)

        excited = config.block == "se"
        self.front = None
        if not isinstance(model.front, MelFrontEnd):
            self.front = fuse(model.front, Geometry(config.first_filter, config.first_stride, 1, self.pads))
        # What squeeze and excitation multiplies must not be padded yet, nor what leaves the body.
        pads = [(0, 0) if excited or i == config.n - 1 else self.pads for i in range(config.n)]
        self.body = [
            fuse(block, Geometry(config.m, 1, config.m, pad)) for block, pad in zip(model.body, pads, strict=True)
        ]
        self.top = None if model.top is None else fuse(model.top, Geometry(1, 1, 1))

    def __call__(self, waveforms: Tensor) -> Tensor:
        """The logits, (batch, n_tags)."""
        model = self.model
        x = self._front(waveforms)
        maxima = []
        for number, (layer, block) in enumerate(zip(self.body, model.body, strict=True)):
            x = layer(x)
            if block.se is not None:
                x = _excite(x, block.se)
                if number + 1 < len(self.body):
                    x = F.pad(x, (0, 0, *self.pads))
            if self.top is None and number + 3 >= len(self.body):
                # pads are zeros, which a maximum over rectified values does not see
                maxima.append(x.amax(1))
        embedding = torch.cat(maxima, dim=1) if self.top is None else self.top(x).flatten(1)
        if model.hidden is not None:
            embedding = model.hidden(embedding)
        return model.classify(embedding)

    def _front(self, waveforms: Tensor) -> Tensor:
        """The front end's frames with the first module's pads, (batch, pad + m**n + pad, 128)."""
        if self.front is None:
            frames = self.model.front(waveforms).squeeze(2).transpose(1, 2)
            return F.pad(frames, (0, 0, *self.pads))
        pads = self.model.config.front_pads
        return self.front((F.pad(waveforms, pads) if any(pads) else waveforms).unsqueeze(2))


def _excite(x: Tensor, excitation: Any) -> Tensor:
    """Squeeze and excitation over (batch, time, channels)."""
    weights = torch.sigmoid(excitation.dense2(F.relu(excitation.dense1(x.mean(dim=1)))))
    return x * weights[:, None, :]
