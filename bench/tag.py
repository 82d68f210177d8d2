"""Tagging, whole processes: against a research script, against resampy's decoding, and against the machine's limit.

Prints ratios, because a figure in seconds says more about the machine than about the program. Every contender tags
the same folder, made from real music, in interleaved rounds; the figure of each is its median. A run that is stopped
prints what the finished rounds have shown, and the file named by ``--json`` holds it from the first round on.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import machine, sections
from bench.library import sources
from bench.limits import MEDIA
from bench.report import Report

ONCE = {"short": sections.short, "start": sections.start, "long": sections.long}
SECTIONS = ("library", *ONCE)
FORMATS = ("mp3", "flac", "ogg")
CONTENDERS = ("eager", "resampy", "onnxruntime", "openvino", "musicnn")
INTERRUPTED = 130


def names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """What makes a list of an option's comma-separated names."""

    def split(text: str) -> tuple[str, ...]:
        found = tuple(name for name in text.split(",") if name)
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))} among {', '.join(allowed)}")
        return found

    return split


def main(arguments: list[str]) -> None:
    """Run the sections asked for and print their ratios."""
    parser = argparse.ArgumentParser(prog="bench tag", description=__doc__)
    parser.add_argument("--music", type=Path, default=MEDIA, help="folder of music the libraries are made from")
    parser.add_argument("--model", default="samplecnn-3-9-mtat50", help="weights, by name or path")
    parser.add_argument("--hours", type=float, default=1.0, help="size of each library")
    parser.add_argument("--long-hours", type=float, default=3.0, help="length of the long file")
    parser.add_argument("--short-clips", type=int, default=1000, help="how many clips of 10.7 seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--formats", type=names(FORMATS), default=FORMATS[:2], help="of the libraries: " + ", ".join(FORMATS)
    )
    parser.add_argument("--musicnn-python", help="a Python in which `import musicnn` works, see docs/benchmarks.md")
    parser.add_argument("--earlier", type=Path, help="a checkout of another commit to compare with")
    parser.add_argument(
        "--without", type=names(CONTENDERS), default=(), help="contenders to leave out: " + ", ".join(CONTENDERS)
    )
    parser.add_argument("--only", type=names(SECTIONS), default=SECTIONS, help="sections: " + ", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="keep the figures here, for bench.plot")
    given = parser.parse_args(arguments)
    options = sections.Options(
        model=given.model,
        hours=given.hours,
        long_hours=given.long_hours,
        short_clips=given.short_clips,
        rounds=given.rounds,
        musicnn_python=given.musicnn_python,
        earlier=given.earlier and given.earlier.resolve(),
        without=frozenset(given.without),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(given.only, given.formats, music=given.music, options=options, report=Report(given.json))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def run(
    asked: tuple[str, ...], formats: tuple[str, ...], *, music: Path, options: sections.Options, report: Report
) -> None:
    """Go through the sections `asked` for, each in a folder of its own."""
    print(machine.header(), flush=True)
    pool = sources(music)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in formats if "library" in asked else ():
            report.add(name, sections.library(root / name, pool, "." + name, options))
        for name, section in ONCE.items():
            if name in asked:
                (root / name).mkdir()
                report.add(name, section(root / name, pool, options))
