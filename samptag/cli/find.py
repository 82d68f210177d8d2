"""`samptag find`: the songs that an expression is true of, as a playlist, records or paths."""

from __future__ import annotations

from typing import Annotated

import typer

from samptag.cli.library_options import (
    Db,
    Heard,
    check_output,
    complete_expression,
    complete_sort,
    give_songs,
    note_unheard,
    open_library,
)
from samptag.cli.options import Json

__all__ = ["find"]

SCHEMA = "samptag.find/1"

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a playlist (.m3u8, .m3u; .nsp for Navidrome) or records (.jsonl) instead of paths.",
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="End each path with NUL, for xargs -0.")]
PerArtist = Annotated[int | None, typer.Option(metavar="N", min=1, help="At most N songs of one artist.")]


def find(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPRESSION",
            help="Words and numbers joined by and, or, not; see below.",
            autocompletion=complete_expression,
        ),
    ] = "",
    db: Db = None,
    model: Heard = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="A word (highest score first), a field, or random; with - in front the other way round.",
            show_default="by path",
            autocompletion=complete_sort,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same random order in every run.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most N songs.")] = None,
    per_artist: PerArtist = None,
    output: Output = None,
    null: Null = False,
    json: Json = False,
) -> None:
    """Find songs in the index by what they sound like and what they are called.

    An expression compares words with scores from 0 to 1 (piano > .2); a word alone is true past its cut-off. Fields are
    artist, title, album, path (with = != ~ !~, where ~ means contains) and duration (seconds). Without an expression
    all songs are found.

    $ samptag find 'piano > .2 and not "female vocals"' -o quiet.m3u8
    $ samptag find 'techno and duration < 300' --sort techno -n 20
    """
    check_output(output, null=null, as_json=json)
    with open_library(db) as library:
        weights = library.weights(model)
        songs = library.find(expression, model=model, sort=sort, limit=limit, per_artist=per_artist, seed=seed)
        condition = library.condition(expression, model=model)
        document = {
            "schema": SCHEMA,
            "expression": expression,
            "weights": {"name": weights.name, "sha256": weights.digest},
            "cutoffs": {weights.vocabulary.words[p].tag: weights.vocabulary.cutoff(p) for p in condition.bare},
        }
        if condition.bare and not weights.vocabulary.has_cutoffs:
            from samptag.cli.console import note
            from samptag.library.words import DEFAULT_CUTOFF

            note(
                f"the weights {weights.name} store no cut-offs: a word alone means a score of at least {DEFAULT_CUTOFF}"
            )
        shown = [weights.vocabulary.words[place].tag for place in condition.words]
        note_unheard(library, model)
        give_songs(songs, library=library, document=document, output=output, null=null, as_json=json, shown=shown)
