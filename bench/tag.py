"""Tagging, whole processes: against a research script, against resampy's decoding, and against the machine's limit.

Prints ratios, because a figure in seconds says more about the machine than about the program. Every contender tags
the same folder, made from real music, in interleaved rounds; the figure of each is its median.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench import machine
from bench.library import make_library, sources, write_track
from bench.limits import MEDIA, Limits, measure
from bench.process import Run, interleaved, timed

SECTIONS = ("library", "short", "start", "memory")


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    music: Path
    model: str
    hours: float
    long_hours: float
    short_clips: int
    rounds: int
    suffixes: tuple[str, ...]
    musicnn_python: str | None
    sections: tuple[str, ...]


def ours(folder: Path, options: Options) -> list[str | Path]:
    """The command that tags `folder`."""
    return [sys.executable, "-m", "samptag", "tag", folder, "--model", options.model, "--format", "jsonl",
            "--no-progress"]  # fmt: skip


def contenders(folder: Path, options: Options) -> dict[str, list[str | Path]]:
    """Name -> command of everything at hand that can tag `folder`, ours first."""
    commands: dict[str, list[str | Path]] = {"samptag": ours(folder, options)}
    modules = {"eager batch 32": ["eager"], "resampy decoding": ["resampy_decode"]}
    modules |= {name: ["backends", name] for name in ("onnxruntime", "openvino") if find_spec(name)}
    for name, (module, *rest) in modules.items():
        commands[name] = [sys.executable, "-m", f"bench.contenders.{module}", *rest, folder, options.model]
    if options.musicnn_python:
        script = Path(__file__).parent / "contenders" / "musicnn_peer.py"
        commands["musicnn"] = [options.musicnn_python, script, folder]
    return commands


def library_section(folder: Path, pool: list, suffix: str, options: Options) -> dict[str, float]:
    """Our speed over each contender's, and over the limit's, for one format."""
    durations = make_library(folder, pool, suffix=suffix, hours=options.hours, track_seconds=220)
    paths = sorted(folder.iterdir())[:4]
    limits: list[Limits] = []

    def limit_seconds() -> float:
        limits.append(measure(paths))
        return limits[-1].seconds(durations)

    def runner(command: list[str | Path]) -> Callable[[], float]:
        return lambda: timed(command).wall_seconds

    works = {name: runner(command) for name, command in contenders(folder, options).items()}
    seconds = interleaved({"limit": limit_seconds, **works}, rounds=options.rounds)
    print(f"\n{suffix[1:]}, 44.1 kHz stereo, {len(durations)} tracks, {sum(durations) / 3600:.2f} h")
    own = seconds.pop("samptag")
    figures = {"limit": seconds.pop("limit") / own}
    print(f"  {figures['limit']:6.0%} of the machine's limit (whole process, start-up included)")
    real_time = {"times real time": sum(durations) / own}
    print(f"  {real_time['times real time']:6.0f} times real time")
    for name, value in seconds.items():
        figures[name] = value / own
        print(f"  {figures[name]:6.2f} times as fast as {name}")
    return figures | real_time


def short_section(folder: Path, pool: list, options: Options) -> dict[str, float]:
    """What a file costs beyond its segments: many clips against the same sound in long tracks."""
    hours = options.short_clips * 10 / 3600
    clips = make_library(folder / "clips", pool, suffix=".mp3", hours=hours, track_seconds=10)
    tracks = make_library(folder / "tracks", pool, suffix=".mp3", hours=hours, track_seconds=220)
    folders = {"clips": folder / "clips", "tracks": folder / "tracks", "start": folder / "clips" / "track-00000.mp3"}
    works = {name: lambda path=path: timed(ours(path, options)).wall_seconds for name, path in folders.items()}
    seconds = interleaved(works, rounds=options.rounds)
    segment = 59_049 / 22_050
    more_segments = sum(-(-d // segment) for d in clips) / sum(-(-d // segment) for d in tracks)
    overhead = (seconds["clips"] - seconds["start"]) / (seconds["tracks"] - seconds["start"]) / more_segments - 1
    print(f"\n{len(clips)} clips of about 10 s: {overhead:+.1%} time a segment against {len(tracks)} long tracks")
    return {"overhead": overhead}


def start_section(folder: Path, pool: list, options: Options) -> dict[str, float]:
    """Start-up: the help page, and one 30 s clip against importing torch."""
    import numpy as np

    clip = folder / "clip.mp3"
    write_track(clip, pool, seconds=30, generator=np.random.default_rng(0))
    commands = {
        "help": [sys.executable, "-m", "samptag", "--help"],
        "clip": [sys.executable, "-m", "samptag", "tag", clip, "--model", options.model, "--json"],
        "torch": [sys.executable, "-c", "import torch"],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(max(5, options.rounds)):
        for name, command in commands.items():
            runs[name].append(timed(command))
    wall = {name: median(run.wall_seconds for run in found) for name, found in runs.items()}
    figures = {
        "help cpu seconds": median(run.cpu_seconds for run in runs["help"]),
        "clip over torch": wall["clip"] / wall["torch"],
        "clip minus torch seconds": wall["clip"] - wall["torch"],
    }
    print(f"\nsamptag --help: {figures['help cpu seconds']:.2f} s of CPU")
    print(
        f"one 30 s clip, whole process: {figures['clip over torch']:.2f} times `import torch`, "
        f"{figures['clip minus torch seconds']:+.2f} s"
    )
    return figures


def memory_section(folder: Path, pool: list, options: Options) -> dict[str, float]:
    """Peak memory for a long file over that for five minutes."""
    import numpy as np

    generator = np.random.default_rng(0)
    lengths = {"short": 300.0, "long": options.long_hours * 3600}
    peaks = {}
    for name, seconds in lengths.items():
        path = folder / f"{name}.mp3"
        write_track(path, pool, seconds=seconds, generator=generator)
        command = [sys.executable, "-m", "samptag", "tag", path, "--model", options.model, "--json"]
        peaks[name] = median(timed(command).peak_bytes for _ in range(min(3, options.rounds)))
    ratio = peaks["long"] / peaks["short"]
    print(
        f"\npeak memory, {options.long_hours:g} h file over 5 min file: {ratio:.2f} ({peaks['long'] / 1e6:.0f} MB over "
        f"{peaks['short'] / 1e6:.0f} MB)"
    )
    return {"long over short": ratio, "long MB": peaks["long"] / 1e6, "short MB": peaks["short"] / 1e6}


def main(arguments: list[str]) -> None:
    """Run the sections asked for and print their ratios."""
    parser = argparse.ArgumentParser(prog="bench tag", description=__doc__)
    parser.add_argument("--music", type=Path, default=MEDIA, help="folder of music the libraries are made from")
    parser.add_argument("--model", default="samplecnn-3-9-mtat50", help="weights, by name or path")
    parser.add_argument("--hours", type=float, default=1.0, help="size of each library")
    parser.add_argument("--long-hours", type=float, default=3.0, help="length of the long file")
    parser.add_argument("--short-clips", type=int, default=1000, help="how many clips of about ten seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", default="mp3,flac", help="of the libraries: mp3, flac, ogg")
    parser.add_argument("--musicnn-python", help="a Python in which `import musicnn` works, see docs/benchmarks.md")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, of: " + ", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="write the figures here, for bench.plot")
    given = parser.parse_args(arguments)
    options = Options(
        music=given.music,
        model=given.model,
        hours=given.hours,
        long_hours=given.long_hours,
        short_clips=given.short_clips,
        rounds=given.rounds,
        suffixes=tuple("." + name for name in given.formats.split(",")),
        musicnn_python=given.musicnn_python,
        sections=tuple(given.only.split(",")),
    )
    print(machine.header())
    pool = sources(options.music)
    figures: dict[str, object] = {"machine": machine.describe()}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if "library" in options.sections:
            for suffix in options.suffixes:
                figures[suffix[1:]] = library_section(root / suffix[1:], pool, suffix, options)
        for name, section in (("short", short_section), ("start", start_section), ("memory", memory_section)):
            if name in options.sections:
                (root / name).mkdir()
                figures[name] = section(root / name, pool, options)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
