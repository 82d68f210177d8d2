"""Options that several commands share, each written once, and what the shell completes in them.

An option of one command alone is written in its signature, as the parameter's default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import samptag
from samptag.data.formats import FORMATS
from samptag.errors import SamptagError

weights_panel = "The model"


def completion(*words: str) -> Callable[[str], list[str]]:
    """A completion of these words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_weights(incomplete: str) -> Iterator[str]:
    """Names of the registry and of the user's own imports that begin this way."""
    from samptag.pretrained import open_store

    with suppress(SamptagError):
        yield from (name for name in open_store().names if name.startswith(incomplete))


def complete_tags(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Tags of the weights named on the line that complete what follows the last comma."""
    from samptag.core.card import read_card
    from samptag.pretrained import DEFAULT, open_store

    name = context.params.get("model") or DEFAULT
    before, comma, begun = incomplete.rpartition(",")
    with suppress(SamptagError):
        store = open_store(offline=True)
        entry = store.registry.find(name)
        for tag in entry.tags.tags if entry is not None else read_card(store.resolve(name)).tags:
            if tag.casefold().startswith(begun.casefold()):
                # Bash puts the word into the line as it is.
                word = tag.replace(" ", "\\ ") if os.environ.get("_SAMPTAG_COMPLETE") == "complete_bash" else tag
                yield before + comma + word


def _complete_databases(incomplete: str) -> Iterator[str]:
    """Files and folders that may hold an index, and the user's own."""
    from samptag.library.database import default_path

    folder, _, start = incomplete.rpartition("/")
    with suppress(OSError):
        for name in sorted(os.listdir(folder or ("/" if incomplete.startswith("/") else "."))):
            path = f"{folder}/{name}" if "/" in incomplete else name
            if name.startswith(start) and os.path.isdir(path):
                yield f"{path}/"
            elif name.startswith(start) and Path(name).suffix in (".db", ".sqlite", ".sqlite3"):
                yield path
    if str(default_path()).startswith(incomplete) and default_path().is_file():
        yield str(default_path())


def _complete_heard(context: typer.Context, incomplete: str) -> Iterator[str]:
    with suppress(SamptagError), samptag.Library(context.params.get("db")) as library:
        yield from (w["name"] for w in library.status()["weights"] if w["name"].startswith(incomplete))


def words_of_index(context: typer.Context) -> Sequence[str]:
    """The words of the index that is named on the line; none if it cannot be read."""
    with suppress(SamptagError), samptag.Library(context.params.get("db")) as library:
        return library.weights(context.params.get("model")).vocabulary.tags
    return ()


def complete_expression(context: typer.Context, incomplete: str) -> list[str]:
    """The expression with its last piece completed to words of the index."""
    start = max(incomplete.rfind(mark) for mark in " (\"'") + 1
    piece = incomplete[start:].casefold()
    return [incomplete[:start] + word for word in words_of_index(context) if word.casefold().startswith(piece)]


def under(panel: str, option: Any) -> Any:
    """One of the options below (`Device`, ...) for a command whose help lists it in this panel."""
    info = copy(get_args(option)[1])
    info.rich_help_panel = panel
    return info


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
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        envvar="SAMPTAG_DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        autocompletion=completion("auto", "cpu", "cuda", "mps"),
        rich_help_panel=weights_panel,
    ),
]
Hop = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Distance between the starts of segments; 0.5 gives a finer picture, by default they touch.",
        rich_help_panel=weights_panel,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Progress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show progress on standard error; by default only on a terminal."),
]
Inputs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        min=1,
        help="Inputs decoded at the same time; by default what suits the device and the cores.",
    ),
]

# For the commands that use the library.
Db = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        envvar="SAMPTAG_DB",
        help="The index.",
        show_default="library.db in samptag's user data folder",
        autocompletion=_complete_databases,
        is_eager=True,
    ),
]
Heard = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="Use these weights' words and embeddings; songs must have been indexed with them.",
        show_default="those of the last index",
        autocompletion=_complete_heard,
    ),
]

# For the commands that read data sets.
Data = Annotated[Path | None, typer.Option(metavar="DIR", help="Data set: a folder or a manifest.")]
Format = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"The data set's layout: {', '.join(FORMATS)}; detected by default.")
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="A named split, such as mtat-pons-2018.")]
Subset = Annotated[
    str | None, typer.Option(metavar="NAME", help="MTG-Jamendo: top50tags, full, genre, instrument, moodtheme.")
]
Jobs = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads that decode audio; by default one per core.")
]
