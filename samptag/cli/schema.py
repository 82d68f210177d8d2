"""`samptag schema`: the JSON Schema of every document that samptag prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import samptag
from samptag.errors import UsageError

# Beside the package's own modules, so no importlib.resources: importing that takes longer than reading the file.
_FOLDER = Path(samptag.__file__).parent / "schemas"


def _names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def _complete_names(incomplete: str) -> Iterator[str]:
    return (name for name in _names() if name.startswith(incomplete))


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Of the document; without it all names.", autocompletion=_complete_names),
    ] = None,
) -> None:
    """Print the JSON Schema of a document.

    $ samptag schema
    $ samptag schema tag > tag.schema.json

    A record's field "schema" names the version; fields are only ever added to it.
    """
    if name is None:
        sys.stdout.write("".join(f"{known}\n" for known in _names()))
        return
    if name not in _names():
        raise UsageError(f"there is no schema {name!r}: there is {', '.join(_names())}")
    sys.stdout.write(schema_text(name))


def schema_text(name: str) -> str:
    """The JSON Schema of a document that there is, as its file holds it."""
    return (_FOLDER / f"{name}.json").read_text(encoding="utf-8")
