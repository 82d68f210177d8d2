"""What each choice in the recipe `modern` is worth: ``python -m recipes.proof.choices --music DIR --work DIR``.

A small MagnaTagATune is made of music that only teachers heard: a tag is present in a track where their mean score says
so, half of the artists are held out, and an eighth trains. `modern` is trained on it with one thing changed at a time,
every row with the same steps and the same seeds. Two test sets: the held-out artists, by which choices are made, and
the tracks that listeners tagged, which only report. A run that is done is kept in ``choices.jsonl``; stopped, the same
command goes on.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import samptag
from recipes.command import exit_code
from recipes.library.music import read_music
from recipes.proof.__main__ import TEACHERS
from recipes.proof.manifests import write_manifests
from samptag.core.model import ModelConfig, config_from_name
from samptag.data.cache import build_cache
from samptag.data.dataset import Dataset
from samptag.data.formats import open_dataset
from samptag.engine.predictor import Predictor
from samptag.evaluation.metrics import macro, pr_auc, roc_auc
from samptag.pretrained import load_weights
from samptag.training.batches import consecutive_segments, mapped_source
from samptag.training.recipe import MODERN, Augmentation, Recipe

# From here on the teachers say yes; see recipes/library/README.md.
YES = 0.2
LEAST_POSITIVES = 4
MODEL = "frame-mel-3-3-729-729"
SCORED_PER_CLIP = 8
# Tracks are twice as long as MagnaTagATune's clips.
BASE = replace(MODERN, segments_per_clip=20)


def _augmented(**changes: Any) -> Recipe:
    return replace(BASE, augmentation=replace(BASE.augmentation, **changes))


ROWS: dict[str, tuple[str, Recipe]] = {
    "modern": (MODEL, BASE),
    "and equaliser": (MODEL, _augmented(equaliser_probability=0.5)),
    "and band stop": (MODEL, _augmented(band_stop_probability=0.5)),
    "and speed": (MODEL, _augmented(speed_probability=0.5)),
    "2 segments an example": (MODEL, replace(BASE, segments_per_example=2)),
    "4 segments an example": (MODEL, replace(BASE, segments_per_example=4)),
    "no augmentation": (MODEL, replace(BASE, augmentation=Augmentation())),
    "no moving average": (MODEL, replace(BASE, ema_decay=None)),
    "multi-level": (f"{MODEL}-multi", BASE),
    "rese, multi-level": (f"{MODEL}-rese-multi", BASE),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run: macro figures on the held-out artists' tracks and on those that listeners tagged."""

    row: str
    seed: int
    steps: int
    held_out_roc: float
    held_out_pr: float
    human_roc: float
    human_pr: float


def write_choices(work: Path) -> Path:
    """The manifest of the small data set, from those of `write_manifests` in `work`."""
    human, every = (_rows(work / f"{name}.jsonl") for name in ("human", "teacher"))
    listened = {row["path"] for row in human}
    path = work / "choices-data.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in every:
            artist = zlib.crc32(row["group"].encode())
            if row["path"] not in listened:
                row["tags"] = {tag: 1.0 for tag, score in row["tags"].items() if score > YES}
                row["split"] = "test" if artist % 2 else "unused" if artist % 8 else "train"
            elif row["split"] == "train":
                row["split"] = "unused"
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def carry_out(row: str, *, seed: int, steps: int, data: Path, work: Path) -> Outcome:
    """Train and score one row with one seed, on the CPU."""
    model, recipe = ROWS[row]
    dataset, cache = open_dataset(data), work / "cache"
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"recipe": recipe, "model": model, "cache": cache, "device": "cpu"}
        done = samptag.train(data, out=Path(folder) / "run", seed=seed, max_steps=steps, **options)
        if done.stopped_by:
            raise KeyboardInterrupt
        scores, labels, clips = _tested(dataset, str(done.model_path), cache, config_from_name(model))
    listened = {line["path"] for line in _rows(work / "human.jsonl")}
    heard = np.array([str(dataset.clips[clip].path) in listened for clip in clips])
    figures = {}
    for name, part in (("held_out", ~heard), ("human", heard)):
        kept = labels[part].sum(axis=0) >= LEAST_POSITIVES
        for measure, of in (("roc", roc_auc), ("pr", pr_auc)):
            figures[f"{name}_{measure}"] = macro(of(labels[part][:, kept], scores[part][:, kept]))
    return Outcome(row=row, seed=seed, steps=steps, **figures)


def _tested(dataset: Dataset, weights: str, directory: Path, model: ModelConfig) -> tuple[Any, Any, Any]:
    """Scores and labels (clips, tags) of the test clips, by the paper's protocol, and their places."""
    audio = build_cache(dataset, sample_rate=model.sample_rate, directory=directory)
    places = {id(clip): place for place, clip in enumerate(dataset.clips)}
    clips = np.array([places[id(clip)] for clip in dataset.select("test")])
    segments = consecutive_segments(audio, clips, model=model, per_clip=SCORED_PER_CLIP)
    load, predict = mapped_source(audio, device=torch.device("cpu")), Predictor(load_weights(weights))
    parts = [segments.take(slice(i, i + 32)) for i in range(0, len(segments), 32)]
    said = np.concatenate([predict(load(part).numpy())[0] for part in parts])
    scores = np.zeros((len(clips), said.shape[1]))
    np.add.at(scores, segments.clips, said)
    labels = np.stack([dataset.clips[clip].labels for clip in clips])
    return scores / np.bincount(segments.clips)[:, None], labels, clips


def outcomes(path: Path) -> list[Outcome]:
    """The runs that are done."""
    return [Outcome(**row) for row in _rows(path)] if path.is_file() else []


def report(found: Sequence[Outcome], *, steps: int) -> Iterator[str]:
    """Markdown: mean and standard deviation over the seeds, and the lead over the first row, seed by seed."""
    first = next(iter(ROWS))
    base = {o.seed: o for o in found if o.row == first and o.steps == steps}
    columns = ("held_out_roc", "held_out_pr", "human_roc", "human_pr")
    yield "| | seeds | held-out artists: ROC-AUC | lead | PR-AUC | lead | listeners: ROC-AUC | lead | PR-AUC | lead |"
    yield "| --- |" + " --- |" * 9
    for row in ROWS:
        mine = [o for o in found if o.row == row and o.steps == steps]
        cells = []
        for name in columns:
            leads = [getattr(o, name) - getattr(base[o.seed], name) for o in mine if o.seed in base]
            cells += [_spread([getattr(o, name) for o in mine], ".3f"), "" if row == first else _spread(leads, "+.3f")]
        yield f"| {row} | {len(mine)} | {' | '.join(cells)} |"


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    return f"{mean(values):{form}}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.proof.choices", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {', '.join(ROWS)}; else all")
    parser.add_argument("--music", type=Path, required=True, metavar="DIR", help="a collection with tracks.csv")
    parser.add_argument("--teacher", default=TEACHERS, metavar="NAME,...", help=f"weights; default {TEACHERS}")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for everything made")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each row; default 3")
    parser.add_argument("--steps", type=int, default=250, metavar="N", help="of 32 segments; default 250")
    options = parser.parse_args()
    rows = options.rows or list(ROWS)
    if unknown := set(rows) - set(ROWS):
        parser.error(f"unknown row {unknown.pop()!r}")

    def compare() -> None:
        options.work.mkdir(parents=True, exist_ok=True)
        write_manifests(read_music(options.music), teachers=options.teacher.split(","), work=options.work)
        data, kept = write_choices(options.work), options.work / "choices.jsonl"
        for seed in range(options.seeds):
            for row in rows:
                if (row, seed, options.steps) in {(o.row, o.seed, o.steps) for o in outcomes(kept)}:
                    continue
                outcome = carry_out(row, seed=seed, steps=options.steps, data=data, work=options.work)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
        print("\n".join(report(outcomes(kept), steps=options.steps)))

    return exit_code(compare)


if __name__ == "__main__":
    sys.exit(main())
