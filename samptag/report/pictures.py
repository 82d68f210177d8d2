"""Pictures drawn with matplotlib (extra `plot`): words over time, and the spectra of learned filters."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from samptag.report.timeline import segment_edges
from samptag.tagging.result import TrackResult
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.core.spectra import LayerSpectra

# The report page's colours for scores from 0 to 1, on white.
RAMP = ("#f0f0ec", "#cbd8f6", "#86a3ec", "#3f62d6", "#172a78")
INK, SOFT = "#16181d", "#5d6370"


def draw_taggram(
    out: BinaryIO, result: TrackResult, *, words: Sequence[str], segment_seconds: float, kind: str
) -> None:
    """Draw the scores of `words` over the time of one song, one row per word from the top, as "png" or "svg".

    `segment_seconds` is the length of the model's segment. A result without a taggram is a ValueError.
    """
    if result.taggram is None or result.starts is None:
        raise ValueError(f"{result.path} was tagged without its taggram")
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    columns = {item.tag: number for number, item in enumerate(result.scores)}
    rows = result.taggram[:, [columns[word] for word in words]].T
    edges = segment_edges(result.starts, duration=result.duration, segment_seconds=segment_seconds)
    with _figure(out, width=10, height=0.3 * len(words) + 1.3, kind=kind) as figure:
        axes = figure.add_subplot()
        borders = np.arange(len(words) + 1) - 0.5
        colours = LinearSegmentedColormap.from_list("samptag", RAMP)
        # As an image even in an SVG: a path for every cell would take megabytes for an hour.
        mesh = axes.pcolormesh(edges, borders, rows, cmap=colours, vmin=0, vmax=1, rasterized=True)
        for border in borders[1:-1]:
            axes.axhline(border, color="white", linewidth=1.5)
        axes.invert_yaxis()
        axes.set_yticks(range(len(words)), words, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 3, 6, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds // 60:.0f}:{seconds % 60:02.0f}"))
        scores = axes.secondary_yaxis("right")
        scores.set_yticks(range(len(words)), [f"{result.scores[columns[word]].score:.2f}" for word in words])
        for side in (axes, scores):
            side.tick_params(length=0, colors=SOFT, labelsize=9)
            side.spines[:].set_visible(False)
        axes.tick_params(axis="y", colors=INK)
        name = valid_text(os.path.basename(result.path))
        axes.set_title(name, loc="left", fontsize=11, color=INK, parse_math=False)
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, aspect=12, pad=0.02, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=SOFT, labelsize=8)


def draw_message(out: BinaryIO, message: str, *, kind: str) -> None:
    """Draw one line of text that says why there is nothing else to see."""
    with _figure(out, width=10, height=1, kind=kind) as figure:
        figure.text(0.01, 0.5, valid_text(message), color=SOFT, va="center", parse_math=False)


def draw_filters(out: BinaryIO, layers: Sequence[LayerSpectra], *, title: str, kind: str) -> None:
    """Draw the spectra of learned filters, one panel per layer, after Lee 2017, as "png" or "svg".

    Magnitudes A are compressed to log(1 + 10 A).
    """
    # Coarser than the others: a picture this noisy takes a megabyte at 150.
    with _figure(out, width=2.1 * len(layers) + 0.8, height=3.2, kind=kind, dots_per_inch=90) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
        for layer, axes in zip(layers, figure.subplots(1, len(layers), sharey=True, squeeze=False)[0], strict=True):
            n_filters = len(layer.centres)
            axes.imshow(
                np.log1p(10 * layer.magnitudes.T),
                origin="lower",
                aspect="auto",
                cmap="magma",
                extent=(0, n_filters, 0, layer.frequencies[-1] / 1000),
                rasterized=True,
            )
            axes.set_title(f"layer {layer.layer}", fontsize=9, color=INK)
            axes.set_xticks([0, n_filters])
            axes.tick_params(length=2, colors=SOFT, labelsize=8)
            axes.spines[:].set_visible(False)
        figure.supxlabel("filters, by the frequency of their peak", fontsize=9, color=SOFT)
        figure.supylabel("kHz", fontsize=9, color=SOFT)


@contextmanager
def _figure(out: BinaryIO, *, width: float, height: float, kind: str, dots_per_inch: int = 150) -> Iterator[Any]:
    """A figure, sized in inches, that is written when the with block ends; the same picture gives the same bytes."""
    # matplotlib reports font caches and glyphs that its font lacks; neither helps anybody here.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context({"svg.hashsalt": "samptag", "svg.fonttype": "none"}):
            figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
            yield figure
            dates = {"Date": None} if kind == "svg" else {}
            figure.savefig(out, format=kind, dpi=dots_per_inch, metadata={**dates, "Title": "samptag"})
