"""The network on the CPU as matrix products; the same numbers as the plain module's.

One segment at a time, because its activations stay in the cache and a batch's do not; several threads work on several
segments, because products this small lose more by being split than by waiting their turn.

Measured for 3^9 in CPU time a segment, beside the time that the multiply-adds of its plain convolutions take in torch's
own products of 729 x 384 x 128 (1 thread, AVX-512, float32): this path 0.98 of that speed; with every convolution
computed directly 0.81; OpenVINO 2026.4 0.79 at batch 1 and 0.81 at batch 8. Threads wait for each other now and then,
processes do not: see `samptag.core.processes`.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from samptag.core.baselines import MelFrontEnd
from samptag.core.blocks import PlainBlock, ResidualBlock, SqueezeExcitation
from samptag.core.config import ModelConfig
from samptag.core.minimal import MinimalConvolution
from samptag.core.model import SampleCNN
from samptag.core.steps import (
    MAX_ROWS,
    Excitation,
    FilterBank,
    Filters,
    Frames,
    Framing,
    FullConvolution,
    Mel,
    PooledConvolution,
)

__all__ = ["FilterBank", "ProductNetwork"]

# Frames that go through the front end and the first module together: 729 of 128 channels are 0.4 MB, which the
# second-level cache of most cores holds beside the filters. Measured with 2 MB of it: 2187 are 1.5 % slower, 6561 8 %,
# 243 5 % (more calls for the same work).
MAX_CHUNK_FRAMES = 729

Step = Callable[[], object]


class ProductNetwork:
    """One thread's working memory for a network, and the steps from a segment to its embedding.

    Parameters
    ----------
    model : SampleCNN
        The network; its weights are read once.
    bank : FilterBank
        Where this and other threads' networks of the same `model` find their filters.
    """

    def __init__(self, model: SampleCNN, bank: FilterBank) -> None:
        self._config, self._bank = model.config, bank
        self._steps: list[Step] = []
        self._scratch = torch.empty(2 * MAX_ROWS * max(self._config.channels))
        first, *others = model.body
        frames = self._frames_after(0)
        if isinstance(model.front, PlainBlock) and isinstance(first, PlainBlock):
            self._add_chunks(model.front, first, frames.inside)
        else:
            spectrum = Frames(self._config.frames, self._config.front_channels, kernel=self._config.m)
            self._add_front(model.front, spectrum.inside)
            self._add_block(first, spectrum, frames.inside)
        levels = [frames.inside]
        for depth, block in enumerate(others, start=1):
            source, frames = frames, self._frames_after(depth)
            self._add_block(block, source, frames.inside)
            levels.append(frames.inside)
        self._add_end(model, frames, levels)

    @staticmethod
    def supports(config: ModelConfig) -> bool:
        """Whether the network can be computed this way: frames must come in whole groups of every kernel's length."""
        return config.block != "won-rese" or config.frames % config.first_filter == 0

    def __call__(self, segment: Tensor) -> Tensor:
        """The embedding of one segment, (embedding_size,); the next call overwrites it.

        Parameters
        ----------
        segment : Tensor
            Samples, float32, (input_length,).
        """
        self._segment.copy_(segment)
        for step in self._steps:
            step()
        return self._embedding

    def _frames_after(self, depth: int) -> Frames:
        """Room for the output of body module `depth`, padded for the next."""
        time = self._config.m ** (self._config.n - depth - 1)
        return Frames(time, self._config.channels[depth], kernel=self._config.m if time > 1 else 1)

    def _add_chunks(self, front: PlainBlock, first: PlainBlock, target: Tensor) -> None:
        """The front end and the first module, on as many frames at a time as stay in the cache between the two."""
        m, frames = self._config.m, self._config.frames
        rows = m
        while rows * m <= min(MAX_CHUNK_FRAMES, frames):
            rows *= m
        chunk = Frames(rows, self._config.front_channels, kernel=m)
        framing = Framing(self._config, kernel=m)
        self._segment = framing.segment
        self._steps.append(framing)
        weight = self._bank.filters(front.conv, front.bn).weight
        filters = self._bank.filters(first.conv, first.bn)
        for start in range(0, frames, rows):
            framed = framing.frames.padded[start : start + len(chunk.padded)]
            self._steps.append(partial(torch.mm, framed, weight, out=chunk.padded))
            self._steps.append(partial(chunk.padded.clamp_min_, 0))
            pooled = target[start // m : (start + rows) // m]
            self._add_pooled(chunk, filters, pooled)
        self._add_excitation(first.se, target)

    def _add_front(self, front: nn.Module, target: Tensor) -> None:
        """The front end over the whole segment."""
        if isinstance(front, MelFrontEnd):
            self._segment = torch.zeros(self._config.input_length)
            self._steps.append(Mel(front, self._segment, target))
            return
        framing = Framing(self._config, kernel=1)
        self._segment = framing.segment
        self._steps.append(framing)
        self._add_block(front, framing.frames, target)

    def _add_block(self, block: nn.Module, source: Frames, target: Tensor) -> None:
        if isinstance(block, ResidualBlock):
            self._add_residual(block, source, target)
        elif isinstance(block, PlainBlock):
            filters = self._bank.filters(block.conv, block.bn)
            if block.pool_length > 1:
                self._add_pooled(source, filters, target)
            else:
                self._steps.append(FullConvolution(source, filters, target, relu=True))
            self._add_excitation(block.se, target)
        else:
            raise TypeError(f"no matrix products are known for a {type(block).__name__}")

    def _add_pooled(self, source: Frames, filters: Filters, target: Tensor) -> None:
        kind = MinimalConvolution if MinimalConvolution.supports(filters, target) else PooledConvolution
        self._steps.append(kind(source, filters, target, scratch=self._scratch))

    def _add_residual(self, block: ResidualBlock, source: Frames, target: Tensor) -> None:
        time = len(target) * block.pool_length
        first = self._bank.filters(block.conv1, block.bn1)
        second = self._bank.filters(block.conv2, block.bn2)
        between = Frames(time, first.n_out, kernel=second.kernel)
        total = torch.empty(time, second.n_out)
        self._steps.append(FullConvolution(source, first, between.inside, relu=True))
        self._steps.append(FullConvolution(between, second, total))
        self._add_excitation(block.se, total)
        if block.shortcut is None:
            self._steps.append(partial(total.add_, source.inside))
        else:
            beside = self._bank.filters(block.shortcut.conv, block.shortcut.bn)
            self._steps.append(FullConvolution(source, beside, total, add=True))
        pooled = partial(torch.amax, total.view(-1, block.pool_length, second.n_out), 1, out=target)
        self._steps += [pooled, partial(target.clamp_min_, 0)]

    def _add_excitation(self, excitation: SqueezeExcitation | None, target: Tensor) -> None:
        if excitation is not None:
            self._steps.append(Excitation(excitation, target))

    def _add_end(self, model: SampleCNN, last: Frames, levels: list[Tensor]) -> None:
        """From the last module's output to the embedding."""
        vector = torch.empty(1, self._config.embedding_size)
        if model.top is None:
            parts = torch.split(vector[0], [level.shape[1] for level in levels[-3:]])
            self._steps += [
                partial(torch.amax, level, 0, out=part) for level, part in zip(levels[-3:], parts, strict=True)
            ]
        else:
            self._add_block(model.top, last, vector)
        if model.hidden is not None:
            hidden = torch.empty_like(vector)
            filters = self._bank.filters(model.hidden.linear, model.hidden.bn)
            self._steps.append(partial(torch.addmm, filters.bias, vector, filters.weight, out=hidden))
            self._steps.append(partial(hidden.clamp_min_, 0))
            vector = hidden
        self._embedding = vector[0]
