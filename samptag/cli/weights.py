"""`samptag weights`: what there is, fetching it, checking it, and bringing one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samptag.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from samptag.pretrained import Store, WeightsEntry

__all__ = ["app"]

app = typer.Typer(help="List, fetch, check and import weights.", no_args_is_help=True)

_LIST_COLUMNS = (
    "name", "tags", "sample_rate", "trained_on", "licence", "roc_auc", "pr_auc", "scored_on", "installed"
)  # fmt: skip
_HEADINGS = {
    "sample_rate": "Hz",
    "trained_on": "trained on",
    "roc_auc": "ROC",
    "pr_auc": "PR",
    "scored_on": "scored on",
}
# Bundled weights need no download: they are installed when they are first used.
_NOT_INSTALLED = {"bundled": "at first use", "remote": "no"}
_VERIFY_COLUMNS = ("name", "status", "detail")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]


@app.command("list")
def list_weights(as_json: Json = False) -> None:
    """Show every name: what it is, under which licence, how well it scores, whether it is installed."""
    from samptag.pretrained import open_store

    store = open_store()
    records = [_entry_record(store, entry) for entry in store.registry.entries.values()]
    records += [_import_record(store, name) for name in store.imported_names()]
    if as_json:
        _print_json(records)
        return
    rows = [
        (
            record["name"],
            str(len(record["tags"])),
            "" if record["sample_rate"] is None else str(record["sample_rate"]),
            record["training_data"],
            record["licence"],
            *_score_cells(record["scores"]),
            "yes" if record["installed"] else record["problem"] or _NOT_INSTALLED[record["source"]],
        )
        for record in records
    ]
    _print_rows(_LIST_COLUMNS, rows)


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names that 'samptag weights list' shows.")],
    force: Annotated[bool, typer.Option("--force", help="Install again what is installed.")] = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Progress bar; by default on a terminal only.")
    ] = None,
) -> None:
    """Fetch, check, convert and install weights; prints the path of each."""
    import dataclasses

    from samptag.cli.console import download_bar
    from samptag.pretrained import open_store

    store = open_store()
    for name in names:
        with download_bar(name, asked=progress) as report:
            reporting = dataclasses.replace(store, progress=report)
            path = reporting.install(name, force=force)
            # Loading is the only full check of a converted file.
            reporting.load(name)
        typer.echo(path)


@app.command()
def path(name: Annotated[str, typer.Argument(metavar="NAME", help="A registry name or an import.")]) -> None:
    """Print where installed weights lie; bundled ones are installed for it, remote ones are not fetched."""
    from samptag.pretrained import open_store

    store = open_store()
    entry = store.registry.entries.get(name)
    if entry is not None and entry.url is not None and store.problem(entry) is not None:
        raise WeightsError(f"{name} is not installed: 'samptag weights pull {name}' fetches it")
    typer.echo(store.resolve(name))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all installed.")] = None,
    as_json: Json = False,
) -> None:
    """Read installed weights again, compare every digest and load them; exit code 3 when any is not as it should be."""
    from samptag.pretrained import open_store

    store = open_store()
    if not names:
        names = [name for name in store.registry.entries if store.present(name) is not None]
        names += store.imported_names()
    rows = [_verified(store, name) for name in names]
    if as_json:
        _print_json([dict(zip(_VERIFY_COLUMNS, row, strict=True)) for row in rows])
    else:
        _print_rows(_VERIFY_COLUMNS, rows)
    if any(status != "ok" for _, status, _ in rows):
        raise typer.Exit(WeightsError.exit_code)


@app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weights file, or a PyTorch state_dict.")],
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Registry name of that file, or a name of your own.")
    ],
    layout: Annotated[
        str | None, typer.Option(metavar="LAYOUT", help="Of a state_dict of your own: sota-sample or sota-se.")
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option(metavar="LIST|FILE", help="Its tags in output order: mtat50, msd50, jamendo50 or a file."),
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(metavar="HZ", help="What it was trained on.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence to record.")] = None,
    training_data: Annotated[str | None, typer.Option(help="Training data to record.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an import of that name.")] = False,
) -> None:
    """Check a weights file you have and install it under a name; prints its path."""
    from samptag.pretrained import open_store
    from samptag.pretrained.importing import ForeignCheckpoint, check_layout, import_file, named_tags

    store = open_store()
    foreign = None
    if layout is not None and tags is not None and sample_rate is not None:
        known = check_layout(layout)
        tag_list = named_tags(tags, registry=store.registry, layout=known)
        foreign = ForeignCheckpoint(layout=known, tags=tag_list, sample_rate=sample_rate)
    elif any(option is not None for option in (layout, tags, sample_rate)):
        raise UsageError("--layout, --tags and --sample-rate belong together: give all three or none")
    installed = import_file(
        file, name=name, store=store, foreign=foreign, licence=licence, training_data=training_data, force=force
    )
    typer.echo(installed)


def _entry_record(store: Store, entry: WeightsEntry) -> dict[str, Any]:
    problem = store.problem(entry)
    present = store.installed_path(entry.name).is_file()
    return {
        "name": entry.name,
        "description": entry.description,
        "tags": entry.tags.tags,
        "tag_categories": entry.tags.categories,
        "sample_rate": entry.sample_rate,
        "training_data": entry.training_data,
        "licence": entry.licence,
        "citation": entry.citation,
        "scores": [vars(score) for score in entry.scores],
        "source": "remote" if entry.url else "bundled",
        "url": entry.url,
        "installed": problem is None,
        "problem": problem if present else None,
        "path": str(store.installed_path(entry.name)) if problem is None else None,
    }


def _import_record(store: Store, name: str) -> dict[str, Any]:
    from samptag.core.card import read_card

    path = store.installed_path(name)
    record: dict[str, Any] = {"name": name, "source": "imported", "url": None, "scores": []}
    try:
        card = read_card(path)
    except WeightsError as error:
        unknown = {"description": "", "tags": (), "tag_categories": None, "sample_rate": None, "citation": ""}
        unread = {"training_data": "", "licence": "", "installed": False, "problem": str(error), "path": str(path)}
        return record | unknown | unread
    return record | {
        "description": card.description,
        "tags": card.tags,
        "tag_categories": card.tag_categories,
        "sample_rate": card.config.sample_rate,
        "training_data": card.training_data,
        "licence": card.licence,
        "citation": card.citation,
        "installed": True,
        "problem": None,
        "path": str(path),
    }


def _score_cells(scores: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """ROC-AUC, PR-AUC, and the split with where they were read; of the first score, for lack of room."""
    if not scores:
        return "", "", ""
    pr_auc = scores[0]["pr_auc"]
    return (
        f"{scores[0]['roc_auc']:.4f}",
        "" if pr_auc is None else f"{pr_auc:.4f}",
        f"{scores[0]['split']} (protocol {scores[0]['protocol'] or 'not known'}; {scores[0]['source']})",
    )


def _verified(store: Store, name: str) -> tuple[str, str, str]:
    """Name, status and detail of weights whose digest was compared and that were loaded."""
    try:
        return name, "ok", str(store.check(name))
    except WeightsError as error:
        return name, "failed", str(error)


def _print_json(records: Sequence[dict[str, Any]]) -> None:
    sys.stdout.write(json.dumps(records, ensure_ascii=True, indent=2) + "\n")


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal (paragraphs where it is too wide), else tab-separated cells below their column names."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(" ".join(cell.split()) for cell in row) + "\n")
        return
    from rich.console import Console
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    headings = [_HEADINGS.get(column, column) for column in columns]
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
        console.print(table)
        return
    for name, *cells in rows:
        facts = [f"{heading} {cell}" for heading, cell in zip(headings[1:], cells, strict=True) if cell]
        console.print(name, style="bold")
        console.print(Padding(", ".join(facts), (0, 0, 0, 2)))
