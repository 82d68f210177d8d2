"""`samptag find` and `samptag similar`: songs of the index, given out as a playlist, records or paths."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import samptag
from samptag.cli.console import note, print_records, terminal
from samptag.cli.options import Db, Device, Heard, Json, complete_expression, words_of_index
from samptag.cli.output import binary_file, explain_write_errors, known_suffix, silence_codecs
from samptag.errors import UsageError
from samptag.text import clock, counted, printable

if TYPE_CHECKING:
    from samptag.library import Library, Song


def _complete_sort(context: typer.Context, incomplete: str) -> list[str]:
    """Words, fields and "random", with the minus that was typed."""
    sign = "-" if incomplete.startswith("-") else ""
    names = [*words_of_index(context), "artist", "title", "album", "path", "duration", "random"]
    return [sign + name for name in names if name.startswith(incomplete.removeprefix("-"))]


Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a playlist (.m3u8, .m3u; .nsp for Navidrome) or records (.jsonl) instead of printing paths.",
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="End each path with NUL, for xargs -0.")]
PerArtist = Annotated[int | None, typer.Option(metavar="N", min=1, help="At most N songs per artist.")]


def find(
    expression: str = typer.Argument(
        "",
        metavar="EXPRESSION",
        help="Words and numbers joined by and, or, not; see above.",
        autocompletion=complete_expression,
    ),
    db: Db = None,
    model: Heard = None,
    sort: str | None = typer.Option(
        None,
        metavar="WORD",
        help="A word (highest score first), a field, or random; a - in front reverses the order.",
        show_default="by path",
        autocompletion=_complete_sort,
    ),
    seed: int | None = typer.Option(None, metavar="N", help="Give the same random order in every run."),
    limit: int | None = typer.Option(None, "--limit", "-n", metavar="N", min=1, help="At most N songs."),
    per_artist: PerArtist = None,
    output: Output = None,
    null: Null = False,
    as_json: Json = False,
) -> None:
    """Find songs in the index by what they sound like and what they are called.

    An expression compares words with scores from 0 to 1 (piano > .2); a word alone is true past its cut-off. Fields are
    artist, title, album, path (with = != ~ !~, where ~ means contains) and duration (seconds). Without an expression,
    all songs are found.

    $ samptag find 'piano > .2 and not "female vocals"' -o quiet.m3u8
    $ samptag find 'techno and duration < 300' --sort techno -n 20
    """
    _check_output(output, null=null, as_json=as_json)
    with samptag.Library(db) as library:
        weights = library.weights(model)
        songs = library.find(expression, model=model, sort=sort, limit=limit, per_artist=per_artist, seed=seed)
        condition = library.condition(expression, model=model)
        document = {
            "schema": "samptag.find/1",
            "expression": expression,
            "weights": {"name": weights.name, "sha256": weights.digest},
            "cutoffs": {weights.vocabulary.words[p].tag: weights.vocabulary.cutoff(p) for p in condition.bare},
        }
        if condition.bare and not weights.vocabulary.has_cutoffs:
            from samptag.library.words import DEFAULT_CUTOFF

            meant = f"a word alone means a score of at least {DEFAULT_CUTOFF}"
            note(f"the weights {weights.name} store no cut-offs: {meant}")
        shown = [weights.vocabulary.words[place].tag for place in condition.words]
        _give_songs(songs, library, model, document, shown, output=output, null=null, as_json=as_json)


def similar(
    songs: list[str] = typer.Argument(..., metavar="SONG...", help="Files, in the index or not."),
    unlike: list[str] | None = typer.Option(
        None, "--not", metavar="SONG", help="Keep away from this song; may be repeated."
    ),
    path_to: str | None = typer.Option(None, metavar="SONG", help="Lead from SONG to this one in even steps."),
    n: int = typer.Option(25, "-n", metavar="N", min=1, help="At most N songs."),
    where: str = typer.Option(
        "",
        metavar="EXPRESSION",
        help="Only songs for which this is true; see 'samptag find --help'.",
        show_default=False,
        autocompletion=complete_expression,
    ),
    per_artist: PerArtist = None,
    db: Db = None,
    model: Heard = None,
    output: Output = None,
    null: Null = False,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Find the songs of the index that sound most like one or several others.

    Copies and near-identical recordings of a song appear once. A song that is not in the index is listened to
    on the spot.

    $ samptag similar song.mp3 -o radio.m3u8
    $ samptag similar first.mp3 --path-to last.mp3 -n 12 --where 'path !~ live' -o evening.m3u8
    """
    _check_output(output, null=null, as_json=as_json)
    silence_codecs()
    with samptag.Library(db) as library:
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
        document = {"schema": "samptag.similar/1", "weights": {"name": weights.name, "sha256": weights.digest}}
        _give_songs(found, library, model, document, output=output, null=null, as_json=as_json)


def _check_output(output: str | None, *, null: bool, as_json: bool) -> None:
    """Refuse an output whose name ends in no known suffix, and several outputs."""
    if output is not None:
        known_suffix("--output", output, ("m3u8", "m3u", "nsp", "jsonl"))
    if sum((output is not None, null, as_json)) > 1:
        raise UsageError("--output, -0 and --json cannot be combined")


def _give_songs(
    songs: Sequence[Song],
    library: Library,
    model: str | None,
    document: dict[str, Any],
    shown: Sequence[str] = (),
    *,
    output: str | None,
    null: bool,
    as_json: bool,
) -> None:
    """Write songs to where they were asked for; on a terminal with the scores of the words `shown`.

    A note says how many songs of the index were left out because they were not heard with these weights.
    """
    from samptag.library.songs import song_record

    heard, present = library.heard(model)
    if heard < present:
        from samptag.pretrained import load_registry

        name = library.weights(model).name
        command = f"index --model {name}'" if name in load_registry().entries else "index' with these weights"
        count = f"{heard} of {counted(present, 'song')} {'was' if heard == 1 else 'were'}"
        note(f"{count} heard with {name}; 'samptag {command} hears the others")
    if as_json:
        print_records(document, "songs", map(song_record, songs))
    elif output is not None:
        _write_file(songs, library, document, output)
    elif sys.stdout.isatty() and not null:
        _show(songs, shown)
    else:
        end = b"\0" if null else b"\n"
        with explain_write_errors("standard output"):
            sys.stdout.buffer.writelines(os.fsencode(song.path) + end for song in songs)
            sys.stdout.buffer.flush()


def _write_file(songs: Sequence[Song], library: Library, document: dict[str, Any], output: str) -> None:
    from samptag.library.playlists import m3u8_bytes, nsp_bytes
    from samptag.library.songs import song_record

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
    from rich.text import Text

    console = terminal(sys.stdout)
    for song in songs:
        facts = [clock(song.duration)]
        if song.similarity is not None:
            facts.append(f"alike {song.similarity:.2f}")
        facts += [f"{word} {song.scores[word]:.2f}" for word in shown]
        console.print(Text.assemble((song.label, "bold cyan"), "  ", (" · ".join(facts), "dim")), no_wrap=True)
        console.print(Text(f"  {printable(song.path)}", style="bright_black"), soft_wrap=True)
