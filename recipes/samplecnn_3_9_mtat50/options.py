"""The command line of the recipe."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.samplecnn_3_9_mtat50.phases import PHASES

__all__ = ["Options", "Pace", "parse"]

_EPILOG = """\
steps, in this order (all of them when none is named; each is skipped when its result is complete):
  sources   say which public sources lie in the given folders, and which are missing
  teacher   make the teacher from the PyPI package musicnn 0.1.0
  decode    all music to one cache at 22 050 Hz
  render    MIDI files to the sounds of instruments that the music lacks (needs fluidsynth)
  label     the teacher's scores of all music
  mix       mixtures, crossfades and other speeds of that music, with the teacher's scores
  train     the phases M to J
  export    the student as a weights file in the work folder
  evaluate  every figure of the model card
  publish   weights, registry entry and model card into the folder of shipped weights
"""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a phase lasts: `steps` where given (the same result on every run), otherwise `minutes` of training."""

    minutes: float
    steps: int | None = None

    def progress(self, step: int, seconds: float) -> float:
        """The share that is done, 1 at the end."""
        return step / self.steps if self.steps is not None else seconds / (60 * self.minutes)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for; see `parse`. `paces` says of each phase how long it lasts."""

    steps: tuple[str, ...]
    music: tuple[Path, ...]
    work: Path
    teacher: Path | None
    musicnn: Path | None
    midi: tuple[Path, ...]
    soundfont: Path | None
    paces: Mapping[str, Pace]
    mixtures: int
    threads: int | None
    seed: int
    weights: Path | None
    teacher_scores: Path | None
    clean_only: bool
    device: str
    publish_to: Path

    @property
    def teacher_folder(self) -> Path:
        """The teacher's weights: the given ones, or what the step teacher makes."""
        return self.teacher or self.work / "teacher"

    @property
    def weights_file(self) -> Path:
        """The weights to evaluate and publish: the given ones, or what the step export makes."""
        return self.weights or self.work / "samplecnn-3-9-mtat50.safetensors"


def parse(arguments: Sequence[str], *, steps: Sequence[str]) -> Options:
    """The options in the command's arguments.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.
    steps : sequence of str
        All there are, in their order.

    Raises
    ------
    SystemExit
        When they make no sense, after saying why.
    """
    parser = argparse.ArgumentParser(
        prog="python -m recipes.samplecnn_3_9_mtat50",
        description="Makes the weights samplecnn-3-9-mtat50.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="see below; all of them when none is named")
    folder: dict[str, Any] = {"type": Path, "metavar": "DIR"}
    parser.add_argument("--music", action="append", required=True, help="a folder of music; may be repeated", **folder)
    parser.add_argument("--work", required=True, help="folder for everything made; about 16 GB for 35 h", **folder)
    parser.add_argument(
        "--teacher", help="a folder with the teacher's safetensors, instead of the step teacher", **folder
    )
    parser.add_argument(
        "--musicnn", type=Path, metavar="FILE", help="the package musicnn 0.1.0; otherwise pip fetches it"
    )
    parser.add_argument("--midi", action="append", default=[], help="a folder of MIDI files to render", **folder)
    parser.add_argument("--soundfont", type=Path, metavar="FILE", help="General-MIDI sounds, e.g. FluidR3_GM.sf2")
    parser.add_argument("--mixtures", type=int, default=94_000, metavar="N", help="default 94000; 0 for none")
    for phase in PHASES:
        parser.add_argument(
            f"--minutes-{phase.name}",
            type=float,
            default=phase.minutes,
            metavar="N",
            help=f"default {phase.minutes:g}",
        )
        parser.add_argument(f"--steps-{phase.name}", type=int, metavar="N", help="as many steps instead of minutes")
    parser.add_argument("--threads", type=int, metavar="N", help="default: as many as PyTorch takes")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="evaluate and publish these instead of the student"
    )
    parser.add_argument("--teacher-scores", type=Path, metavar="NPZ", help="the teacher's scores of the first folder")
    parser.add_argument("--clean-only", action="store_true", help="evaluate without degraded sound")
    parser.add_argument("--device", default="auto", help="for evaluate: auto, cpu, cuda, mps")
    shipped = Path(__file__).resolve().parents[2] / "weights"
    parser.add_argument(
        "--publish-to", default=shipped, help="folder with a registry.json; default: weights/", **folder
    )
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    unknown = [name for name in given["steps"] if name not in steps]
    if unknown:
        parser.error(f"unknown step {unknown[0]!r}; choose {', '.join(steps)}")
    chosen = given["steps"] or steps
    given["steps"] = tuple(name for name in steps if name in chosen)
    given["paces"] = {
        phase.name: Pace(minutes=given.pop(f"minutes_{phase.name}"), steps=given.pop(f"steps_{phase.name}"))
        for phase in PHASES
    }
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return Options(**settings)
