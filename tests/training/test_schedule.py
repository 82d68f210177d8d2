"""The five-stage schedule, driven by a scripted sequence of validation losses; the cosine; the recipes."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from samptag.errors import UsageError
from samptag.training.optimise import CosineSchedule, EpochVerdict, StagedSchedule, schedule_for
from samptag.training.recipe import KIM, MODERN, PAPER, RECIPES, Recipe, recipe_named

KEEP, WAIT = EpochVerdict(best=True), EpochVerdict(best=False)
NEXT = EpochVerdict(best=False, reload=True)
END = EpochVerdict(best=False, reload=True, finished=True)

# (validation loss of the epoch, what must follow), stage by stage; patience 3: the fourth bad epoch ends a stage
SCRIPT = [
    # stage 1: improves, stalls for three epochs, improves again, then four epochs without a new lowest loss
    [(0.3, KEEP), (0.25, KEEP), *[(0.25, WAIT)] * 3, (0.24, KEEP), (0.241, WAIT), *[(0.3, WAIT)] * 2, (0.24, NEXT)],
    # stage 2 starts above the best of stage 1 and still counts as a best of its own
    [(0.28, KEEP), (0.29, WAIT), (0.29, WAIT), (0.3, WAIT), (0.285, NEXT)],
    # stage 3: a NaN is no improvement
    [(0.22, KEEP), (math.nan, WAIT), (0.23, WAIT), (math.nan, WAIT), (0.24, NEXT)],
    # stage 4: never a second best
    [(0.21, KEEP), (0.21, WAIT), (0.21, WAIT), (0.21, WAIT), (0.21, NEXT)],
    [(0.20, KEEP), (0.19, KEEP), (0.2, WAIT), (0.2, WAIT), (0.2, WAIT), (0.2, END)],
]


class KerasEarlyStopping:
    """`EarlyStopping` of Keras 1.1.0 (and 2.0.5) watching a loss: patience is asked before the bad epoch is counted."""

    def __init__(self, patience: int) -> None:
        self.patience, self.wait, self.best = patience, 0, math.inf

    def stops_after(self, loss: float) -> bool:
        if loss < self.best:
            self.best, self.wait = loss, 0
            return False
        stop = self.wait >= self.patience
        self.wait += 1
        return stop


@pytest.mark.parametrize("recipe", [PAPER, KIM], ids=lambda recipe: recipe.name)
def test_stages_end_when_keras_would_end_them(recipe: Recipe):
    for seed in range(50):
        losses = np.random.default_rng(seed).normal(size=400)
        losses[::17] = math.nan
        schedule, keras = schedule_for(recipe), KerasEarlyStopping(recipe.patience)
        stages = 0
        for loss in losses:
            verdict = schedule.epoch_done(loss)
            stops = keras.stops_after(loss)
            assert verdict.reload == stops
            if stops:
                keras, stages = KerasEarlyStopping(recipe.patience), stages + 1
            if verdict.finished:
                break
        assert stages == 5


def test_paper_schedule_follows_the_script():
    schedule = schedule_for(PAPER)
    assert isinstance(schedule, StagedSchedule)
    for number, (rate, epochs) in enumerate(zip((0.01, 0.002, 0.0004, 0.00008, 0.000016), SCRIPT, strict=True)):
        iteration = 0
        for loss, verdict in epochs:
            assert schedule.stage == number
            for _ in range(7):
                assert schedule.learning_rate() == rate / (1 + 1e-6 * iteration)
                schedule.step_done()
                iteration += 1
            assert schedule.epoch_done(loss) == verdict


def test_paper_schedule_continues_from_its_state_at_any_epoch():
    events = [event for stage in SCRIPT for event in stage]
    for cut in range(len(events)):
        first, second = schedule_for(PAPER), schedule_for(PAPER)
        for loss, _ in events[:cut]:
            first.step_done()
            first.epoch_done(loss)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for loss, verdict in events[cut:]:
            assert second.learning_rate(0.5) == first.learning_rate(0.5)
            first.step_done()
            second.step_done()
            assert first.epoch_done(loss) == second.epoch_done(loss) == verdict


def test_cosine_climbs_then_falls_to_zero():
    schedule = CosineSchedule(replace(MODERN, learning_rates=(0.1,), warmup_fraction=0.2))
    rates = [schedule.learning_rate(p / 100) for p in range(101)]
    assert rates[0] > 0
    assert rates[10] == pytest.approx(0.05)
    assert max(rates) == rates[20] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert schedule.learning_rate(1.5) == pytest.approx(0, abs=1e-12)


def test_the_best_epoch_has_the_highest_score_and_of_equal_ones_the_lowest_loss():
    schedule = schedule_for(MODERN)
    epochs = [(0.5, 1.0), (0.7, 0.9), (0.6, 0.1), (math.nan, 0.1), (0.71, 2.0), (0.71, 2.0), (0.71, 1.5), (0.71, 1.6)]
    verdicts = [schedule.epoch_done(loss, score=score).best for score, loss in epochs]
    assert verdicts == [True, True, False, False, True, False, True, False]
    fresh = schedule_for(MODERN)
    fresh.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert not fresh.epoch_done(0.1, score=0.705).best
    assert fresh.epoch_done(1.4, score=0.71).best


def test_paper_recipe_is_the_table():
    assert PAPER.batch_size == 23
    assert (PAPER.optimiser, PAPER.momentum, PAPER.weight_decay) == ("sgd", 0.9, 0.0)
    assert PAPER.learning_rates == (0.01, 0.002, 0.0004, 0.00008, 0.000016)
    assert (PAPER.iteration_decay, PAPER.patience, PAPER.monitor) == (1e-6, 3, "loss")
    assert (PAPER.segments, PAPER.segments_per_clip, PAPER.ema_decay, PAPER.epochs) == ("all", None, None, None)
    assert (PAPER.full_batches, PAPER.subsets) == (True, 37)
    assert [PAPER.for_format(name).batch_size for name in ("mtat", "msd")] == [23, 50]
    varied = PAPER.augmentation
    assert (varied.gain_db, varied.polarity, varied.mixup_probability) == (0, 0, 0)
    assert (varied.noise_probability, varied.band_limit_probability) == (0, 0)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_recipes_survive_json(recipe: Recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(TypeError, match="learning_rat"):
        Recipe.from_dict(recipe.to_dict() | {"learning_rat": 1})
    with pytest.raises(UsageError, match=r"'papre'.*modern, paper, kim"):
        recipe_named("papre")
