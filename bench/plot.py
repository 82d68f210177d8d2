"""Bars of ``bench tag --json FILE``: shares of the machine's limit, and start-up.

Usage: ``python -m bench.plot FILE ... PICTURE.png``.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

NOT_CONTENDERS = ("limit", "times real time")
STARTS = {"samptag, one 30 s clip": "clip", "earlier, one 30 s clip": "earlier", "import torch": "torch"}
ROOM = 80  # up to here a figure fits between the bar and 100 %
OURS, OTHERS, LINE = "#2a6f97", "#b8c4cc", "#c1121f"


def shares(figures: dict[str, float]) -> dict[str, float]:
    """Speed of every contender as a share of the machine's limit, fastest first."""
    own = figures["limit"]
    found = {"samptag": own}
    found |= {name: own / ratio for name, ratio in figures.items() if name not in NOT_CONTENDERS}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def draw(figures: dict[str, Any], picture: Path) -> None:
    """Write one panel of bars a format, and one of start-up, to `picture`."""
    formats = [name for name in ("mp3", "flac", "ogg") if name in figures]
    panels = len(formats) + ("start" in figures)
    figure, axes = plt.subplots(1, panels, figsize=(4.9 * panels, 3.2), squeeze=False)
    if "start" in figures:
        draw_start(figures["start_rounds"], axes[0, -1])
    for axis, name in zip(axes[0], formats, strict=False):
        bars = shares(figures[name])
        labels, values = list(bars), [100 * value for value in bars.values()]
        axis.barh(labels, values, color=[OURS if label == "samptag" else OTHERS for label in labels])
        axis.axvline(100, color=LINE, linewidth=1.2)
        for place, value in enumerate(values):
            # Beside the bar, or in it where the text would lie on the limit's line.
            inside = value > ROOM
            style = {"ha": "right", "color": "white"} if inside else {}
            axis.text(value + (-1.5 if inside else 1.5), place, f"{value:.0f} %", va="center", fontsize=9, **style)
        axis.set(title=f"{name.upper()} library, 44.1 kHz stereo", xlim=(0, 118), xlabel="% of the machine's limit")
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    machine = figures["machine"]
    note = f"{machine['cores']} cores, {machine['vectors']}, torch {machine['torch']}; whole processes, medians"
    figure.text(0.995, 0.005, note, ha="right", fontsize=7, color="#555")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(picture, dpi=160)


def draw_start(rounds: dict[str, Any], axis: Any) -> None:
    """One bar of seconds a command, medians."""
    labels = [label for label, name in STARTS.items() if name in rounds]
    values = [median(rounds[STARTS[label]]["wall_seconds"]) for label in labels]
    axis.barh(labels, values, color=[OURS if label.startswith("samptag") else OTHERS for label in labels])
    for place, value in enumerate(values):
        axis.text(value + 0.02, place, f"{value:.2f} s", va="center", fontsize=9)
    axis.set(title="Start-up, whole processes", xlim=(0, 1.2 * max(values)), xlabel="seconds")
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw the files that are named into the picture named last; formats may come from different runs."""
    *files, picture = sys.argv[1:] or [""]
    if not files:
        sys.exit(f"usage: {__doc__}")
    figures: dict[str, Any] = {}
    for file in files:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        figures |= found | ({"start_rounds": found["rounds"]["start"]} if "start" in found else {})
    draw(figures, Path(picture))


if __name__ == "__main__":
    main()
