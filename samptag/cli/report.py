"""`samptag report`: songs tagged, and laid out on one page that opens in any browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samptag.cli.console import SOME_FAILED, Meter, detail, note
from samptag.cli.options import Db, Device, Hop, Model, Progress
from samptag.cli.output import binary_file, silence_codecs
from samptag.cli.tag import expected_seconds, open_tagger, tell
from samptag.errors import LibraryError, UsageError
from samptag.text import counted, valid_text

if TYPE_CHECKING:
    from samptag.library.database import Database
    from samptag.library.songs import Weights
    from samptag.report import Neighbour
    from samptag.tagging.result import TrackResult

MEGABYTE = 1_000_000


def report(
    paths: list[str] = typer.Argument(..., metavar="PATH...", help="Songs, or folders with all audio below them."),
    output: Path = typer.Option(
        Path("report.html"),
        "--output",
        "-o",
        metavar="FILE",
        help="The page; an old one stays until the new one is complete.",
    ),
    embed: float = typer.Option(
        0.0,
        metavar="MB",
        min=0.0,
        show_default=False,
        help="Put audio files smaller than this into the page, to send it to someone; by default none, and the "
        "page plays the files from where they are.",
    ),
    title: str | None = typer.Option(None, metavar="TEXT", help="Heading; by default the name of the song or folder."),
    model: Model = None,
    device: Device = "auto",
    hop: Hop = None,
    db: Db = None,
    progress: Progress = None,
) -> None:
    """Make a web page of what the model hears: a player, the waveform, and words over time.

    $ samptag report song.mp3 --hop 0.5
    $ samptag report ~/Music -o music.html
    $ samptag report demo/ -o demo.html --embed 20

    It is one file that needs no server and no network. A folder becomes a table to sort and filter, from which its
    songs open. Beside each of up to 100 songs are those of your index that sound most like it, if there is an index
    made with the same weights. The exit code is 1 if some songs could not be tagged; the page says why.
    """
    from samptag.tagging.files import STDIN, expand_inputs

    if STDIN in paths:
        raise UsageError("a report plays its songs: name files or folders, not standard input")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the name must end in .html")
    # Named twice, a song is one song.
    inputs = list({item.path: item for item in expand_inputs(paths)}.values())
    tagger = open_tagger(
        model, device=device, hop_seconds=hop, expected_seconds=expected_seconds(inputs), progress=progress
    )
    from samptag.report import Report

    silence_codecs()
    page = Report(tagger.card, n_songs=len(inputs))
    # Opened first, so that a page that cannot be written is noticed before hours of tagging.
    with binary_file(str(output)) as out, _index(db, model, n_songs=len(inputs)) as alike:
        meter = Meter(inputs, asked=progress)
        try:
            with meter.bar:
                for result in tagger.tag_many(inputs, on_seconds=meter.seconds, transform=page.listen):
                    tell(result)
                    page.add(result, alike=alike(result))
                    meter.finished(result)
        except KeyboardInterrupt:
            note(f"{meter.n_done} of {counted(len(inputs), 'input')} done; {output} is written only as a whole")
            raise
        name, alone = valid_text(os.path.basename(os.path.abspath(paths[0]))), len(paths) == 1 or len(inputs) == 1
        heading = title or (name if alone else f"{len(inputs)} songs")
        page.write(out, folder=output.parent, title=heading, embed_below=round(embed * MEGABYTE))
    note(meter.overview(str(output)))
    if meter.n_failed:
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _index(db: str | None, model: str | None, *, n_songs: int) -> Iterator[Callable[[TrackResult], list[Neighbour]]]:
    """A function that finds the songs of the index that sound most like a result; without an index it finds none.

    An index that was named must be usable and know these weights.
    """
    from samptag.library.database import Database, default_path
    from samptag.pretrained import DEFAULT, resolve
    from samptag.report import FEW_SONGS

    path = default_path() if db is None else Path(db)
    with ExitStack() as stack:
        find = None
        if n_songs <= FEW_SONGS and (db is not None or path.is_file()):
            from samptag.library.songs import choose_weights

            try:
                database = Database(path, create=False)
                stack.callback(database.close)
                find = partial(_nearest, database, choose_weights(database, resolve(model or DEFAULT)))
            except LibraryError as problem:
                if db is not None:
                    raise
                detail(f"no neighbours from the index: {problem}")
        yield find or (lambda result: [])


def _nearest(database: Database, weights: Weights, result: TrackResult) -> list[Neighbour]:
    from samptag.library.similar import Seed, similar_songs
    from samptag.report import N_NEIGHBOURS, Neighbour

    if result.embedding is None:
        return []
    vocabulary = weights.vocabulary
    with database.explained():
        seed = Seed(vector=result.embedding, audio=None)
        found = similar_songs(database, weights, [seed], n=N_NEIGHBOURS)
    neighbours = []
    for song in found:
        if vocabulary.has_cutoffs:
            words = [word.tag for word, _ in vocabulary.decided([song.scores[tag] for tag in vocabulary.tags])]
        else:
            words = sorted(song.scores, key=lambda tag: -song.scores[tag])
        neighbours.append(Neighbour(name=song.label, words=" · ".join(words[:3]), path=song.path))
    return neighbours
