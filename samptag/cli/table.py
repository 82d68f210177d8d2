"""Results for people at a terminal, drawn by Rich: a small table per file, a line per file, or words over time.

If the weights decide some words, those that they leave undecided have a question mark.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from samptag.cli.console import shorten, terminal
from samptag.cli.writers import About, Writer
from samptag.tagging.result import TagScore, TrackResult
from samptag.text import clock, printable

BAR_CELLS = 24
TAG_CELLS = 16
MARGIN_CELLS = 11  # around tag and bar: three times two spaces, and the score
CATEGORY_CELLS = 12
# What a line of a category shows besides its best tag and those that are decided.
MOST_BEST, LEAST_BEST = 3, 0.1
LINE_TOP = 3  # tags on the line of a file
BLOCKS = " ▁▂▃▄▅▆▇█"
MOST_CELLS = 120
LABEL_CELLS = 24  # between two times on the axis, about


class TableWriter(Writer):
    """Draws a table of bars for each file, sorted by category if the weights have categories."""

    def __post_init__(self) -> None:
        self.console = terminal(self.out)
        self._count = 0
        shown, card = self.about.selection.tags, self.about.card
        pairs = zip(card.tags, card.tag_categories or (), strict=False)
        self.categories = list(dict.fromkeys(category for tag, category in pairs if shown is None or tag in shown))
        longest = max((cell_len(printable(category)) for category in self.categories), default=0)
        self.label_cells = min(CATEGORY_CELLS, longest)

    def _write(self, result: TrackResult) -> None:
        if result.error is not None:  # it goes to standard error
            return
        if self._count:
            self.console.print()
        self._count += 1
        self.console.print(self._title(result), no_wrap=True)
        self.draw(result)

    def draw(self, result: TrackResult) -> None:
        """Draw what belongs below the title: a bar for each tag."""
        items = list(self.about.selection.of(result))
        if not self.some(items):
            return
        if self.categories:
            items.sort(key=lambda item: self.categories.index(item.category or ""))
        width = self.console.width - (self.label_cells + 2 if self.categories else 0)
        bar = max(4, min(BAR_CELLS, width - TAG_CELLS - MARGIN_CELLS))
        room = max(4, min(TAG_CELLS, width - bar - MARGIN_CELLS))
        before = None
        for item in items:
            label = self.label(item.category if item.category != before else "") if self.categories else Text()
            before = item.category
            word = fitted(doubted(item, self.about), room)
            line = Text.assemble(label, f"  {word}", (f"  {score_bar(item.score, bar)}", "green"))
            self.console.print(line.append(f"  {item.score:.3f}"), no_wrap=True)

    def some(self, items: Sequence[TagScore]) -> bool:
        """Whether there are any to draw; a line says so if there are none."""
        if not items:
            decide = self.about.selection.decide
            text = "unsure; --top 5 shows the best tags all the same" if decide else "no tag scores that high"
            self.console.print(f"  {text}", style="dim")
        return bool(items)

    def label(self, category: str | None) -> Text:
        """The cells at the start of a line, with the category that begins there."""
        name = fitted(printable(category or ""), self.label_cells)
        return Text.assemble((f"  {name}", "dim"))  # not what comes after it

    def _title(self, result: TrackResult) -> Text:
        facts = clock(result.duration) + (" · shorter than a segment" if result.padded and result.segments == 1 else "")
        name = printable(result.path)
        room = self.console.width - len(facts) - 2
        if room < 8:
            return Text(shorten(name, self.console.width), style="bold cyan")
        folder, slash, base = shorten(name, room).rpartition(os.sep)
        return Text.assemble((folder + slash, "cyan"), (base, "bold cyan"), "  ", (facts, "dim"))


class CategoryWriter(TableWriter):
    """Draws a line for each category: the decided tags, and unless only these are asked for, at least the best few."""

    def draw(self, result: TrackResult) -> None:
        """Draw the categories in the order of the weights."""
        selection = self.about.selection
        items = result.top(None) if selection.usual else selection.of(result)
        if not self.some(items):
            return
        for category in self.categories:
            words = sorted((item for item in items if item.category == category), key=lambda item: not item.decided)
            best = [
                item
                for place, item in enumerate(words)
                if place == 0 or item.decided or (place < MOST_BEST and item.score >= LEAST_BEST)
            ]
            line = self.label(category)
            indent = line.cell_len
            for item in words if selection.decide else best:
                word = shorten(doubted(item, self.about), max(8, self.console.width - indent - 6))
                part = scored(word, item, "bold" if item.decided else "")
                if line.cell_len > indent and line.cell_len + part.cell_len > self.console.width:
                    self.console.print(line, no_wrap=True)
                    line = self.label("")
                line.append_text(part)
            if not words:
                line.append_text(Text("  unsure", style="dim"))
            self.console.print(line, no_wrap=True)


class LineWriter(Writer):
    """Draws a line for each file of a folder: its name, without the folder that all have in common, and its tags.

    By default these are the decided ones, sorted by category if the weights have categories; a short line has the best
    of every category before the second best of any. If the weights decide nothing, they are the best ones.
    """

    def __post_init__(self) -> None:
        about = self.about
        self._console = terminal(self.out)
        self._categories = list(dict.fromkeys(about.card.tag_categories or ()))
        try:
            self._folder = os.path.commonpath({os.path.dirname(path) for path in about.paths})
        except ValueError:  # relative and absolute names
            self._folder = ""
        longest = max((cell_len(self._name(path)) for path in about.paths), default=1)
        width = self._console.width
        self._room = max(8, min(longest, width * 2 // 5 if width >= 80 else width // 3))

    def _name(self, path: str) -> str:
        return printable(os.path.relpath(path, self._folder) if self._folder else os.path.normpath(path))

    def _write(self, result: TrackResult) -> None:
        if result.error is not None:  # it goes to standard error
            return
        line = Text.assemble((fitted(self._name(result.path), self._room), "cyan"))
        selection, decide = self.about.selection, self.about.selection.decide
        items = selection.of(result)
        if selection.usual:
            decide = bool(self.about.card.cutoffs)
            items = result.top(None if decide else LINE_TOP, decided=decide)
        for part in self._that_fit(items, self._console.width - line.cell_len, sort=decide):
            line.append_text(part)
        if not items:
            line.append("  unsure" if decide else "  no tag scores that high", style="dim")
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def _that_fit(self, items: Sequence[TagScore], cells: int, *, sort: bool) -> list[Text]:
        """Tags and their scores that fit; if sorted, categories take turns, and one too long makes room for others."""
        places = [self._categories.index(item.category) if sort and item.category else 0 for item in items]
        turns = [places[:number].count(place) for number, place in enumerate(places)]
        parts = [scored(shorten(doubted(item, self.about), max(8, cells - 7)), item) for item in items]
        fitting = []
        for _, place, number in sorted(zip(turns, places, range(len(items)), strict=True)):
            if parts[number].cell_len <= cells:
                cells -= parts[number].cell_len
                fitting.append((place, number))
            elif not (sort and self._categories):
                break  # what comes next scores less
        return [parts[number] for _, number in sorted(fitting)]


class StripWriter(TableWriter):
    """Draws the selected tags of a file over time, as wide as the terminal; by default those that are decided."""

    def draw(self, result: TrackResult) -> None:
        """Draw a strip for each tag, the time below them, and what a column and a block stand for."""
        if result.taggram is None or result.starts is None:
            raise ValueError("a strip needs the scores of every segment")
        seconds = self.about.card.segment_seconds
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
            word = fitted(doubted(item, self.about), TAG_CELLS)
            line = Text.assemble(f"  {word}  ", (strip(row, peak=peak), "green"), f"  {item.score:.3f}")
            self.console.print(line, no_wrap=True)
        self.console.print(" " * (TAG_CELLS + 4) + _axis(result.duration, cells), style="dim", no_wrap=True)
        width = result.duration / cells
        facts = f"█ is {peak:.2f} · a block covers {width:.1f} s, each score {seconds:.1f} s"
        self.console.print(f"  {facts}", style="dim")


def scores_by_column(
    taggram: npt.NDArray[np.float32], starts: npt.NDArray[np.float64], *, seconds: float, duration: float, cells: int
) -> npt.NDArray[np.float64]:
    """The scores of equal parts of the sound, (cells, n_tags); NaN in one that no segment covers.

    The taggram is (segments, n_tags); its segments start at the seconds `starts` and are `seconds` long.
    """
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
    """As `clock`, but in whole seconds."""
    return clock(seconds) if seconds >= 10 else f"0:{round(seconds):02}"


def doubted(item: TagScore, about: About) -> str:
    """The tag, with a question mark where the weights decide tags but not this one."""
    return printable(item.tag) + ("?" if about.card.cutoffs and not item.decided else "")


def scored(word: str, item: TagScore, style: str = "") -> Text:
    """A word and its score in a line of several, two spaces before it."""
    return Text.assemble((f"  {word}", style or "default"), (" " + f"{item.score:.2f}".removeprefix("0"), "dim"))


def fitted(text: str, cells: int) -> str:
    """The text in exactly `cells` terminal cells."""
    return set_cell_size(shorten(text, cells), cells)


def score_bar(score: float, cells: int) -> str:
    """A bar in `cells` terminal cells, drawn in eighths of a cell; full for a score of 1."""
    eighths = round(score * cells * 8)
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()).ljust(cells)
