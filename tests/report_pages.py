"""Pages as `samptag report` makes them, for tests to look at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samptag.report import Neighbour, Report
from samptag.tagging.files import expand_inputs
from samptag.tagging.tagger import Tagger

SCRIPT_NAME = "<img src=x onerror=alert(1)>.mp3"


def make_page(
    target: Path, paths: list[Path], tagger: Tagger, *, alike: Sequence[Neighbour] = (), **options: Any
) -> Path:
    """The page of `paths`, as `samptag report` makes it, with the same neighbours for each."""
    inputs = expand_inputs(paths)
    report = _report(tagger, len(inputs))
    for result in tagger.tag_many(inputs, transform=report.listen):
        report.add(result, alike=alike)
    with target.open("wb") as out:
        report.write(out, folder=target.parent, **{"title": "Songs", **options})
    return target


def make_long_page(target: Path, clip: Path, tagger: Tagger, *, n_songs: int) -> Path:
    """The page of one clip under many names, "song 0000.opus" and so on."""
    report = _report(tagger, n_songs)
    (result,) = tagger.tag_many([clip])
    for number in range(n_songs):
        report.add(replace(result, path=str(target.parent / f"song {number:04}.opus")))
    with target.open("wb") as out:
        report.write(out, folder=target.parent, title="Many songs")
    return target


def _report(tagger: Tagger, n_songs: int) -> Report:
    return Report(tagger.card, n_songs=n_songs)
