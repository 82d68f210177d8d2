"""`samptag data`: what a data set holds, fetching one, and decoding it ahead of training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samptag.cli.console import Bar, note, print_json, terminal, write_lines
from samptag.cli.options import Format, Jobs, Json, Progress, Split, Subset
from samptag.cli.output import silence_codecs
from samptag.errors import UsageError
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.data.check import Survey
    from samptag.data.dataset import Dataset

app = typer.Typer(help="Check, fetch and prepare data sets.", no_args_is_help=True)

_LISTED_PROBLEMS = 10
_PROBLEMS = {
    "damaged": "damaged clips",
    "left-out": "left out",
    "missing": "missing clips",
    "short": "short clips",
    "split": "the split",
    "tag": "tags that cannot be scored",
    "unlisted": "present but not listed",
    "unreadable": "unreadable clips",
}
_INFORMATION = ("unlisted", "tag")

Root = Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder, or a manifest.")]


@app.command()
def check(
    root: Root,
    format: Format = None,
    split: Split = None,
    subset: Subset = None,
    decode: bool = typer.Option(False, "--decode", help="Decode every clip; slow, but finds truncated ones."),
    jobs: Jobs = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Show clips, splits, tags, hours, and what is missing or unreadable; exit code 1 if a clip is.

    $ samptag data check mtat/ --decode
    """
    from samptag.data.check import survey

    silence_codecs()
    dataset = open_data(root, format, split, subset, progress)
    with Bar(progress) as bar:
        found = survey(dataset, decode=decode, jobs=jobs, progress=bar)
    if as_json:
        print_json(found.to_record())
    else:
        _print(found)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def prepare(
    root: Root,
    sample_rate: int = typer.Option(22_050, min=1000, max=192_000, metavar="HZ", help="The model's rate."),
    cache: Path | None = typer.Option(None, metavar="DIR", help="Where decoded audio is kept."),
    seconds: float | None = typer.Option(None, metavar="S", min=0.1, help="Keep only the first S seconds of a clip."),
    format: Format = None,
    split: Split = None,
    subset: Subset = None,
    jobs: Jobs = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Decode a data set into the cache that training and evaluation read; prints the cache's folder.

    $ samptag data prepare mtat/ --jobs 8

    Training does this by itself; here it is done ahead, for instance on a machine without a GPU.
    """
    from samptag.data.cache import build_cache

    silence_codecs()
    dataset = open_data(root, format, split, subset, progress)
    with Bar(progress) as bar:
        built = build_cache(
            dataset,
            sample_rate=sample_rate,
            directory=cache,
            jobs=jobs,
            seconds_per_clip=seconds,
            progress=bar,
        )
    if built.left_out:
        note(f"{built.left_out} of {len(dataset.clips)} clips left out; {built.report_path} says why")
    if not as_json:
        typer.echo(built.folder)
        return
    record = {
        "schema": "samptag.prepare/1",
        "data": str(root),
        "split": {"name": dataset.split_name, "hash": built.split_hash},
        "cache": str(built.folder),
        "report": str(built.report_path),
        "sample_rate": built.sample_rate,
        "clips": len(dataset.clips) - built.left_out,
        "left_out": built.left_out,
        "hours": round(float(built.lengths.sum()) / built.sample_rate / 3600, 3),
    }
    print_json(record)


@app.command()
def download(
    name: str = typer.Argument(..., metavar="NAME", help="mtat, the one data set that can be fetched freely."),
    folder: Path = typer.Argument(..., metavar="DIR", help="Where to put it."),
    url: str | None = typer.Option(None, metavar="URL", help="Another place with the same files."),
    progress: Progress = None,
) -> None:
    """Fetch a data set and unpack it; started again, it continues where it stopped.

    $ samptag data download mtat mtat/
    """
    if name != "mtat":
        others = "MSD's audio is no longer distributed, and MTG-Jamendo has its own downloader"
        raise UsageError(f"{name!r} cannot be fetched: only mtat; {others}")
    from samptag.data.download import MTAT_URL, download_mtat

    with Bar(progress, unit="bytes") as bar:
        count = download_mtat(folder, url=(url or MTAT_URL).rstrip("/") + "/", progress=bar)
    news = counted(count, "new file") if count else "nothing was missing"
    note(f"{folder}: MagnaTagATune is complete, {news}")


@app.command()
def unpack(
    folder: Path = typer.Argument(..., metavar="DIR", help="The folder with mp3.zip.001 and the other parts."),
    progress: Progress = None,
) -> None:
    """Unpack MagnaTagATune's three-part zip without joining it first; files that exist are kept.

    $ samptag data unpack mtat/
    """
    from samptag.data.download import unpack_mtat

    with Bar(progress, unit="bytes") as bar:
        count = unpack_mtat(folder, progress=bar)
    note(f"{folder}: {counted(count, 'clip')} unpacked; the zip's parts are no longer needed")


def open_data(root: Path, format: str | None, split: str | None, subset: str | None, progress: bool | None) -> Dataset:
    """The data set, with a bar while its clips are measured."""
    from samptag.data.formats import open_dataset

    with Bar(progress) as bar:
        return open_dataset(root, format=format, split=split, subset=subset, progress=bar)


def _print(found: Survey) -> None:
    """Write tables on a terminal, else tab-separated lines, whose first cell says what the line is."""
    dataset = found.dataset
    facts = [
        ("data", str(dataset.root)),
        ("format", dataset.format),
        ("split", f"{dataset.split_name} ({dataset.split_hash})"),
        ("clips", str(len(dataset.clips))),
        ("hours", f"{sum(part.hours for part in found.parts):.2f}"),
        ("tags", str(len(dataset.tags))),
    ]
    parts = [(part.name, str(part.clips), str(part.groups), f"{part.hours:.2f}") for part in found.parts]
    tags = [(tag, category or "", *map(str, positives)) for tag, category, positives in found.tags]
    if not sys.stdout.isatty():
        problems = (("problem", problem.kind, problem.path, problem.message) for problem in found.problems)
        write_lines([*facts, *(("part", *row) for row in parts), *(("tag", *row) for row in tags), *problems])
        return
    from rich.table import Table

    console = terminal(sys.stdout)
    for table, rows in (
        (Table(show_header=False, box=None), facts),
        (Table("split", "clips", "groups", "hours"), parts),
        (Table("tag", "category", "train", "valid", "test"), tags),
    ):
        for row in rows:
            table.add_row(*row)
        console.print(table)
    kinds: dict[str, list[str]] = {}
    for problem in found.problems:
        kinds.setdefault(problem.kind, []).append(problem.message)
    for kind, messages in kinds.items():
        style = "dim" if kind in _INFORMATION else "bold"
        console.print(f"{_PROBLEMS.get(kind, kind)} ({len(messages)}):", style=style)
        for message in messages[:_LISTED_PROBLEMS]:
            console.print(f"  {message}")
        if len(messages) > _LISTED_PROBLEMS:
            console.print(f"  and {len(messages) - _LISTED_PROBLEMS} more; --json lists all")
