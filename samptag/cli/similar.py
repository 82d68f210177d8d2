"""`samptag similar`: songs that sound like others, as a playlist, records or paths."""

from __future__ import annotations

from typing import Annotated

import typer

from samptag.cli.find import Null, Output, PerArtist
from samptag.cli.library_options import (
    Db,
    Heard,
    check_output,
    complete_expression,
    give_songs,
    note_unheard,
    open_library,
)
from samptag.cli.options import Device, Json

__all__ = ["similar"]

SCHEMA = "samptag.similar/1"


def similar(
    songs: Annotated[list[str], typer.Argument(metavar="SONG...", help="Files, in the index or not.")],
    unlike: Annotated[
        list[str] | None, typer.Option("--not", metavar="SONG", help="Keep away from this song; may be repeated.")
    ] = None,
    path_to: Annotated[
        str | None, typer.Option("--path-to", metavar="SONG", help="Lead from the one SONG to this one in even steps.")
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="At most N songs.")] = 25,
    where: Annotated[
        str,
        typer.Option(
            metavar="EXPRESSION",
            help="Only songs that this is true of; see 'samptag find --help'.",
            show_default=False,
            autocompletion=complete_expression,
        ),
    ] = "",
    per_artist: PerArtist = None,
    db: Db = None,
    model: Heard = None,
    output: Output = None,
    null: Null = False,
    json: Json = False,
    device: Device = "auto",
) -> None:
    """Find the songs of the index that sound most like one or several others.

    Copies and near-identical recordings of a song come once. A song that is not in the index is heard on the spot.

    $ samptag similar song.mp3 -o radio.m3u8
    $ samptag similar first.mp3 --path-to last.mp3 -n 12 --where 'path !~ live' -o evening.m3u8
    """
    check_output(output, null=null, as_json=json)
    with open_library(db) as library:
        weights = library.weights(model)
        found = library.similar(
            songs,
            unlike=unlike or (),
            path_to=path_to,
            n=n,
            where=where,
            per_artist=per_artist,
            model=model,
            device=device,
        )
        document = {"schema": SCHEMA, "weights": {"name": weights.name, "sha256": weights.digest}}
        note_unheard(library, model)
        give_songs(found, library=library, document=document, output=output, null=null, as_json=json)
