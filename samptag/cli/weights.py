"""`samptag weights`: what there is, fetching it, checking it, and bringing one's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from samptag import __version__
from samptag.cli.console import print_json
from samptag.cli.options import Json, Progress, complete_weights
from samptag.cli.output import binary_file
from samptag.cli.progress import progress_bar
from samptag.cli.vocabulary import has_words_to_explain, print_words, word_facts
from samptag.errors import UsageError, WeightsError
from samptag.lazy import require_extra
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.core.card import ModelCard
    from samptag.core.weights import LoadedModel
    from samptag.pretrained import Store, WeightsEntry

app = typer.Typer(help="List, fetch, check, export and import weights.", no_args_is_help=True)

SCHEMA = "samptag.weights-entry/1"
_LIST_COLUMNS = ("name", "words", "Hz", "licence", "evidence", "installed")
_WIDE = 90
_VERIFY_COLUMNS = ("name", "status", "detail")
# Bundled weights need no download: they are installed when they are first used.
_NOT_INSTALLED = {"bundled": "at first use", "remote": "no"}

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A registry name or an import.", autocompletion=complete_weights)
]
NameOrFile = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="Weights by name or file.", autocompletion=complete_weights)
]


@app.command("list")
def list_weights(as_json: Json = False) -> None:
    """Show every name: how many words it knows, its sample rate and licence, and on what it was tested.

    $ samptag weights list

    Figures stand in 'samptag weights show NAME': those of different tests cannot be compared.
    """
    from samptag.pretrained import open_store

    store = open_store()
    records = [_entry_record(store, entry) for entry in store.registry.entries.values()]
    records += [_own_record(name, store.installed_path(name)) for name in store.imported_names()]
    if as_json:
        print_json(records)
        return
    rows = [
        (
            record["name"],
            str(len(record["tags"])),
            "" if record["sample_rate"] is None else str(record["sample_rate"]),
            record["licence"],
            _evidence(record),
            _installed(record),
        )
        for record in records
    ]
    _print_rows(_LIST_COLUMNS, rows)


@app.command()
def show(
    name: NameOrFile,
    as_json: Json = False,
    filters: Annotated[
        Path | None,
        typer.Option(
            "--filters",
            metavar="FILE",
            help="Draw the spectra of the learned filters of each layer instead, to .png or .svg.",
        ),
    ] = None,
) -> None:
    """Show all that is known of weights: their figures, training data, licence and what to cite, and of their words.

    $ samptag weights show samplecnn-3-9-library
    $ samptag weights show run/model.safetensors --json
    $ samptag weights show samplecnn-3-9-mtat50 --filters filters.png
    """
    from samptag.core.card import header_if_any, read_card
    from samptag.pretrained import load_model, open_store

    if filters is not None:
        _write_filters(filters, load_model(name))
        typer.echo(filters)
        return
    store = open_store()
    entry = store.registry.find(name)
    if entry is not None:
        record, path = _entry_record(store, entry), store.present(entry.name)
    elif name in store.imported_names():
        record, path = _own_record(name, store.installed_path(name)), store.installed_path(name)
    else:
        path = store.resolve(name)  # says which names there are
        record = _own_record(read_card(path).name, path, source="file")
    if as_json:
        print_json(record)
        return
    facts = [
        ("name", f"{entry.name}, or {entry.short}" if entry is not None and entry.short else record["name"]),
        ("what", record["description"]),
        ("licence", record["licence"]),
        ("learned from", record["training_data"]),
        ("rate", "" if record["sample_rate"] is None else f"{record['sample_rate']} Hz"),
        ("installed", record["path"] if record["installed"] else _installed(record)),
        ("sha256", record["sha256"] or ""),
        ("fetched from", record["url"] or ""),
        ("cite", record["citation"]),
        *(("figures", _figures(score)) for score in record["scores"]),
    ]
    card = header_if_any(path)[0]
    explained = card is not None and has_words_to_explain(card)
    if card is not None and explained:
        facts += word_facts(card)
    else:
        facts += [(f"words: {category}" if category else "words", ", ".join(tags)) for category, tags in _words(record)]
    _print_facts([(label, text) for label, text in facts if text])
    if card is not None and explained:
        print_words(card)


def _write_filters(path: Path, loaded: LoadedModel) -> None:
    """Draw the spectra of the learned filters of each layer to a .png or .svg file."""
    from samptag.core.config import ModelConfig

    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"--filters {path}: the name must end in .png or .svg")
    config = loaded.card.config
    if not isinstance(config, ModelConfig) or config.front_end != "raw":
        raise UsageError(f"{loaded.card.name} listens through mel bands, which are not learned: it has no such filters")
    require_extra("plot", modules=("matplotlib",), purpose="a picture")
    from samptag.core.spectra import filter_spectra
    from samptag.report.pictures import draw_filters

    with binary_file(str(path)) as out:
        draw_filters(out, filter_spectra(loaded.model), title=loaded.card.name, kind=kind)


@app.command()
def export(
    name: NameOrFile,
    to: Annotated[Literal["onnx"], typer.Option("--to", metavar="onnx", help="For which runtimes.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default the weights' name and .onnx, in this folder."),
    ] = None,
) -> None:
    """Write weights for other runtimes: one input, scores and embedding as outputs; prints the path.

    $ samptag weights export samplecnn-3-9-library --to onnx

    Tags, sample rate and segment length are in the file's metadata.
    """
    from samptag.pretrained import load_model

    require_extra("onnx", modules=("onnx", "onnxscript"), purpose="ONNX")
    loaded = load_model(name)
    from samptag.core.onnx import write_onnx

    path = output or Path(f"{loaded.card.name}.{to}")
    with binary_file(str(path)) as out:
        write_onnx(out, loaded)
    typer.echo(path)


@app.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Names that 'samptag weights list' shows.", autocompletion=complete_weights
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Install again what is installed.")] = False,
    progress: Progress = None,
) -> None:
    """Fetch, check, convert and install weights; prints the path of each.

    $ samptag weights pull sota-jamendo-sample
    """
    from dataclasses import replace
    from functools import partial

    from samptag.pretrained import open_store

    store = open_store()
    for name in names:
        with progress_bar(progress, unit="bytes") as bar:
            reporting = replace(store, progress=partial(bar, name))
            path = reporting.install(name, force=force)
            # Loading is the only full check of a converted file.
            reporting.load(name)
        typer.echo(path)


@app.command()
def path(name: Name) -> None:
    """Print where installed weights lie; bundled ones are installed for it, remote ones are not fetched.

    $ samptag weights path samplecnn-3-9-library
    """
    from samptag.pretrained import open_store

    store = open_store()
    entry = store.registry.find(name)
    if entry is not None and entry.url is not None and store.problem(entry) is not None:
        raise WeightsError(f"{name} is not installed: 'samptag weights pull {name}' fetches it")
    typer.echo(store.resolve(name))


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="By default all that are installed.", autocompletion=complete_weights),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read installed weights again, compare every digest and load them; exit code 3 when any is not as it should be.

    $ samptag weights verify
    """
    from samptag.pretrained import open_store

    store = open_store()
    if not names:
        names = [name for name in store.registry.entries if store.present(name) is not None]
        names += store.imported_names()
    rows = [_verified(store, name) for name in names]
    if as_json:
        print_json([_verify_record(store, row) for row in rows])
    else:
        _print_rows(_VERIFY_COLUMNS, rows)
    if any(status != "ok" for _, status, _ in rows):
        raise typer.Exit(WeightsError.exit_code)


@app.command("import")
def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A weights file, a PyTorch state_dict, or musicnn's wheel or folder.")
    ],
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Registry name of that file, or a name of your own.")
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT", help="Of a checkpoint of your own: sota-{sample,se,fcn,musicnn}, tf-{musicnn,vgg}."
        ),
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option(metavar="LIST|FILE", help="Its tags in output order: mtat50, msd50, jamendo50 or a file."),
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(metavar="HZ", help="What it was trained on.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Licence to record.")] = None,
    training_data: Annotated[str | None, typer.Option(metavar="TEXT", help="Training data to record.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an import of that name.")] = False,
) -> None:
    """Check a weights file you have and install it under a name; prints its path.

    $ samptag weights import run/model.safetensors --as mine
    $ samptag weights import best_model.pth --as won --layout sota-sample --tags mtat50 --sample-rate 16000
    """
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
    from samptag.core.card import header_if_any

    problem = store.problem(entry)
    present = store.installed_path(entry.name).is_file()
    card, digest = header_if_any(store.present(entry.name))
    return {
        "schema": SCHEMA,
        "name": entry.name,
        "description": entry.description,
        "tags": entry.tags.tags,
        "tag_categories": entry.tags.categories or (None if card is None else card.tag_categories),
        **_words_known(card),
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
        "sha256": digest,
        "version": __version__,
    }


def _own_record(name: str, path: Path, *, source: str = "imported") -> dict[str, Any]:
    from samptag.core.card import read_header

    card, digest, problem = None, None, None
    try:
        card, digest = read_header(path)
    except WeightsError as error:
        problem = str(error)
    return {
        "schema": SCHEMA,
        "name": name,
        "description": getattr(card, "description", ""),
        "tags": () if card is None else card.tags,
        "tag_categories": None if card is None else card.tag_categories,
        **_words_known(card),
        "sample_rate": None if card is None else card.config.sample_rate,
        **{field: getattr(card, field, "") for field in ("training_data", "licence", "citation")},
        "scores": [],
        "source": source,
        "url": None,
        "installed": card is not None,
        "problem": problem,
        "path": str(path),
        "sha256": digest,
        "version": __version__,
    }


def _words_known(card: ModelCard | None) -> dict[str, Any]:
    """What a card says of its words beside their categories, as JSON holds it."""
    values = {} if card is None else card.to_dict()
    return {name: values.get(name) for name in ("cutoffs", "cutoff_evidence", "evidence", "concepts")}


def _installed(record: Mapping[str, Any]) -> str:
    return "yes" if record["installed"] else record["problem"] or _NOT_INSTALLED[record["source"]]


def _figures(score: Mapping[str, Any]) -> str:
    """One test's figures, with the name of the test."""
    pr_auc = "" if score["pr_auc"] is None else f", PR-AUC {score['pr_auc']:.4f}"
    return f"ROC-AUC {score['roc_auc']:.4f}{pr_auc} on {_test(score)}"


def _evidence(record: Mapping[str, Any]) -> str:
    """On what the whole was tested, else how many words were by what."""
    if record["scores"]:
        return "; ".join(map(_test, record["scores"]))
    kinds = [evidence["kind"] for evidence in (record["evidence"] or {}).values()]
    counts = {"people's tags": kinds.count("human"), "its teachers": kinds.count("teachers")}
    return ", ".join(f"{counted(count, 'word')} by {name}" for name, count in counts.items() if count) or "none"


def _test(score: Mapping[str, Any]) -> str:
    """On what a score was measured, how, and who says so."""
    protocol = f"protocol {score['protocol']}; " if score["protocol"] else ""
    return f"{score['split']} ({protocol}{score['source']})"


def _words(record: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The tags of each category, or all of them under no name."""
    groups: dict[str, list[str]] = {}
    for tag, category in zip(record["tags"], record["tag_categories"] or [""] * len(record["tags"]), strict=True):
        groups.setdefault(category, []).append(tag)
    return list(groups.items())


def _verified(store: Store, name: str) -> tuple[str, str, str]:
    """Name, status and detail of weights whose digest was compared and that were loaded."""
    try:
        return name, "ok", str(store.check(name))
    except WeightsError as error:
        return name, "failed", str(error)


def _verify_record(store: Store, row: tuple[str, str, str]) -> dict[str, Any]:
    from samptag.core.card import header_if_any

    record: dict[str, Any] = dict(zip(_VERIFY_COLUMNS, row, strict=True))
    return {**record, "sha256": header_if_any(store.present(record["name"]))[1], "version": __version__}


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, else tab-separated cells below their column names."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(" ".join(cell.split()) for cell in row) + "\n")
        return
    from rich.table import Table

    from samptag.cli.table import terminal

    console = terminal(sys.stdout)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    # On a narrow terminal these would leave the others no room; 'show' has them too.
    shown = [place for place, name in enumerate(columns) if name not in ("Hz", "evidence") or console.width >= _WIDE]
    for place in shown:
        table.add_column(columns[place], overflow="fold", no_wrap=columns[place] in ("name", "words", "Hz"))
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    console.print(table)


def _print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Labels and texts side by side on a terminal, else a tab between them."""
    if not sys.stdout.isatty():
        for label, text in facts:
            sys.stdout.write(f"{label}\t{' '.join(text.split())}\n")
        return
    from rich.table import Table

    from samptag.cli.table import terminal

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in facts:
        grid.add_row(label, text)
    terminal(sys.stdout).print(grid)
