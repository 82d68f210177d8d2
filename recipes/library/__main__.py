"""The library's weights, from folders of music to bundled files: every step is a command of samptag's, or prints one.

    python -m recipes.library --music DIR [DIR ...] --work WORK [STEP ...]

STEP is manifest, vary, train, evaluate or publish; all of them, in this order, where none is named. What is there stays
as it is, and a training that was stopped goes on. See README.md beside this file.
"""

import argparse
import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.command import exit_code
from recipes.library.evaluate import LISTENERS, PERTURBATIONS, VOCABULARY, measure, text
from recipes.library.music import SEGMENTS_PER_CLIP, Track, read_music
from recipes.library.publish import PARTS, WEIGHTS, halve, publish
from recipes.library.vary import vary
from samptag.data.formats import mtat
from samptag.errors import SamptagError, UsageError
from samptag.files import atomic_write

STEPS = ("manifest", "vary", "train", "evaluate", "publish")
TEACHERS = (
    *("musicnn-mtat50", "vgg-mtat50", "musicnn-msd50", "won-fcn-msd50"),
    *("won-musicnn-jamendo50", "won-fcn-jamendo50"),
)
# One artist in so many chooses the best epoch.
VALID_SHARE = 20


@dataclass(frozen=True)
class Student:
    """One network: its name, and what `samptag train` is asked for beside teachers and music."""

    name: str
    options: str


_HOW = "--batch-size 256 --learning-rate 1.5e-3 --epochs"
STUDENTS = (
    Student("frame-mel-729-243", f"--init-from frame-mel-729-243-library {_HOW} 20"),
    Student("samplecnn-3-9", f"--init-from samplecnn-3-9-library {_HOW} 24 --compile"),
)


def write_manifest(music: Sequence[Track], path: Path) -> None:
    """List what students learn from; what figures are measured on is left out."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("path", "split", "group"))
    for track in music:
        if track.learned:
            number = int(hashlib.sha256(track.artist.encode()).hexdigest(), 16)
            rows.writerow((track.path.resolve(), "train" if number % VALID_SHARE else "valid", track.artist))
    with atomic_write(path) as file:
        file.write(table.getvalue().encode())


def write_words(path: Path) -> None:
    """List what students learn: the library's words, and MagnaTagATune's tags as their own outputs."""
    rows = [f"{LISTENERS}{tag},listeners,mtat50:{tag},\n" for tag in mtat.TAGS]
    with atomic_write(path) as file:
        file.write(VOCABULARY.read_bytes() + "".join(rows).encode())


def train(student: Student, *, work: Path, teachers: Sequence[str], cache: Path | None) -> None:
    """Train one student, or go on with it."""
    out = work / student.name
    command = [sys.executable, "-m", "samptag", "train", "--out", str(out)]
    if cache is not None:
        command += ["--cache", str(cache)]
    if (out / "last.pt").exists():
        command += ["--resume"]
    else:
        command += ["--data", str(work / "varied.csv"), "--name", student.name, "--licence", "CC-BY-NC-SA-4.0"]
        command += ["--segments-per-clip", str(SEGMENTS_PER_CLIP), "--no-live-teachers"]
        command += ["--teacher", ",".join(teachers), "--vocabulary", str(work / "words.csv"), *student.options.split()]
    print(" ".join(command), file=sys.stderr)
    done = subprocess.run(command, check=False).returncode
    if done:
        raise SamptagError(f"{student.name}: samptag train ended with {done}")


def named(teachers: Sequence[str], folder: Path | None) -> tuple[str, ...]:
    """The teachers, as files where `folder` has them."""
    files = [None if folder is None else folder / f"{name}.safetensors" for name in teachers]
    return tuple(str(file) if file and file.exists() else name for name, file in zip(teachers, files, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.library", description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--music", type=Path, nargs="+", required=True, metavar="DIR", help="folders with tracks.csv")
    parser.add_argument("--excerpts", type=Path, metavar="DIR", help="more to learn from: what excerpts.py wrote")
    parser.add_argument(
        "--versions", type=int, default=5, metavar="N", help="of all that is learned from (%(default)s)"
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[each.name for each in STUDENTS])
    parser.add_argument("--teachers", type=Path, metavar="DIR", help="teachers' files; else fetched by their names")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for decoded audio and what teachers say")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:1], help="outputs to publish: %(choices)s")
    parser.add_argument("--publish-to", type=Path, metavar="DIR", default=WEIGHTS)
    options = parser.parse_args()
    steps = options.steps or STEPS
    if unknown := [step for step in steps if step not in STEPS]:
        parser.error(f"no step is called {unknown[0]}; there are {', '.join(STEPS)}")

    def work() -> None:
        options.work.mkdir(parents=True, exist_ok=True)
        music = [track for folder in options.music for track in read_music(folder)]
        teachers = named(TEACHERS, options.teachers)
        if "manifest" in steps and not (options.work / "manifest.csv").exists():
            write_manifest(music, options.work / "manifest.csv")
            write_words(options.work / "words.csv")
        if "vary" in steps:
            lists = options.work / "manifest.csv", options.work / "varied.csv"
            vary(*lists, excerpts=options.excerpts, versions=options.versions, cache=options.cache)
        for student in (each for each in STUDENTS if not options.only or each.name in options.only):
            weights, figures = (options.work / f"{student.name}.{kind}" for kind in ("safetensors", "json"))
            if "train" in steps:
                train(student, work=options.work, teachers=teachers, cache=options.cache)
            if "evaluate" in steps:
                halve(options.work / student.name / "model.safetensors", weights)
                found = measure(
                    str(weights), music=music, teachers=teachers, cache=options.cache, perturbations=PERTURBATIONS
                )
                with atomic_write(figures) as file:
                    file.write((json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
                print(text(found))
            if "publish" in steps:
                if not figures.exists():
                    raise UsageError(f"{figures} is not there: run the step evaluate first")
                found = json.loads(figures.read_text(encoding="utf-8"))
                for part in options.parts:
                    publish(weights, part, figures=found, folder=options.publish_to)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
