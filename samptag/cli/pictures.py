"""Pictures, drawn by matplotlib: a song's words against time, and what the filters of weights listen for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from samptag.cli.extras import require_extra
from samptag.cli.labels import require_one
from samptag.cli.output import binary_file
from samptag.cli.writers import About, Writer
from samptag.core.config import ModelConfig
from samptag.errors import UsageError

if TYPE_CHECKING:
    from samptag.core.weights import LoadedModel
    from samptag.tagging import TrackResult

__all__ = ["PngTaggram", "SvgTaggram", "write_filters"]

KINDS = ("png", "svg")


class PngTaggram(Writer):
    """A heat map of the selected tags against time, as a PNG file."""

    binary = True
    kind: ClassVar[str] = "png"

    def __init__(self, out: Any, about: About) -> None:
        require_one(about, "pictures")
        _require_matplotlib()
        super().__init__(out, about)
        self._drawn = False

    def write(self, result: TrackResult) -> None:
        """Draw the one result there is; for one that failed, its message."""
        from samptag.report.pictures import draw_message, draw_taggram

        self._drawn = True
        if result.error is not None:
            draw_message(self.out, result.error.message, kind=self.kind)
            return
        config = self.about.card.config
        draw_taggram(
            self.out,
            result,
            words=[item.tag for item in self.about.selection.of(result)],
            segment_seconds=config.input_length / config.sample_rate,
            kind=self.kind,
        )

    def finish(self) -> None:
        """Draw that there was nothing, when the run ended before its result: no file is left that is no picture."""
        from samptag.report.pictures import draw_message

        if not self._drawn:
            draw_message(self.out, "not tagged", kind=self.kind)


class SvgTaggram(PngTaggram):
    """The same as an SVG file, its texts as texts."""

    kind = "svg"


def write_filters(path: Path, loaded: LoadedModel) -> None:
    """Draw the spectra of the learned filters of each layer to a .png or .svg file.

    Raises
    ------
    UsageError
        When the suffix is another, the model has no such filters, or matplotlib is not installed.
    OutputError
        When the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise UsageError(f"--filters {path}: the name must end in .png or .svg")
    config = loaded.card.config
    if not isinstance(config, ModelConfig) or config.front_end != "raw":
        raise UsageError(f"{loaded.card.name} listens through mel bands, which are not learned: it has no such filters")
    _require_matplotlib()
    from samptag.core.spectra import filter_spectra
    from samptag.report.pictures import draw_filters

    with binary_file(str(path)) as out:
        draw_filters(out, filter_spectra(loaded.model), title=loaded.card.name, kind=kind)


def _require_matplotlib() -> None:
    require_extra("plot", modules=("matplotlib",), purpose="a picture")
