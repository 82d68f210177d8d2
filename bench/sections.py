"""What ``bench tag`` measures: each section runs whole processes in rounds and gives its finding after every round."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.library import make_library, make_twice, write_track
from bench.limits import measure
from bench.process import Figures, interleaved, timed
from bench.report import Finding
from samptag.core.device import available_cores

Pool = list[np.ndarray]
Command = list[str | Path]

# Samples at 22 050 Hz; a clip of whole segments is as many segments alone as inside a track.
SEGMENT_SECONDS = 59_049 / 22_050
CLIP_SEGMENTS = 4
START_ROUNDS = 9  # start-up is short, and noisier than a library


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for."""

    model: str
    hours: float
    long_hours: float
    short_clips: int
    rounds: int
    musicnn_python: str | None
    earlier: Path | None
    without: frozenset[str]


def ours(path: Path, options: Options) -> Command:
    """The command that tags `path`."""
    return [sys.executable, "-m", "samptag", "tag", path, "--model", options.model, "--format", "jsonl",
            "--no-progress"]  # fmt: skip


def theirs(path: Path, options: Options) -> dict[str, Command]:
    """The same by the checkout of another commit, if one was named."""
    if options.earlier is None:
        return {}
    _, _, _, *arguments = ours(path, options)
    script = f"import sys; sys.path.insert(0, {str(options.earlier)!r}); from samptag.cli.app import main; main()"
    return {"earlier": [sys.executable, "-c", script, *arguments]}


def runner(command: Command) -> Callable[[], Figures]:
    """What runs `command` and gives its figures."""
    return lambda: timed(command)


def contenders(folder: Path, options: Options) -> dict[str, Command]:
    """Name -> command of everything at hand and not left out that can tag `folder`, ours first."""
    commands: dict[str, Command] = {"samptag": ours(folder, options), **theirs(folder, options)}
    modules = {"eager batch 32": ["eager"], "resampy decoding": ["resampy_decode"]}
    modules |= {name: ["backends", name] for name in ("onnxruntime", "openvino") if find_spec(name)}
    for name, (module, *rest) in modules.items():
        commands[name] = [sys.executable, "-m", f"bench.contenders.{module}", *rest, folder, options.model]
    if options.musicnn_python:
        script = Path(__file__).parent / "contenders" / "musicnn_peer.py"
        commands["musicnn"] = [options.musicnn_python, script, folder]
    return {name: command for name, command in commands.items() if name.split()[0] not in options.without}


def library(folder: Path, pool: Pool, suffix: str, options: Options) -> Iterator[Finding]:
    """Our speed over each contender's, and over the limit's, for one format."""
    durations = make_library(folder, pool, suffix=suffix, hours=options.hours, track_seconds=220)
    paths = sorted(folder.iterdir())[:4]

    def limit() -> Figures:
        found = measure(paths)
        return {"wall_seconds": found.seconds(durations)} | asdict(found)

    works = {name: runner(command) for name, command in contenders(folder, options).items()}
    for rounds in interleaved({"limit": limit, **works}, rounds=options.rounds):
        own = rounds.median("samptag")
        figures = {
            "limit": rounds.median("limit") / own,
            "times real time": sum(durations) / own,
            "decoding alone": rounds.median("limit", "decode"),
        }
        lines = [
            f"{suffix[1:]}, 44.1 kHz stereo, {len(durations)} tracks, {sum(durations) / 3600:.2f} h",
            f"  {figures['limit']:6.0%} of the machine's limit (whole process, start-up included)",
            f"  {figures['times real time']:6.0f} times real time; "
            f"libsndfile's decoding alone {figures['decoding alone']:.0f}",
        ]
        for name in works:
            if name != "samptag":
                figures[name] = rounds.median(name) / own
                lines.append(f"  {figures[name]:6.2f} times as fast as {name}")
        yield Finding(rounds, figures, "\n".join(lines))


def short(folder: Path, pool: Pool, options: Options) -> Iterator[Finding]:
    """What a file costs beyond its sound: many clips against the same sound in long tracks, start-up taken off both."""
    clips = make_twice(folder, pool, clips=options.short_clips, clip_seconds=CLIP_SEGMENTS * SEGMENT_SECONDS)
    one = next((folder / "clips").iterdir())
    paths = {"clips": folder / "clips", "tracks": folder / "tracks", "start": one}
    works = {name: runner(ours(path, options)) for name, path in paths.items()}
    for rounds in interleaved(works, rounds=options.rounds):
        figures = {}
        for kind in ("wall", "cpu"):
            spent = {name: rounds.median(name, f"{kind}_seconds") for name in paths}
            figures[f"{kind} overhead"] = (spent["clips"] - spent["start"]) / (spent["tracks"] - spent["start"]) - 1
        text = (
            f"{clips} clips of {CLIP_SEGMENTS * SEGMENT_SECONDS:.1f} s against the same sound in long tracks: "
            f"{figures['wall overhead']:+.1%} by the clock, {figures['cpu overhead']:+.1%} processor time"
        )
        yield Finding(rounds, figures, text)


def start(folder: Path, pool: Pool, options: Options) -> Iterator[Finding]:
    """Start-up: the help page, info and one 30 s clip against importing torch."""
    clip = folder / "clip.mp3"
    write_track(clip, pool, seconds=30, generator=np.random.default_rng(0))
    commands: dict[str, Command] = {
        "help": [sys.executable, "-m", "samptag", "--help"],
        "info": [sys.executable, "-m", "samptag", "info"],
        "clip": ours(clip, options),
        "torch": [sys.executable, "-c", "import torch"],
        **theirs(clip, options),
    }
    works = {name: runner(command) for name, command in commands.items()}
    for rounds in interleaved(works, rounds=max(START_ROUNDS, options.rounds)):
        wall = {name: rounds.median(name) for name in commands}
        peak = {name: rounds.median(name, "peak_bytes") / 1e6 for name in commands}
        figures = {f"{name} over torch": wall[name] / wall["torch"] for name in commands if name != "torch"}
        figures |= {f"{name} MB": megabytes for name, megabytes in peak.items()}
        lines = [
            f"{name:8}{wall[name]:6.2f} s, {wall[name] / wall['torch']:5.2f} times `import torch`, {peak[name]:4.0f} MB"
            for name in commands
        ]
        yield Finding(rounds, figures, "\n".join(["the help page, info, one 30 s clip; whole processes", *lines]))


def long(folder: Path, pool: Pool, options: Options) -> Iterator[Finding]:
    """Peak memory for one long file over that for five minutes, and how busy the cores are between the two lengths."""
    generator = np.random.default_rng(0)
    works = {}
    for name, seconds in (("short", 300.0), ("long", options.long_hours * 3600)):
        path = folder / f"{name}.mp3"
        write_track(path, pool, seconds=seconds, generator=generator)
        works[name] = runner(ours(path, options))
    for rounds in interleaved(works, rounds=options.rounds):
        peaks = {name: rounds.median(name, "peak_bytes") for name in works}
        more = {kind: rounds.median("long", kind) - rounds.median("short", kind) for kind in rounds.figures["long"]}
        figures = {
            "long over short": peaks["long"] / peaks["short"],
            "long MB": peaks["long"] / 1e6,
            "short MB": peaks["short"] / 1e6,
            "cores busy": more["cpu_seconds"] / (more["wall_seconds"] * available_cores()),
        }
        text = (
            f"one file of {options.long_hours:g} h against one of 5 min: {figures['long over short']:.2f} times its "
            f"peak memory ({figures['long MB']:.0f} MB over {figures['short MB']:.0f} MB)\n"
            f"all {available_cores()} cores {figures['cores busy']:.0%} busy in what the longer one takes longer"
        )
        yield Finding(rounds, figures, text)
