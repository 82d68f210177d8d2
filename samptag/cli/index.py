"""`samptag index`: hear a folder of music once, and keep what was heard."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

import samptag
from samptag.cli.console import SOME_FAILED, Bar, error, note, print_json, warn
from samptag.cli.options import Db, Device, Inputs, Json, Model, Progress
from samptag.cli.output import silence_codecs
from samptag.errors import UsageError
from samptag.text import clock, counted

if TYPE_CHECKING:
    from samptag.library import Library


def index(
    paths: list[str] | None = typer.Argument(
        None, metavar="[DIR]...", help="Folders of music, or files; without any, all that were indexed before."
    ),
    db: Db = None,
    model: Model = None,
    prune: bool = typer.Option(False, "--prune", help="Then forget the songs that are missing from these folders."),
    status: bool = typer.Option(
        False, "--status", help="Only show what the index holds, without listening to anything."
    ),
    as_json: Json = False,
    device: Device = "auto",
    jobs: Inputs = None,
    progress: Progress = None,
) -> None:
    """Listen to your music once and keep what was heard in one file, for find, similar, learn and write.

    A second run listens only to files that are new or changed, and follows files that were moved. A run that was
    stopped continues where it left off. A file that cannot be read is remembered and left alone until it changes.

    $ samptag index ~/Music
    $ samptag index --status
    """
    if status and (paths or prune):
        raise UsageError("--status only shows the index: leave out the folders and --prune")
    with samptag.Library(db) as library:
        failed = 0
        if not status:
            failed = _update(library, paths or [], model, prune, device=device, jobs=jobs, progress=progress)
        if as_json:
            print_json(library.status())
        elif status:
            _show(library.status())
    raise typer.Exit(SOME_FAILED if failed else 0)


def _update(
    library: Library, paths: list[str], model: str | None, prune: bool, *, progress: bool | None, **options: Any
) -> int:
    """Bring the index up to date; the number of files that failed."""
    from samptag.library import Observer
    from samptag.pretrained import DEFAULT

    silence_codecs()
    total = done = kept = 0

    def anew(name: str, again: int, left: int) -> None:
        new = model or DEFAULT
        if again:
            songs = "1 song was" if again == 1 else f"{again} songs were"
            stays = f"the old scores stay, and 'samptag find --model {name}' uses them"
            note(f"{songs} heard with {name} and will be heard again with {new}; {stays}")
        if left and paths:
            songs = counted(left, "other song")
            command = "samptag index" + (f" --model {model}" if model else "")
            note(f"{songs} of the index will not be heard with {new} yet: '{command}' without a folder does that")

    def begin(songs: int) -> None:
        nonlocal total
        total = songs
        bar("hearing", 0, total)

    def advance() -> None:
        nonlocal done, kept
        done, kept = done + 1, kept + 1
        bar("hearing", done, total)

    def fail(message: str) -> None:
        nonlocal kept
        kept -= total > 0  # before it begins, of what is not among the songs
        error(message)

    observer = Observer(begin=begin, anew=anew, warn=warn, fail=fail, done=advance)
    try:
        with Bar(progress) as bar:
            report = library.index(paths, model=model, observer=observer, **options)
    except KeyboardInterrupt:
        if total:
            note(f"{kept} of {counted(total, 'song')} done; they are kept, and the same command goes on")
        raise
    parts = [counted(report.heard, "song") + " heard", f"{report.unchanged} unchanged"]
    others = (
        (report.moved, "moved"),
        (report.known, "with new tags or names"),
        (report.failed, "failed"),
        (report.still_broken, "that failed before left alone"),
        (report.missing, "missing" if prune else "missing (--prune forgets them)"),
    )
    parts += [f"{number} {what}" for number, what in others if number]
    note(", ".join(parts))
    if prune:
        note(f"{counted(library.prune(paths), 'missing song')} forgotten")
    return report.failed


def _show(status: dict[str, Any]) -> None:
    lines = [f"index    {status['path']} ({status['size'] / 1e6:.1f} MB)"]
    lines.append(f"songs    {status['songs']}, {clock(status['duration'])}")
    if status["missing"]:
        lines.append(f"missing  {status['missing']}: 'samptag index --prune' forgets them")
    lines += [f"folder   {folder}" for folder in status["folders"]]
    for weights in status["weights"]:
        songs, words = counted(weights["songs"], "song"), counted(weights["words"], "word")
        lines.append(f"weights  {weights['name']}: {songs}, {words}, {weights['decidable']} with cut-offs")
    lines += [f"broken   {broken['error']}" for broken in status["broken"]]
    sys.stdout.write("\n".join(lines) + "\n")
