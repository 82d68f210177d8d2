"""One config: what was asked for now, what the checkpoint holds, the defaults, in that order."""

import json
from dataclasses import replace

import pytest

from samptag.core.model import ModelConfig
from samptag.errors import UsageError, WeightsError
from samptag.training.config import TrainConfig, settle
from samptag.training.recipe import MODERN, PAPER, TUNE, Augmentation

STORED = TrainConfig(data="/songs", model=ModelConfig(), recipe=PAPER, epochs=3, seed=7, device="cuda", jobs=2)


def test_it_comes_back_from_a_checkpoint():
    assert TrainConfig.from_dict(json.loads(json.dumps(STORED.to_dict()))) == STORED


def test_a_checkpoint_with_settings_unknown_here_is_one_line():
    for values in (STORED.to_dict() | {"warp": 9}, STORED.to_dict() | {"recipe": {**MODERN.to_dict(), "warp": 9}}):
        with pytest.raises(WeightsError, match=r"another version of samptag \(.*warp"):
            TrainConfig.from_dict(values)


def test_what_is_not_said_again_is_the_checkpoints_but_for_how_it_is_computed():
    again = settle({"data": None, "seed": None, "device": "cpu", "jobs": None}, stored=STORED)
    assert again == replace(STORED, device="cpu", jobs=None)
    assert settle({"device": "cpu", "seed": 0}, stored=STORED).seed == 0


def test_a_new_budget_replaces_the_old_one():
    config = settle({"max_minutes": 2.0}, stored=STORED)
    assert (config.epochs, config.max_minutes) == (None, 2.0)
    assert config.spent(steps=5, seconds=60, steps_per_epoch=10) == 0.5
    assert replace(config, epochs=1).spent(steps=9, seconds=60, steps_per_epoch=10) == 0.9
    assert replace(config, max_minutes=None).spent(steps=9, seconds=60, steps_per_epoch=10) is None


def test_recipes_by_name_and_by_what_is_trained():
    assert settle({"data": "songs"}, stored=None).recipe == MODERN
    assert settle({"data": "songs"}, stored=None).epochs == MODERN.epochs
    assert settle({"data": "songs", "init_from": "weights"}, stored=None).recipe == TUNE
    assert settle({"data": "songs", "init_from": "weights", "recipe": "paper"}, stored=None).recipe == PAPER
    changed = settle({"data": "songs", "recipe": "paper", "batch_size": 8, "learning_rate": 0.1}, stored=None).recipe
    assert changed.for_format("msd").batch_size == 8
    assert changed.learning_rates == pytest.approx([0.1, 0.02, 0.004, 0.0008, 0.00016])


def test_a_classifier_alone_sees_the_same_segments_again_and_again():
    config = settle({"data": "songs", "init_from": "weights", "freeze_encoder": True}, stored=None)
    assert (config.recipe.segments, config.recipe.augmentation) == ("all", Augmentation())
    assert config.epochs > TUNE.epochs
    assert settle({}, stored=config).recipe == config.recipe


@pytest.mark.parametrize("value", ["heavy", 0, -1.0, "inf", "nan", float("inf")])
def test_pos_weights_that_make_no_sense(value: object):
    with pytest.raises(UsageError, match="--pos-weight must be a number above 0 or 'balanced'"):
        settle({"data": "songs", "pos_weight": value}, stored=None)


def test_options_that_nobody_knows_are_refused():
    with pytest.raises(TypeError, match="warp"):
        settle({"data": "songs", "warp": 9}, stored=None)
