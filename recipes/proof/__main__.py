"""The command: ``python -m recipes.proof --music DIR --work DIR``."""

import argparse
import sys
from pathlib import Path

from recipes.command import exit_code
from recipes.library.music import read_music
from recipes.proof.manifests import write_manifests
from recipes.proof.report import report
from recipes.proof.runs import COMPARISONS, carry_out, planned

TEACHERS = "musicnn-mtat50,vgg-mtat50"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.proof", description=__doc__)
    parser.add_argument("comparisons", nargs="*", metavar="COMPARISON", help=f"of {', '.join(COMPARISONS)}; else all")
    parser.add_argument("--music", type=Path, required=True, metavar="DIR", help="a collection with tracks.csv")
    parser.add_argument("--teacher", default=TEACHERS, metavar="NAME,...", help=f"weights; default {TEACHERS}")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for everything made")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each kind; default 3")
    options = parser.parse_args()
    unknown = [name for name in options.comparisons if name not in COMPARISONS]
    if unknown:
        parser.error(f"unknown comparison {unknown[0]!r}; choose {', '.join(COMPARISONS)}")
    names = options.comparisons or list(COMPARISONS)

    def compare() -> None:
        options.work.mkdir(parents=True, exist_ok=True)
        write_manifests(read_music(options.music), teachers=options.teacher.split(","), work=options.work)
        for run in planned(names, seeds=options.seeds, work=options.work):
            carry_out(run)
        print(report(names, work=options.work))

    return exit_code(compare)


if __name__ == "__main__":
    sys.exit(main())
