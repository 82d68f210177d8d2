"""How often the 95 % intervals of `samptag eval` hold what they are intervals of: ``python -m bench.coverage``.

Test sets are drawn from a known world: labels with a tag's prevalence, scores normal with a shift for positives. Each
set is scored as `samptag eval` does, and three intervals from the same bootstrap are asked for two truths: the mean of
the macro figure over test sets of this size, and its value in the population that the sets are drawn from.
percentile: the quantiles of the draws; moved: those shifted until the draws' mean is the figure, which `samptag eval`
prints; basic: the quantiles mirrored at the figure.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from samptag.evaluation.metrics import interval, pr_auc, rankable, resample, roc_auc

LEVEL = 0.95
RARE_TO_COMMON = np.linspace(0.05, 0.35, 20)
# Tracks by the 31 artists of the model card's 63, most first.
ARTISTS = (10, 7, 5, 4, 3, *(2,) * 8, *(1,) * 18)
# Every second of the 36 tags of that table: positives among its 63 tracks.
CARD = np.array([4, 4, 5, 5, 6, 7, 8, 8, 10, 13, 14, 15, 17, 17, 19, 21, 30, 31]) / 63


@dataclass(frozen=True)
class World:
    """What test sets are drawn from.

    `group_sizes` are the tracks of each artist. An artist's tracks share a label with probability `alike`, and half of
    the variance of their scores. `roc` is each tag's ROC-AUC; tags with fewer than `min_positives` are left out.
    """

    name: str
    group_sizes: tuple[int, ...]
    prevalence: NDArray[np.float64]
    roc: float
    alike: float = 0.0
    min_positives: int = 1

    def draw(self, rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Labels and scores (tracks, tags) of artists with `sizes` tracks."""
        groups = np.repeat(np.arange(len(sizes)), sizes)
        shape = (len(groups), len(self.prevalence))
        of_artist = rng.random((len(sizes), shape[1]))[groups]
        luck = np.where(rng.random(shape) < self.alike, of_artist, rng.random(shape))
        labels = luck < self.prevalence
        shared = 0.5 if self.alike else 0.0
        noise = np.sqrt(1 - shared) * rng.normal(size=shape)
        noise += np.sqrt(shared) * rng.normal(size=(len(sizes), shape[1]))[groups]
        return labels, noise + labels * np.sqrt(2) * NormalDist().inv_cdf(self.roc)

    def kept(self, labels: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The tags that a set can be scored on."""
        return np.flatnonzero(rankable(labels) & (labels.sum(axis=0) >= self.min_positives))


WORLDS = (
    World("63 tracks, at chance", (1,) * 63, RARE_TO_COMMON, 0.5),
    World("63 tracks, ROC-AUC .85", (1,) * 63, RARE_TO_COMMON, 0.85),
    World("63 tracks, 6 % positives", (1,) * 63, np.full(20, 0.06), 0.85),
    World("300 tracks, 6 % positives", (1,) * 300, np.full(20, 0.06), 0.85),
    World("4 332 tracks, 2 to 20 % positives", (1,) * 4332, np.linspace(0.02, 0.2, 5), 0.9),
    World("the card's: 63 tracks, 31 artists, at least 4 positives", ARTISTS, CARD, 0.85, alike=0.7, min_positives=4),
)


def measure(world: World, *, trials: int, resamples: int) -> list[str]:
    """One row of the table for each measure."""
    rng = np.random.default_rng(0)
    sets = [world.draw(rng, world.group_sizes) for _ in range(trials)]
    alone = (1,) * (60_000 if len(world.group_sizes) < 1000 else 400_000)
    in_all = world.draw(rng, alone)
    groups = [str(group) for group in np.repeat(np.arange(len(world.group_sizes)), world.group_sizes)]
    draws = [
        resample(labels[:, kept], scores[:, kept], groups=groups, resamples=resamples, seed=trial)
        for trial, (labels, scores) in enumerate(sets)
        if len(kept := world.kept(labels))
    ]
    rows = []
    areas: tuple[tuple[str, Callable[..., NDArray[np.float64]]], ...] = (("ROC-AUC", roc_auc), ("PR-AUC", pr_auc))
    for which, (name, area) in enumerate(areas):
        every = area(*in_all)
        figures, population = [], []
        for labels, scores in sets:
            kept = world.kept(labels)
            figures.append(area(labels[:, kept], scores[:, kept]).mean())
            population.append(every[kept].mean())
        held = np.zeros((2, 3))
        for figure, of_all, drawn in zip(figures, population, draws, strict=True):
            ends = intervals(drawn[which], figure)
            for row, truth in enumerate((np.mean(figures), of_all)):
                held[row] += [low <= truth <= high for low, high in ends]
        shares = [" / ".join(f"{share:.2f}" for share in row) for row in held / len(draws)]
        means = f"{np.mean(figures):.3f} | {np.mean(population):.3f}"
        rows.append(f"| {world.name} | {name} | {means} | {shares[0]} | {shares[1]} |")
    return rows


def intervals(drawn: NDArray[np.float64], figure: float) -> list[tuple[float, float]]:
    """Percentile, moved and basic."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [(low, high), interval(drawn, estimate=figure, level=LEVEL), (2 * figure - high, 2 * figure - low)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400, help="test sets drawn from each world")
    parser.add_argument("--resamples", type=int, default=400, help="bootstrap draws of each")
    parser.add_argument("--only", default="", help="worlds whose name holds this")
    options = parser.parse_args()
    print("| test sets | figure | mean over sets | population | of sets of this size | of the population |")
    print("| --- | --- | --- | --- | --- | --- |")
    for world in (world for world in WORLDS if options.only in world.name):
        for row in measure(world, trials=options.trials, resamples=options.resamples):
            print(row, flush=True)


if __name__ == "__main__":
    main()
