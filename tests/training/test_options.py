import pytest

from samptag.errors import WeightsError
from samptag.training.budget import Budget
from samptag.training.options import choose
from samptag.training.recipe import MODERN

NOTHING = dict.fromkeys(
    ("data", "format", "split", "subset", "seed", "pos_weight", "init_from", "cache", "name", "licence")
)


def test_a_checkpoint_with_settings_unknown_here_is_told_in_one_line():
    stored = {**NOTHING, "data": "songs", "budget": {"epochs": 3}, "recipe": {**MODERN.to_dict(), "warp": 9}}
    with pytest.raises(WeightsError, match=r"another samptag's \(unknown recipe settings: warp\)"):
        choose(NOTHING, stored=stored, recipe=None, batch_size=None, learning_rate=None, budget=Budget())
