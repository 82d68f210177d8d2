"""Words against time on a terminal: a strip of blocks a word, as high as its score in that part of the sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samptag.cli.table import MARGIN_CELLS, TAG_CELLS, TableWriter, clock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from samptag.tagging import TrackResult

__all__ = ["StripWriter", "scores_by_column", "strip"]

BLOCKS = " ▁▂▃▄▅▆▇█"
MOST_CELLS = 120
LABEL_CELLS = 24  # between two times on the axis, about


class StripWriter(TableWriter):
    """Draws the selected tags of a file over time, in the width of the terminal; usually those that are decided."""

    def draw(self, result: TrackResult) -> None:
        """Draw a strip for each tag, the time below them, and what a column and a block stand for."""
        import numpy as np
        from rich.text import Text

        if result.taggram is None or result.starts is None:
            raise ValueError("a strip needs the scores of every segment")
        config = self.about.card.config
        seconds = config.input_length / config.sample_rate
        cells = max(8, min(MOST_CELLS, self.console.width - TAG_CELLS - MARGIN_CELLS))
        items = self.about.selection.of(result)
        if self.about.selection.usual:
            items = result.top(None, decided=True) or items
        if not self.some(items):
            return
        columns = [self.about.card.tags.index(item.tag) for item in items]
        scores = scores_by_column(
            result.taggram[:, columns], result.starts, seconds=seconds, duration=result.duration, cells=cells
        )
        peak = 1.0 if np.isnan(scores).all() else float(np.nanmax(scores))
        for item, row in zip(items, scores.T, strict=True):
            word = self.word(item, TAG_CELLS)
            line = Text.assemble(f"  {word}  ", (strip(row, peak=peak), "green"), f"  {item.score:.3f}")
            self.console.print(line, no_wrap=True)
        self.console.print(" " * (TAG_CELLS + 4) + _axis(result.duration, cells), style="dim", no_wrap=True)
        width = result.duration / cells
        facts = f"█ is {peak:.2f} · a block covers {width:.1f} s, each score {seconds:.1f} s"
        self.console.print(f"  {facts}", style="dim")


def scores_by_column(
    taggram: npt.NDArray[np.float32], starts: npt.NDArray[np.float64], *, seconds: float, duration: float, cells: int
) -> npt.NDArray[np.float64]:
    """The scores of each of `cells` equal parts of the sound, as the report page draws them.

    Parameters
    ----------
    taggram : ndarray, shape (segments, n_tags), float32
        Scores of every segment.
    starts : ndarray, shape (segments,), float64
        Second at which each begins.
    seconds : float
        Length of a segment.
    duration : float
        Length of the sound, seconds.
    cells : int
        Number of parts.

    Returns
    -------
    ndarray, shape (cells, n_tags), float64
        NaN in a part that no segment covers (with --tail drop, the end).
    """
    import numpy as np

    from samptag.report.timeline import column_means, segment_edges

    edges = segment_edges(starts, duration=duration, segment_seconds=seconds)
    scores: npt.NDArray[np.float64] = column_means(taggram, edges, columns=cells).T
    borders = np.linspace(0, duration, cells + 1)[:, None]
    heard = ((borders[1:] > starts) & (borders[:-1] < starts + seconds)).any(axis=1)
    scores[~heard] = np.nan
    return scores


def strip(scores: npt.NDArray[np.float64], *, peak: float) -> str:
    """A block for each score, full for `peak`; a space only where there is none (NaN)."""
    steps = (0 if score != score else max(1, round(score / peak * 8)) for score in scores)
    return "".join(BLOCKS[step] for step in steps)


def _axis(duration: float, cells: int) -> str:
    """Times below the strips, the last at their end."""
    parts = max(1, cells // LABEL_CELLS)
    line = ""
    for part in range(parts):
        line = line.ljust(part * cells // parts) + _time(part * duration / parts)
    last = _time(duration)
    return line.ljust(max(len(line) + 1, cells - len(last))) + last


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else clock(seconds)
