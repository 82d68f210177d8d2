"""What the commands of the library share: options, their completion, and how songs are given out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samptag.errors import SamptagError, UsageError

if TYPE_CHECKING:
    from samptag.library import Library, Song

__all__ = [
    "Db",
    "Heard",
    "check_output",
    "complete_expression",
    "complete_sort",
    "give_songs",
    "note_unheard",
    "open_library",
]


def open_library(db: str | None) -> Library:
    """The library of ``--db``, of the user where it is not given."""
    from samptag.library import Library

    return Library(db)


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


def _heard_weights(context: typer.Context, incomplete: str) -> list[str]:
    try:
        with open_library(context.params.get("db")) as library:
            return [w["name"] for w in library.status()["weights"] if w["name"].startswith(incomplete)]
    except SamptagError:
        return []


def _words(context: typer.Context) -> Sequence[str]:
    try:
        with open_library(context.params.get("db")) as library:
            return library.weights(context.params.get("model")).vocabulary.tags
    except SamptagError:
        return ()


def complete_expression(context: typer.Context, incomplete: str) -> list[str]:
    """The expression with its last piece made into words of the index."""
    start = max(incomplete.rfind(mark) for mark in " (\"'") + 1
    piece = incomplete[start:].casefold()
    return [incomplete[:start] + word for word in _words(context) if word.casefold().startswith(piece)]


def complete_sort(context: typer.Context, incomplete: str) -> list[str]:
    """Words, fields and "random", with the minus that was typed."""
    sign = "-" if incomplete.startswith("-") else ""
    names = [*_words(context), "artist", "title", "album", "path", "duration", "random"]
    return [sign + name for name in names if name.startswith(incomplete.removeprefix("-"))]


Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="FILE",
        envvar="SAMPTAG_DB",
        help="The index.",
        show_default="library.db in samptag's folder of user data",
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
        help="Whose words and embeddings to use, of the weights the songs were heard with.",
        show_default="those of the last index",
        autocompletion=_heard_weights,
    ),
]


def check_output(output: str | None, *, null: bool, as_json: bool) -> None:
    """Refuse an output that no format goes by.

    Raises
    ------
    UsageError
    """
    if output is not None and Path(output).suffix.lower() not in (".m3u8", ".m3u", ".nsp", ".jsonl"):
        raise UsageError(f"--output {output}: the name must end in .m3u8, .m3u, .nsp or .jsonl")
    if sum((output is not None, null, as_json)) > 1:
        raise UsageError("--output, -0 and --json exclude each other")


def note_unheard(library: Library, model: str | None) -> None:
    """Say how many songs of the index a search leaves out because they were not heard with its weights."""
    heard, songs = library.heard(model)
    if heard < songs:
        from samptag.cli.console import note
        from samptag.pretrained import load_registry
        from samptag.text import counted

        name = library.weights(model).name
        command = f"index --model {name}'" if name in load_registry().entries else "index' with these weights"
        count = f"{heard} of {counted(songs, 'song')} {'was' if heard == 1 else 'were'}"
        note(f"{count} heard with {name}; 'samptag {command} hears the others")


def give_songs(
    songs: Sequence[Song],
    *,
    library: Library,
    document: dict[str, Any],
    output: str | None,
    null: bool,
    as_json: bool,
    shown: Sequence[str] = (),
) -> None:
    """Songs to where they were asked for: a playlist, records, or paths on standard output.

    Parameters
    ----------
    songs : sequence of Song
    library : Library
    document : dict
        What ``--json`` prints around them.
    output, null, as_json
        The options.
    shown : sequence of str
        Words whose scores a terminal shows beside the songs.
    """
    if as_json:
        from samptag.cli.console import print_records
        from samptag.library.songs import song_record

        print_records(document, "songs", map(song_record, songs))
    elif output is not None:
        _write_file(songs, library, document, output)
    elif sys.stdout.isatty() and not null:
        _show(songs, shown)
    else:
        from samptag.cli.output import explain_write_errors

        end = b"\0" if null else b"\n"
        with explain_write_errors("standard output"):
            for song in songs:
                sys.stdout.buffer.write(os.fsencode(song.path) + end)
            sys.stdout.buffer.flush()


def _write_file(songs: Sequence[Song], library: Library, document: dict[str, Any], output: str) -> None:
    from samptag.cli.console import note
    from samptag.cli.output import binary_file
    from samptag.library.playlists import m3u8_bytes, nsp_bytes
    from samptag.library.songs import song_record
    from samptag.text import counted

    suffix = Path(output).suffix.lower()
    content: Iterable[bytes]
    if suffix == ".jsonl":
        content = (json.dumps(song_record(song)).encode() + b"\n" for song in songs)
    elif suffix == ".nsp":
        comment = f"samptag: {document.get('expression') or 'songs like others'}"
        content = [nsp_bytes(songs, folders=library.folders(), name=Path(output).stem, comment=comment)]
    else:
        content = [m3u8_bytes(songs, folder=os.path.dirname(os.path.abspath(output)))]
    with binary_file(output) as file:
        file.writelines(content)
    if sys.stderr is not None and sys.stderr.isatty():
        note(f"{counted(len(songs), 'song')} in {output}")


def _show(songs: Iterable[Song], shown: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from samptag.cli.table import clock
    from samptag.text import printable

    console = Console(markup=False, highlight=False, emoji=False)
    for song in songs:
        facts = [clock(song.duration)]
        if song.similarity is not None:
            facts.append(f"alike {song.similarity:.2f}")
        facts += [f"{word} {song.scores[word]:.2f}" for word in shown]
        console.print(Text.assemble((song.label, "bold cyan"), "  ", (" · ".join(facts), "dim")), no_wrap=True)
        console.print(Text(f"  {printable(song.path)}", style="bright_black"), soft_wrap=True)
