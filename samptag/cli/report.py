"""`samptag report`: songs tagged, and laid out on one page that opens in any browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samptag.errors import UsageError

if TYPE_CHECKING:
    from samptag.tagging.files import Input

__all__ = ["report"]

SOME_FAILED = 1
MEGABYTE = 1_000_000


def report(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Songs, or folders with all audio below them.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The page; an old one stays until the new one is whole."),
    ] = Path("report.html"),
    embed: Annotated[
        float,
        typer.Option(
            metavar="MB",
            min=0.0,
            help="Put audio files smaller than this into the page, so that it can be sent to someone.",
            show_default="0: the page plays the files where they are",
        ),
    ] = 0.0,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Heading of the page.", show_default="the name of the song or folder"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="Weights by name ('samptag weights list') or file.",
            show_default="samplecnn-3-9-mtat50",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Distance between the starts of segments: 0.5 makes a finer heat map.",
            show_default="the segments touch",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Songs decoded at the same time.",
            show_default="by device and cores",
        ),
    ] = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Show progress on standard error.", show_default="on a terminal"),
    ] = None,
) -> None:
    """Make a web page of what the model hears: a player, the waveform, and words against time.

    One file that needs no server and no network. A folder becomes a table to sort and filter, which opens its songs.

      samptag report song.mp3 --hop 0.5

      samptag report ~/Music -o music.html

      samptag report demo/ -o demo.html --embed 20
    """
    from samptag.cli.console import download_bar, note
    from samptag.cli.output import binary_file, quiet_codecs
    from samptag.cli.progress import tagging_progress
    from samptag.cli.startup import without_collection
    from samptag.pretrained import DEFAULT
    from samptag.tagging.files import STDIN, expand_inputs

    if STDIN in paths:
        raise UsageError("a report plays its songs again: name files or folders, not standard input")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the name must end in .html")
    # Named twice, a song is one song.
    inputs = list({item.path: item for item in expand_inputs(paths)}.values())
    with without_collection():
        from samptag.pretrained import load_model
        from samptag.report import Report
        from samptag.tagging import Tagger

        with download_bar("fetching weights", asked=progress) as fetched:
            loaded = load_model(model or DEFAULT, progress=fetched)
        tagger = Tagger(loaded, device=device, hop_seconds=hop, jobs=jobs)
    quiet_codecs()
    page = Report(
        tagger.tags,
        model=tagger.card.name,
        n_songs=len(inputs),
        segment_seconds=tagger.length / tagger.sample_rate,
    )
    # Opened first: that a page cannot be written is not found out after hours of tagging.
    with binary_file(str(output)) as out:
        n_failed = 0
        with tagging_progress(len(inputs), asked=progress) as meter:
            for result in tagger.tag_many(inputs, on_seconds=meter.seconds, transform=page.listen):
                for warning in result.warnings:
                    note(f"warning: {result.path}: {warning}")
                if result.error is not None:
                    n_failed += 1
                    note(f"error: {result.error.message}")
                page.add(result)
                meter.file_done()
        page.write(
            out,
            folder=output.parent,
            title=title or _title(paths, inputs),
            embed_below=round(embed * MEGABYTE),
        )
    note(
        f"{output}: {len(inputs) - n_failed} of {len(inputs)} songs" if n_failed else f"{output}: open it in a browser"
    )
    if n_failed:
        raise typer.Exit(SOME_FAILED)


def _title(paths: list[str], inputs: list[Input]) -> str:
    from samptag.tagging.result import valid_text

    if len(inputs) == 1 or len(paths) == 1:
        named = inputs[0].path if len(inputs) == 1 else paths[0]
        return valid_text(os.path.basename(os.path.abspath(named)))
    return f"{len(inputs)} songs"
