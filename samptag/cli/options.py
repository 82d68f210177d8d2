"""How options are made, those that several commands share, and what the shell completes in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

import typer

import samptag
from samptag.data.formats import FORMATS
from samptag.errors import SamptagError


def completion(*words: str) -> Callable[[str], list[str]]:
    """What completes one of these words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_weights(incomplete: str) -> Iterator[str]:
    """Names of the registry and of the user's own imports that begin so."""
    from samptag.pretrained import open_store

    with suppress(SamptagError):
        yield from (name for name in open_store().names if name.startswith(incomplete))


def complete_tags(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Tags of the weights named on the same line that go on from what follows the last comma."""
    from samptag.core.card import read_card
    from samptag.pretrained import DEFAULT, open_store

    name = context.params.get("model") or DEFAULT
    try:
        store = open_store(offline=True)
        entry = store.registry.find(name)
        tags = entry.tags.tags if entry is not None else read_card(store.resolve(name)).tags
    except SamptagError:
        return
    before, comma, begun = incomplete.rpartition(",")
    for tag in tags:
        if tag.casefold().startswith(begun.casefold()):
            # Bash puts the word into the line as it is.
            word = tag.replace(" ", "\\ ") if os.environ.get("_SAMPTAG_COMPLETE") == "complete_bash" else tag
            yield before + comma + word


def _complete_databases(incomplete: str) -> Iterator[str]:
    """Files and folders that may hold an index, and the user's own."""
    from samptag.library.database import default_path

    folder, _, start = incomplete.rpartition("/")
    try:
        names = sorted(os.listdir(folder or ("/" if incomplete.startswith("/") else ".")))
    except OSError:
        names = []
    for name in names:
        path = f"{folder}/{name}" if "/" in incomplete else name
        if name.startswith(start) and os.path.isdir(path):
            yield f"{path}/"
        elif name.startswith(start) and Path(name).suffix in (".db", ".sqlite", ".sqlite3"):
            yield path
    if str(default_path()).startswith(incomplete) and default_path().is_file():
        yield str(default_path())


def _complete_heard(context: typer.Context, incomplete: str) -> list[str]:
    try:
        with samptag.Library(context.params.get("db")) as library:
            return [w["name"] for w in library.status()["weights"] if w["name"].startswith(incomplete)]
    except SamptagError:
        return []


def words_of_index(context: typer.Context) -> Sequence[str]:
    """The words of the index that is named on the same line; none where it cannot be read."""
    try:
        with samptag.Library(context.params.get("db")) as library:
            return library.weights(context.params.get("model")).vocabulary.tags
    except SamptagError:
        return ()


def complete_expression(context: typer.Context, incomplete: str) -> list[str]:
    """The expression with its last piece made into words of the index."""
    start = max(incomplete.rfind(mark) for mark in " (\"'") + 1
    piece = incomplete[start:].casefold()
    return [incomplete[:start] + word for word in words_of_index(context) if word.casefold().startswith(piece)]


class Panel:
    """The options that a command's help lists under one heading, each the default of its parameter."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name

    def value(self, metavar: str, help: str, *names: str, default: Any = None, **more: Any) -> Any:
        """An option that takes a value; None where it is not given, unless there is a `default`."""
        return typer.Option(default, *names, metavar=metavar, help=help, rich_help_panel=self._name, **more)

    def flag(self, *names: str, help: str, default: bool | None = False) -> Any:
        """An option that is there or not."""
        return typer.Option(default, *names, help=help, rich_help_panel=self._name)

    def shared(self, option: Any) -> Any:
        """An option that several commands share, in one whose help lists it under this heading."""
        info = copy(option)
        info.rich_help_panel = self._name
        return info


plain = Panel()
model_panel = Panel("The model")

MODEL = model_panel.value(
    "NAME|FILE",
    "Weights by name ('samptag weights list') or file; by default samplecnn-3-9-library.",
    "--model",
    "-m",
    envvar="SAMPTAG_MODEL",
    autocompletion=complete_weights,
)
DEVICE = model_panel.value(
    "DEVICE",
    "auto, cpu, cuda, cuda:N or mps.",
    default="auto",
    envvar="SAMPTAG_DEVICE",
    autocompletion=completion("auto", "cpu", "cuda", "mps"),
)
HOP = model_panel.value(
    "SECONDS", "Distance between the starts of segments, 0.5 for a finer picture; by default they touch."
)
JSON = plain.flag("--json", help="Print one JSON document.")
PROGRESS = plain.flag(
    "--progress/--no-progress", help="Show progress on standard error; by default on a terminal.", default=None
)
INPUTS = plain.value(
    "N", "Inputs decoded at the same time; by default what suits device and cores.", "--jobs", "-j", min=1
)

# Of the commands that use the library.
DB = plain.value(
    "FILE",
    "The index.",
    envvar="SAMPTAG_DB",
    show_default="library.db in samptag's folder of user data",
    autocompletion=_complete_databases,
    is_eager=True,
)
HEARD = plain.value(
    "NAME|FILE",
    "Whose words and embeddings to use, of the weights the songs were heard with.",
    "--model",
    "-m",
    show_default="those of the last index",
    autocompletion=_complete_heard,
)

# Of the commands that read data sets.
FORMAT = plain.value("NAME", f"The data set's layout: {', '.join(FORMATS)}; detected by default.")
SPLIT = plain.value("NAME", "A named split, such as mtat-pons-2018.")
SUBSET = plain.value("NAME", "MTG-Jamendo: top50tags, full, genre, instrument, moodtheme.")
JOBS = plain.value("N", "Threads; by default one a processor.", min=1)
