"""`samptag tag`: its options, and what they may not be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from samptag.errors import UsageError

__all__ = ["Format", "TagRequest", "TailChoice", "tag"]

DEFAULT_TOP = 5


class Format(str, Enum):
    """How results are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"


class TailChoice(str, Enum):
    """What becomes of the samples after the last whole segment."""

    overlap = "overlap"
    pad = "pad"
    drop = "drop"


@dataclass(frozen=True, kw_only=True)
class TagRequest:
    """What one call of `samptag tag` asks for; the fields are the options of the same names."""

    paths: tuple[str, ...]
    files_from: str | None
    null: bool
    top: int | None
    threshold: float | None
    tags: tuple[str, ...]
    format: Format
    output: str | None
    resume: bool
    taggram: str | None
    embeddings: str | None
    model: str | None
    device: str
    hop_seconds: float | None
    tail: TailChoice
    batch_size: int | None
    jobs: int | None
    progress: bool | None
    fail_fast: bool


def _weights_names(incomplete: str) -> Iterator[str]:
    from samptag.errors import SamptagError
    from samptag.pretrained import open_store

    try:
        store = open_store()
    except SamptagError:
        return
    for name in (*store.registry.entries, *store.imported_names()):
        if name.startswith(incomplete):
            yield name


def _device_names(incomplete: str) -> Iterator[str]:
    return (name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete))


INPUT, SHOW, WRITE, NET, RUN = "Input", "What is shown", "Where it goes", "The model", "The run"


def tag(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Files, folders (with all audio below them), or - for standard input."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="At most K tags an input, best first; 0 for all.",
            show_default="5; all with --threshold or --tags",
            rich_help_panel=SHOW,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="SCORE", min=0.0, max=1.0, help="Only scores of at least this.", rich_help_panel=SHOW),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tags", metavar="TAG,...", help="Only these tags, separated by commas.", rich_help_panel=SHOW),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="table (tab-separated lines when piped); json: one object, or an array for several inputs; jsonl: one "
            "record a line; csv: path and one column a tag; tsv: path, tag, score.",
            show_default="by the suffix of --output, else table",
            rich_help_panel=WRITE,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.", rich_help_panel=WRITE)] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here instead of to standard output; an old file stays until the new one is whole.",
            rich_help_panel=WRITE,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from what an earlier run with the same --output FILE (jsonl) left: tag only what is missing.",
            rich_help_panel=WRITE,
        ),
    ] = False,
    taggram: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also write the scores of every segment, to .npz or .csv.", rich_help_panel=WRITE
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also write each input's mean embedding, to .npz.", rich_help_panel=WRITE),
    ] = None,
    files_from: Annotated[
        str | None,
        typer.Option(
            "--files-from",
            metavar="FILE",
            help="Tag what this file lists, one path a line; - for standard input.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="The list's paths end in NUL (find -print0).", rich_help_panel=INPUT)
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="Weights by name ('samptag weights list') or file.",
            show_default="samplecnn-3-9-mtat50",
            autocompletion=_weights_names,
            rich_help_panel=NET,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="auto, cpu, cuda, cuda:N or mps.",
            autocompletion=_device_names,
            rich_help_panel=NET,
        ),
    ] = "auto",
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Distance between the starts of segments.",
            show_default="the segments touch",
            rich_help_panel=NET,
        ),
    ] = None,
    tail: Annotated[
        TailChoice,
        typer.Option(
            help="The rest after the last whole segment: one more segment that ends at the end, one filled up with "
            "zeros, or nothing.",
            rich_help_panel=NET,
        ),
    ] = TailChoice.overlap,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Segments in one call of the net.", show_default="by device", rich_help_panel=RUN
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Inputs decoded at the same time.",
            show_default="by device and cores",
            rich_help_panel=RUN,
        ),
    ] = None,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show progress on standard error.",
            show_default="on a terminal",
            rich_help_panel=RUN,
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End at the first input that fails.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Tag music: files, whole folders, or a stream.

    Results go to standard output in the order of the inputs, everything else to standard error. The exit code is 0
    when all inputs were tagged and 1 when some failed; the others are complete then.
    """
    request = TagRequest(
        paths=tuple(paths or ()),
        files_from=files_from,
        null=null,
        top=top,
        threshold=threshold,
        tags=tuple(tags or ()),
        format=_format(format, json=json, output=output),
        output=output,
        resume=resume,
        taggram=taggram,
        embeddings=embeddings,
        model=model,
        device=device,
        hop_seconds=hop,
        tail=tail,
        batch_size=batch_size,
        jobs=jobs,
        progress=progress,
        fail_fast=fail_fast,
    )
    _check(request)
    from samptag.cli.tag_run import run

    raise typer.Exit(run(request))


def _format(asked: Format | None, *, json: bool, output: str | None) -> Format:
    if json and asked not in (None, Format.json):
        raise UsageError(f"--json and --format {asked.value} exclude each other")
    if json:
        return Format.json
    suffix = Path(output).suffix.lower().removeprefix(".") if output else ""
    return asked or (Format(suffix) if suffix in ("json", "jsonl", "csv", "tsv") else Format.table)


def _check(request: TagRequest) -> None:
    """Refuse what cannot be meant, before anything is loaded.

    Raises
    ------
    UsageError
    """
    if not request.paths and request.files_from is None:
        raise UsageError("nothing to tag: name files or folders, or - for standard input (see 'samptag tag --help')")
    if request.null and request.files_from is None:
        raise UsageError("-0 says how --files-from is written; give --files-from FILE as well")
    if request.files_from == "-" and "-" in request.paths:
        raise UsageError("standard input cannot be both the list of files and the audio")
    if request.format is Format.csv and (request.top is not None or request.threshold is not None):
        raise UsageError("csv has a column for every tag: choose columns with --tags, or take --format tsv")
    if request.threshold is not None and not math.isfinite(request.threshold):
        raise UsageError(f"--threshold {request.threshold} is not a number between 0 and 1")
    if request.resume and (request.output is None or request.format is not Format.jsonl):
        raise UsageError("--resume needs --output FILE with --format jsonl, the form whose records are kept one by one")
    if request.resume and (request.taggram or request.embeddings):
        raise UsageError("--resume tags only what is missing: --taggram and --embeddings would lack the rest")
    if request.taggram and Path(request.taggram).suffix.lower() not in (".npz", ".csv"):
        raise UsageError(f"--taggram {request.taggram}: the name must end in .npz or .csv")
    if request.embeddings and Path(request.embeddings).suffix.lower() != ".npz":
        raise UsageError(f"--embeddings {request.embeddings}: the name must end in .npz")
