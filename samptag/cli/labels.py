"""Words over time as an Audacity label track: where each is heard, to be seen below the waveform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samptag.cli.writers import About, Selection, Writer
from samptag.errors import UsageError

if TYPE_CHECKING:
    from samptag.tagging import TagScore, TrackResult

__all__ = ["LABELS", "AudacityLabels", "require_one"]

DEFAULT_THRESHOLD = 0.5


class AudacityLabels(Writer):
    """A line for each stretch in which a selected tag scores at least the threshold: start, end (s), tag; tabs between.

    Without a threshold it is the tag's cut-off, and one half for tags that have none. Stretches are put together from
    segments, earliest first, and those that begin together by their tag's score.
    """

    def __init__(self, out: Any, about: About) -> None:
        require_one(about, "labels")
        super().__init__(out, about)

    def write(self, result: TrackResult) -> None:
        """Write the labels of the one result there is; none where it failed."""
        from samptag.report.timeline import segment_edges, stretches

        if result.taggram is None or result.starts is None:
            return
        selection, card = self.about.selection, self.about.card
        edges = segment_edges(
            result.starts,
            duration=result.duration,
            segment_seconds=card.config.input_length / card.config.sample_rate,
        )
        found = [
            (start, end, item.tag)
            for item in result.top(selection.top, tags=selection.tags, decided=selection.decide)
            for start, end in stretches(
                result.taggram[:, card.tags.index(item.tag)] >= _threshold(item, selection), edges
            )
        ]
        found.sort(key=lambda label: label[0])
        self.out.writelines(f"{start:.6f}\t{end:.6f}\t{' '.join(tag.split())}\n" for start, end, tag in found)


def _threshold(item: TagScore, selection: Selection) -> float:
    asked = (selection.threshold, item.cutoff, DEFAULT_THRESHOLD)
    return next(value for value in asked if value is not None)


def require_one(about: About, what: str) -> None:
    """Refuse more than one input for what is about one song.

    Raises
    ------
    UsageError
    """
    if len(about.paths) != 1:
        raise UsageError(f"{what} are of one song, not of {len(about.paths)}; --taggram x.npz takes in many")


LABELS: dict[str, type[Writer]] = {"txt": AudacityLabels}
"""The forms by their suffixes."""
