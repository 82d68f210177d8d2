"""The five-stage schedule, driven by a scripted sequence of validation losses; the cosine; the recipes."""

import json
import math
from itertools import pairwise

import pytest

from samptag.errors import UsageError
from samptag.training.recipe import MODERN, PAPER, Recipe, recipe_named
from samptag.training.schedule import CosineSchedule, EpochVerdict, StagedSchedule, schedule_for

KEEP, WAIT = EpochVerdict(best=True), EpochVerdict(best=False)
NEXT = EpochVerdict(best=False, reload=True)
END = EpochVerdict(best=False, reload=True, finished=True)

# (validation loss of the epoch, what must follow), stage by stage; patience 3
SCRIPT = [
    # stage 1: improves, stalls for two epochs, improves again, then three epochs without a new lowest loss
    [(0.30, KEEP), (0.25, KEEP), (0.26, WAIT), (0.25, WAIT), (0.24, KEEP), (0.241, WAIT), (0.3, WAIT), (0.24, NEXT)],
    # stage 2 starts above the best of stage 1 and still counts as a best of its own
    [(0.28, KEEP), (0.29, WAIT), (0.29, WAIT), (0.285, NEXT)],
    # stage 3: a NaN is no improvement
    [(0.22, KEEP), (math.nan, WAIT), (0.23, WAIT), (0.24, NEXT)],
    # stage 4: never a second best
    [(0.21, KEEP), (0.21, WAIT), (0.21, WAIT), (0.21, NEXT)],
    [(0.20, KEEP), (0.19, KEEP), (0.2, WAIT), (0.2, WAIT), (0.2, END)],
]


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
    schedule = CosineSchedule(0.1, warmup_fraction=0.2)
    rates = [schedule.learning_rate(p / 100) for p in range(101)]
    assert rates[0] > 0
    assert rates[10] == pytest.approx(0.05)
    assert max(rates) == rates[20] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert schedule.learning_rate(1.5) == pytest.approx(0, abs=1e-12)
    verdicts = [schedule.epoch_done(score).best for score in (0.5, 0.7, 0.6, math.nan, 0.71)]
    assert verdicts == [True, True, False, False, True]
    fresh = CosineSchedule(0.1, warmup_fraction=0.2)
    fresh.load_state_dict(schedule.state_dict())
    assert not fresh.epoch_done(0.705).best


def test_paper_recipe_is_the_table():
    assert PAPER.batch_size == 23
    assert (PAPER.optimiser, PAPER.momentum, PAPER.weight_decay) == ("sgd", 0.9, 0.0)
    assert PAPER.learning_rates == (0.01, 0.002, 0.0004, 0.00008, 0.000016)
    assert (PAPER.iteration_decay, PAPER.patience, PAPER.monitor) == (1e-6, 3, "loss")
    assert (PAPER.segments, PAPER.segments_per_clip, PAPER.ema_decay, PAPER.epochs) == ("all", None, None, None)
    varied = PAPER.augmentation
    assert (varied.gain_db, varied.polarity, varied.mixup_probability) == (0, 0, 0)
    assert (varied.noise_probability, varied.band_limit_probability) == (0, 0)


@pytest.mark.parametrize("recipe", [PAPER, MODERN], ids=lambda recipe: recipe.name)
def test_recipes_survive_json(recipe: Recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(ValueError, match="learning_rat"):
        Recipe.from_dict(recipe.to_dict() | {"learning_rat": 1})
    with pytest.raises(UsageError, match=r"'papre'.*modern and paper"):
        recipe_named("papre")
