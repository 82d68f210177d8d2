"""Options that several commands share, each written once, and the names that the shell can complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from samptag.data.formats import FORMATS

weights_panel = "The model"


def complete_weights(incomplete: str) -> Iterator[str]:
    """Names of the registry and of the user's own imports that begin so."""
    from samptag.errors import SamptagError
    from samptag.pretrained import open_store

    try:
        store = open_store()
    except SamptagError:
        return
    yield from (name for name in (*store.registry.entries, *store.imported_names()) if name.startswith(incomplete))


def complete_tags(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Tags of the weights named on the same line that go on from what follows the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    for tag in _tags_of(context.params.get("model")):
        if tag.casefold().startswith(begun.casefold()):
            # Bash puts the word into the line as it is.
            word = tag.replace(" ", "\\ ") if os.environ.get("_SAMPTAG_COMPLETE") == "complete_bash" else tag
            yield before + comma + word


def _tags_of(model: str | None) -> tuple[str, ...]:
    """The tags of weights that are installed or known, without loading them."""
    from samptag.core.card import read_card
    from samptag.errors import SamptagError
    from samptag.pretrained import DEFAULT, open_store

    try:
        store = open_store(offline=True)
        name = model or DEFAULT
        entry = store.registry.find(name)
        return entry.tags.tags if entry is not None else read_card(store.resolve(name)).tags
    except SamptagError:
        return ()


def _complete_devices(incomplete: str) -> Iterator[str]:
    return (name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete))


def device_option(panel: str) -> Any:
    """``--device``, in a command whose help lists it in this panel."""
    return typer.Option(
        "--device",
        metavar="DEVICE",
        envvar="SAMPTAG_DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        autocompletion=_complete_devices,
        rich_help_panel=panel,
    )


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        envvar="SAMPTAG_MODEL",
        help="Weights by name ('samptag weights list') or file; by default samplecnn-3-9-library.",
        autocompletion=complete_weights,
        rich_help_panel=weights_panel,
    ),
]
Device = Annotated[str, device_option(weights_panel)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Progress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show progress on standard error; by default on a terminal."),
]

# Of the commands that read data sets.
Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help=f"{', '.join(FORMATS)}; detected by default.")
]
Split = Annotated[str | None, typer.Option("--split", metavar="NAME", help="A named split, such as mtat-pons-2018.")]
Subset = Annotated[
    str | None,
    typer.Option("--subset", metavar="NAME", help="MTG-Jamendo: top50tags, full, genre, instrument, moodtheme."),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Threads; by default one a processor.")]
