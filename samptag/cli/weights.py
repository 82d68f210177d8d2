"""`samptag weights`: listing, fetching, checking and exporting weights, and importing one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from samptag import __version__
from samptag.cli.console import Bar, print_json, terminal, write_lines
from samptag.cli.options import Json, Progress, complete_weights
from samptag.cli.output import binary_file, known_suffix
from samptag.errors import UsageError, WeightsError
from samptag.lazy import require_extra
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.core.card import ModelCard
    from samptag.core.weights import LoadedModel
    from samptag.pretrained import Store

app = typer.Typer(help="List, fetch, check, export and import weights.", no_args_is_help=True)

_WIDE = 90
# Bundled weights need no download: they are installed when they are first used.
_NOT_INSTALLED = {"bundled": "at first use", "remote": "no"}
_UNVERIFIED = "unverified"
# What the figures of words mean, by the kind of their evidence.
_MEANINGS = {
    "human": (
        "people's tags",
        "ROC-AUC",
        "how often a track with the word scores higher than one without it; .50 is chance. In brackets: 95 % intervals",
    ),
    "teachers": (
        "its teachers",
        "correlation",
        "1 if the word's scores rise and fall with its teachers', on music not learned from; 0 is chance",
    ),
}

_named = partial(typer.Argument, autocompletion=complete_weights)
_one = _named(..., metavar="NAME|FILE", help="Weights by name or file.")


@app.command("list")
def list_weights(as_json: Json = False) -> None:
    """List all weights: how many words they know, their sample rate and licence, and what they were tested on.

    $ samptag weights list

    'samptag weights show NAME' prints the figures; those of different tests cannot be compared.
    """
    from samptag.pretrained import open_store

    store = open_store()
    records = [_record(store, name) for name in store.names]
    if as_json:
        print_json(records)
        return
    _print_rows(
        ("name", "words", "Hz", "licence", "evidence", "installed"),
        [
            (r["name"], str(len(r["tags"])), str(r["sample_rate"] or ""), r["licence"], _evidence(r), _installed(r))
            for r in records
        ],
    )


@app.command()
def show(
    name: str = _one,
    as_json: Json = False,
    filters: Path | None = typer.Option(
        None, metavar="FILE", help="Instead draw the spectra of each layer's learned filters, to .png or .svg."
    ),
) -> None:
    """Show all that is known about weights and their words: figures, training data, licence, and what to cite.

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
    if entry is not None or name in store.imported_names():
        known = name if entry is None else entry.name
        record, path = _record(store, known), store.present(known)
    else:
        path = store.resolve(name)  # says which names there are
        record = _record(store, read_card(path).name, file=path)
    if as_json:
        print_json(record)
        return
    facts = [
        ("name", f"{entry.name}, or {entry.short}" if entry is not None and entry.short else record["name"]),
        ("what", record["description"]),
        ("licence", record["licence"]),
        ("learned from", record["training_data"]),
        ("rate", record["sample_rate"] and f"{record['sample_rate']} Hz"),
        ("installed", record["path"] if record["installed"] else _installed(record)),
        ("sha256", record["sha256"]),
        ("fetched from", record["url"]),
        ("cite", record["citation"]),
        *(("figures", _figures(score)) for score in record["scores"]),
    ]
    card = header_if_any(path)[0]
    if card is not None and (card.cutoffs or card.evidence or card.concepts):
        _print_facts([*facts, *_word_facts(card)])
        _print_words(card)
        return
    groups: dict[str, list[str]] = {}
    for tag, category in zip(record["tags"], record["tag_categories"] or [""] * len(record["tags"]), strict=True):
        groups.setdefault(f"words: {category}" if category else "words", []).append(tag)
    _print_facts([*facts, *((label, ", ".join(tags)) for label, tags in groups.items())])


def _write_filters(path: Path, loaded: LoadedModel) -> None:
    """Draw the spectra of the learned filters of each layer to a .png or .svg file."""
    from samptag.core.config import ModelConfig

    kind = known_suffix("--filters", path, ("png", "svg"))
    config = loaded.card.config
    if not isinstance(config, ModelConfig) or config.front_end != "raw":
        raise UsageError(f"{loaded.card.name} hears mel bands, which are not learned: it has no filters to draw")
    require_extra("plot", modules=("matplotlib",), purpose="a picture")
    from samptag.core.spectra import filter_spectra
    from samptag.report.pictures import draw_filters

    with binary_file(str(path)) as out, Bar(None) as bar:
        spectra = filter_spectra(loaded.model, progress=bar)
        draw_filters(out, spectra, title=loaded.card.name, kind=kind)


@app.command()
def export(
    name: str = _one,
    to: Literal["onnx"] = typer.Option(..., metavar="onnx", help="The format."),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="FILE", help="By default the weights' name with .onnx, in this folder."
    ),
) -> None:
    """Write weights for other runtimes, with one input and the outputs scores and embedding; prints the path.

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
    names: list[str] = _named(..., metavar="NAME...", help="Names that 'samptag weights list' shows."),
    force: bool = typer.Option(False, "--force", help="Install even what is installed already."),
    progress: Progress = None,
) -> None:
    """Fetch, check, convert and install weights; prints the path of each.

    $ samptag weights pull sota-jamendo-sample
    """
    from samptag.pretrained import open_store

    with Bar(progress, unit="bytes") as bar:
        store = open_store(progress=bar)
        for name in names:
            path = store.install(name, force=force)
            # Loading is the only full check of a converted file.
            store.load(name)
            with bar.aside():
                typer.echo(path)


@app.command()
def path(name: str = _named(..., metavar="NAME", help="A registry name or an import.")) -> None:
    """Print where weights are installed; bundled ones are installed first, remote ones are not fetched.

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
    names: list[str] | None = _named(None, metavar="[NAME]...", help="By default all installed weights."),
    as_json: Json = False,
) -> None:
    """Read installed weights again, compare every digest and load them; exit code 3 if one fails.

    $ samptag weights verify
    """
    from samptag.core.card import header_if_any
    from samptag.pretrained import open_store

    store = open_store()
    if not names:
        names = [name for name in store.registry.entries if store.present(name) is not None]
        names += store.imported_names()
    found = []
    for name in names:
        try:
            status, detail = "ok", str(store.check(name))
        except WeightsError as error:
            status, detail = "failed", str(error)
        sha256 = header_if_any(store.present(name))[1]
        found.append({"name": name, "status": status, "detail": detail, "sha256": sha256, "version": __version__})
    if as_json:
        print_json(found)
    else:
        columns = ("name", "status", "detail")
        _print_rows(columns, [[str(record[column]) for column in columns] for record in found])
    if any(record["status"] != "ok" for record in found):
        raise typer.Exit(WeightsError.exit_code)


@app.command("import")
def import_weights(
    file: Path = typer.Argument(
        ..., metavar="FILE", help="A weights file, a PyTorch state_dict, or musicnn's wheel or folder."
    ),
    name: str = typer.Option(..., "--as", metavar="NAME", help="Registry name of that file, or a name of your own."),
    layout: str | None = typer.Option(
        None, metavar="LAYOUT", help="Layout of your own checkpoint: sota-{sample,se,fcn,musicnn}, tf-{musicnn,vgg}."
    ),
    tags: str | None = typer.Option(
        None, metavar="LIST|FILE", help="Its tags in output order: mtat50, msd50, jamendo50 or a file."
    ),
    sample_rate: int | None = typer.Option(None, metavar="HZ", help="Sample rate it was trained at."),
    licence: str | None = typer.Option(None, metavar="TEXT", help="Licence to record."),
    training_data: str | None = typer.Option(None, metavar="TEXT", help="Training data to record."),
    force: bool = typer.Option(False, "--force", help="Replace an import of that name."),
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
        tag_list = named_tags(tags, registry=store.registry)
        foreign = ForeignCheckpoint(layout=known, tags=tag_list, sample_rate=sample_rate)
    elif any(option is not None for option in (layout, tags, sample_rate)):
        raise UsageError("--layout, --tags and --sample-rate belong together: give all three or none")
    installed = import_file(
        file, name=name, store=store, foreign=foreign, licence=licence, training_data=training_data, force=force
    )
    typer.echo(installed)


def _record(store: Store, name: str, *, file: Path | None = None) -> dict[str, Any]:
    """All that is known about weights: the registry's, an import, or those in a `file`."""
    from samptag.core.card import header_if_any, read_header

    path = file or store.installed_path(name)
    entry = None if file else store.registry.entries.get(name)
    card, digest, problem = None, None, None
    if entry is not None:
        card, digest = header_if_any(store.present(name))
        problem, source = store.problem(entry), "remote" if entry.url else "bundled"
    else:
        source = "file" if file else "imported"
        try:
            card, digest = read_header(path)
        except WeightsError as error:
            problem = str(error)
    # What a card says about its words besides their categories, as in JSON.
    of_words = {} if card is None else card.to_dict()
    return {
        "schema": "samptag.weights-entry/1",
        "name": name,
        "description": getattr(entry or card, "description", ""),
        "tags": entry.tags.tags if entry else card.tags if card else (),
        "tag_categories": (entry and entry.tags.categories) or (card and card.tag_categories),
        **{field: of_words.get(field) for field in ("cutoffs", "cutoff_evidence", "evidence", "concepts")},
        "sample_rate": entry.sample_rate if entry else card and card.config.sample_rate,
        **{field: getattr(entry or card, field, "") for field in ("training_data", "licence", "citation")},
        "scores": [vars(score) for score in entry.scores] if entry else [],
        "source": source,
        "url": entry and entry.url,
        "installed": problem is None,
        "problem": problem if entry is None or path.is_file() else None,
        "path": str(path) if problem is None or entry is None else None,
        "sha256": digest,
        "version": __version__,
    }


def _installed(record: Mapping[str, Any]) -> str:
    return "yes" if record["installed"] else record["problem"] or _NOT_INSTALLED[record["source"]]


def _figures(score: Mapping[str, Any]) -> str:
    """One test's figures, with the name of the test."""
    pr_auc = "" if score["pr_auc"] is None else f", PR-AUC {score['pr_auc']:.4f}"
    return f"ROC-AUC {score['roc_auc']:.4f}{pr_auc} on {_test(score)}"


def _evidence(record: Mapping[str, Any]) -> str:
    """What the whole was tested on, else how many words were tested by what."""
    if record["scores"]:
        return "; ".join(map(_test, record["scores"]))
    kinds = [evidence["kind"] for evidence in (record["evidence"] or {}).values()]
    counts = {label: kinds.count(kind) for kind, (label, _, _) in _MEANINGS.items()}
    return ", ".join(f"{counted(count, 'word')} by {label}" for label, count in counts.items() if count) or "none"


def _test(score: Mapping[str, Any]) -> str:
    """What a score was measured on, how, and who says so."""
    protocol = f"protocol {score['protocol']}; " if score["protocol"] else ""
    return f"{score['split']} ({protocol}{score['source']})"


def _word_facts(card: ModelCard) -> Iterable[tuple[str, str]]:
    """What all words have in common, as labels and texts: what they were tested on, and what the figures mean."""
    tested = [*(card.evidence or {}).values(), *(concept.evidence for concept in (card.concepts or {}).values())]
    for kind, (label, figure, meaning) in _MEANINGS.items():
        sources = dict.fromkeys(evidence.source for evidence in tested if evidence.kind == kind)
        yield from ((label, source) for source in sources)
        if sources:
            yield figure, meaning


def _print_words(card: ModelCard) -> None:
    """Write a line for each word, with its evidence and its cut-off, and one for each concept."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for tag, category in zip(card.tags, card.tag_categories or ("words",) * len(card.tags), strict=True):
        known, cutoff = (card.evidence or {}).get(tag), (card.cutoffs or {}).get(tag)
        limit = ""
        if cutoff is not None:
            right = (card.cutoff_evidence or {}).get(tag)
            limit = f"{cutoff:.2f}".removeprefix("0") + (f", {right.text}" if right else "")
        groups.setdefault(category, []).append((tag, known.text if known else _UNVERIFIED, limit))
    for name, concept in (card.concepts or {}).items():
        words = ", ".join(concept.tags) + (f" against {', '.join(concept.against)}" if concept.against else "")
        groups.setdefault("together", []).append((name, f"{concept.evidence.text} ({words})", ""))
    if not sys.stdout.isatty():
        write_lines(("word", category, *line) for category, lines in groups.items() for line in lines)
        return
    from rich.text import Text

    rows: list[tuple[Any, ...]] = []
    for category, lines in groups.items():
        rows.append((Text(category, style="bold cyan"),))
        for word, evidence, limit in lines:
            rows.append((f"  {word}", Text(evidence, style="dim" if evidence == _UNVERIFIED else ""), limit))
    _print_table(rows, *({"header": heading, "overflow": "fold"} for heading in ("", "evidence", "cut-off")))


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table on a terminal, else tab-separated cells below their column names."""
    if not sys.stdout.isatty():
        write_lines((columns, *rows))
        return
    # On a narrow terminal these would leave the others no room; 'show' has them too.
    wide = terminal(sys.stdout).width >= _WIDE
    shown = [place for place, name in enumerate(columns) if wide or name not in ("Hz", "evidence")]
    styles = (
        {"header": columns[place], "overflow": "fold", "no_wrap": columns[place] in ("name", "words", "Hz")}
        for place in shown
    )
    _print_table(([row[place] for place in shown] for row in rows), *styles)


def _print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Write labels and the texts that there are, side by side on a terminal, else with a tab between them."""
    said = [(label, text) for label, text in facts if text]
    if sys.stdout.isatty():
        _print_table(said, {"style": "dim", "no_wrap": True}, {"overflow": "fold"}, show_header=False)
    else:
        write_lines(said)


def _print_table(rows: Iterable[Sequence[Any]], *columns: Mapping[str, Any], show_header: bool = True) -> None:
    """Draw rows on a terminal, in columns as Rich's `Table.add_column` describes them."""
    from rich.table import Table

    table = Table(box=None, show_header=show_header, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(**column)
    for row in rows:
        table.add_row(*row)
    terminal(sys.stdout).print(table)
