"""`samptag learn`: a person's own words, from songs that bear them."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import typer

import samptag
from samptag.cli.console import note, print_json
from samptag.cli.options import Db, Heard, Json
from samptag.text import counted, valid_text

if TYPE_CHECKING:
    from samptag.library.learning import LearnResult


def learn(
    source: str = typer.Option(
        ...,
        "--from",
        metavar="LABELS",
        help="A folder of playlists or folders, a playlist, a table (path,tag), or the files' genre, mood or grouping.",
    ),
    name: str | None = typer.Option(
        None, "--as", metavar="NAME", help="Install what was learned as weights of this name."
    ),
    force: bool = typer.Option(False, "--force", help="Replace weights of that name."),
    suggest: int = typer.Option(0, metavar="N", min=0, help="For each word name N songs whose labels would help most."),
    db: Db = None,
    model: Heard = None,
    seed: int = typer.Option(0, metavar="N", help="Seed for the tests."),
    as_json: Json = False,
) -> None:
    """Learn your own words from your own songs, and see how well each was learned.

    Each word is tested on songs by artists it was not learned from. A word that was not learned is
    refused, not guessed. With --as the words become weights for tag, find, eval and write, and all songs of the index
    are scored at once.

    $ samptag learn --from playlists/ --as mine
    $ samptag learn --from genre --suggest 5
    """
    with samptag.Library(db) as library:
        result, suggestions = library.learn(source, name=name, force=force, suggest=suggest, model=model, seed=seed)
    if result.not_in_index:
        shown = ", ".join(repr(entry) for entry in result.not_in_index[:3])
        verb = "is" if len(result.not_in_index) == 1 else "are"
        note(f"{counted(len(result.not_in_index), 'labelled song')} {verb} not in the index, such as {shown}")
    if as_json:
        print_json(_document(result, suggestions))
    else:
        _show(result, suggestions)
    refused = len(result.words) - len(result.learned)
    note(f"{counted(len(result.learned), 'word')} learned from {counted(result.songs, 'song')}, {refused} refused")
    if result.path is not None:
        note(f"installed as {name}: 'samptag find --model {name}' and 'samptag tag --model {name}' use it")


def _show(result: LearnResult, suggestions: Any) -> None:
    lines = []
    width = max((len(word.word) for word in result.words), default=0)
    for word in result.words:
        if word.refused is not None:
            lines.append(f"{word.word:<{width}}  refused: {word.refused}")
            continue
        figures = (("ROC-AUC", word.roc_auc, word.roc_interval), ("PR-AUC", word.pr_auc, word.pr_interval))
        shown = "  ".join(f"{name} {value:.3f} ({low:.3f} to {high:.3f})" for name, value, (low, high) in figures)
        facts = f"{word.songs} songs by {word.artists} artists  {shown}"
        lines.append(f"{word.word:<{width}}  {facts}  cut-off {word.cutoff:.2f} ({word.precision:.0%} right)")
        for path, bears, score in word.wrong:
            lines.append(f"{'':<{width}}    {'missed' if bears else 'wrongly'} at {score:.2f}: {path}")
        for path, score in suggestions.get(word.word, ()):
            lines.append(f"{'':<{width}}    please label, {score:.2f}: {path}")
    data = "".join(line + "\n" for line in lines)
    sys.stdout.write(data.encode("utf-8", "backslashreplace").decode())


def _document(result: LearnResult, suggestions: Any) -> dict[str, Any]:
    return {
        "schema": "samptag.learn/1",
        "songs": result.songs,
        "not_in_index": len(result.not_in_index),
        "weights": None if result.path is None else str(result.path),
        "words": [
            {
                "word": word.word,
                "songs": word.songs,
                "artists": word.artists,
                "learned": word.refused is None,
                "refused": word.refused,
                "roc_auc": _number(word.roc_auc),
                "roc_auc_interval": list(map(_number, word.roc_interval)),
                "pr_auc": _number(word.pr_auc),
                "pr_auc_interval": list(map(_number, word.pr_interval)),
                "cutoff": None if word.refused else _number(word.cutoff),
                "precision": None if word.refused else _number(word.precision),
                "most_wrong": [
                    {"path": valid_text(path), "bears_word": bears, "score": _number(score)}
                    for path, bears, score in word.wrong
                ],
                "suggestions": [
                    {"path": valid_text(path), "score": _number(score)}
                    for path, score in suggestions.get(word.word, ())
                ],
            }
            for word in result.words
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
