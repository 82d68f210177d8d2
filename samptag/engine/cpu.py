"""A network on the CPU as NumPy's matrix products; the same numbers as the torch module's.

One segment at a time, because its activations stay in the cache and a batch's do not; several threads work on several
segments. A segment of 3^9 is some 150 calls that release the interpreter's lock while they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from samptag.core.config import ModelConfig
from samptag.core.layout import Block, Excitation, Layout, Mel, Plain, Residual
from samptag.engine import steps
from samptag.engine.steps import FilterBank, Frames, FullConvolution, relu

Floats = NDArray[np.float32]

# Frames that go through the front end and the first module together: 729 of 128 channels are 0.4 MB, which the
# second-level cache of most cores holds beside the filters.
MAX_CHUNK_FRAMES = 729
# Rows of all Winograd layers from which on compiled passes are worth their start. The paper's mel system has 81, a
# tenth of its work: in an hour of music they save less than numba takes to start.
COMPILABLE_ROWS = 729
NO_PADS = (0, 0)


class CpuModel:
    """One thread's working memory for a network, and the steps from a segment to its embedding.

    Parameters
    ----------
    config : ModelConfig
        The network.
    layout : Layout
        Its layers.
    bank : FilterBank
        Where this and other threads' models of the same network find their filters.

    Raises
    ------
    NotImplementedError
        The network has no such form.
    """

    def __init__(self, config: ModelConfig, layout: Layout, bank: FilterBank) -> None:
        self._config, self._bank = config, bank
        self._steps: list[Callable[[], object]] = []
        self._winograd_rows = 0
        self._scratch = np.empty(steps.winograd_scratch(max(config.channels)), np.float32)
        outputs = [
            Frames(config.m ** (config.n - depth), config.channels[depth - 1], pads=_pads_into(following))
            for depth, following in enumerate((*layout.body[1:], layout.top), start=1)
        ]
        self._add_beginning(layout.front, layout.body[0], outputs[0].inside)
        for block, (source, output) in zip(layout.body[1:], pairwise(outputs), strict=True):
            self._add_block(block, source, output.inside)
        self._add_end(layout, outputs)
        del self._bank  # with the file of weights, which it would keep open; the steps have their filters

    @property
    def compilable(self) -> bool:
        """Whether the passes that `samptag.engine.compiled` makes faster are a part of the work that matters."""
        return self._winograd_rows >= COMPILABLE_ROWS

    def __call__(self, segment: Floats) -> Floats:
        """The embedding of one segment, (embedding_size,), of samples, (input_length,); the next call overwrites it."""
        np.copyto(self._segment, segment)
        for step in self._steps:
            step()
        return self._embedding

    def _add_beginning(self, front: Block | Mel, first: Block, target: Floats) -> None:
        """The front end and the first module."""
        if isinstance(front, Plain) and isinstance(first, Plain):
            self._add_chunks(front, first, target)
            return
        spectrum = Frames(self._config.frames, self._config.front_channels, pads=_pads_into(first))
        if isinstance(front, Mel):
            mel = steps.Mel(self._config, spectrum.inside)
            self._segment = mel.segment
            self._steps.append(mel)
        else:
            framing = steps.Framing(self._config, pads=NO_PADS)
            self._segment = framing.segment
            self._steps.append(framing)
            self._add_block(front, framing.frames, spectrum.inside)
        self._add_block(first, spectrum, target)

    def _add_chunks(self, front: Plain, first: Plain, target: Floats) -> None:
        """The front end and the first module, on as many frames at a time as stay in the cache between the two."""
        m, frames = self._config.m, self._config.frames
        rows = m
        while rows * m <= min(MAX_CHUNK_FRAMES, frames):
            rows *= m
        pads = first.convolution.pads
        chunk = Frames(rows, self._config.front_channels, pads=pads)
        framing = steps.Framing(self._config, pads=pads)
        self._segment = framing.segment
        self._steps.append(framing)
        weight = self._bank.filters(front.convolution).weight
        for start in range(0, frames, rows):
            framed = framing.padded[start : start + len(chunk.padded)]
            self._steps.append(partial(np.matmul, framed, weight, out=chunk.padded))
            self._add_pooled(first, chunk, target[start // m : (start + rows) // m], rectify=True)
        self._add_excitation(first.excitation, target)

    def _add_block(self, block: Block, source: Frames, target: Floats) -> None:
        if isinstance(block, Residual):
            self._add_residual(block, source, target)
            return
        if not isinstance(block, Plain):
            raise NotImplementedError(f"no NumPy form is known for {block}")
        if block.pool > 1:
            self._add_pooled(block, source, target)
        else:
            filters = self._bank.filters(block.convolution)
            self._steps.append(FullConvolution(source, filters, target, rectify=True))
        self._add_excitation(block.excitation, target)

    def _add_pooled(self, block: Plain, source: Frames, target: Floats, *, rectify: bool = False) -> None:
        """The convolution and pooling of `block`; with `rectify`, its input has ReLU still before it."""
        if block.pool != block.convolution.kernel:
            raise NotImplementedError(f"pooling of {block.pool} frames has no form beside {block.convolution}")
        filters = self._bank.filters(block.convolution)
        if steps.WinogradConvolution.suits(block.convolution, target):
            self._steps.append(
                steps.WinogradConvolution(source, filters, target, scratch=self._scratch, rectify=rectify)
            )
            self._winograd_rows += len(target)
        else:
            if rectify:
                self._steps.append(partial(relu, source.padded))
            self._steps.append(steps.PooledConvolution(source, filters, target))

    def _add_residual(self, block: Residual, source: Frames, target: Floats) -> None:
        time = len(target) * block.pool
        between = Frames(time, block.first.n_out, pads=block.second.pads)
        total = np.empty((time, block.second.n_out), np.float32)
        self._steps.append(FullConvolution(source, self._bank.filters(block.first), between.inside, rectify=True))
        self._steps.append(FullConvolution(between, self._bank.filters(block.second), total))
        self._add_excitation(block.excitation, total)
        if block.shortcut is None:
            self._steps.append(partial(np.add, total, source.inside, out=total))
        else:
            self._steps.append(FullConvolution(source, self._bank.filters(block.shortcut), total, add=True))
        groups = total.reshape(-1, block.pool, block.second.n_out)
        self._steps.append(partial(np.maximum.reduce, groups, axis=1, out=target))
        self._steps.append(partial(relu, target))

    def _add_excitation(self, excitation: Excitation | None, target: Floats) -> None:
        if excitation is not None:
            self._steps.append(steps.Excitation(excitation, self._bank, target))

    def _add_end(self, layout: Layout, outputs: list[Frames]) -> None:
        """From the modules' outputs to the embedding."""
        vector = np.empty((1, self._config.embedding_size), np.float32)
        if layout.top is None:
            start = 0
            for level in (frames.inside for frames in outputs[-3:]):
                part = vector[0, start : start + level.shape[1]]
                self._steps.append(partial(np.maximum.reduce, level, axis=0, out=part))
                start += level.shape[1]
        else:
            self._add_block(layout.top, outputs[-1], vector)
        if layout.hidden is not None:
            filters, hidden = self._bank.filters(layout.hidden), np.empty_like(vector)
            self._steps.append(partial(np.matmul, vector, filters.weight, out=hidden))
            self._steps.append(partial(np.add, hidden, filters.bias, out=hidden))
            self._steps.append(partial(relu, hidden))
            vector = hidden
        self._embedding: Floats = vector[0]


def _pads_into(block: Block | None) -> tuple[int, int]:
    """The zeros that `block` wants around its input."""
    if isinstance(block, Residual):
        return block.first.pads
    return block.convolution.pads if isinstance(block, Plain) else NO_PADS
