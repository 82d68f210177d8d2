"""What a training was asked for, and whether a checkpoint is of that training."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from samptag.core.model import ModelConfig
from samptag.errors import UsageError, WeightsError
from samptag.training.budget import Budget
from samptag.training.recipe import MODERN, Recipe, recipe_named

__all__ = ["Choices", "check_identity", "choose"]

# What a resumed training must have in common with its checkpoint, and what people call it.
_IDENTITY = {
    "config": "model",
    "tags": "list of tags",
    "split_name": "split",
    "split_hash": "list of clips",
    "recipe": "recipe",
    "seed": "--seed",
    "frozen_encoder": "--freeze-encoder",
    "pos_weight": "--pos-weight",
}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The settled choices of a training.

    Attributes
    ----------
    data : str
    format, split, subset : str or None
    recipe : Recipe
    budget : Budget
    seed : int
    frozen_encoder : bool
    pos_weight : float, "balanced" or None
    init_from : str or None
    cache : str or None
        Where decoded audio is kept; None for the usual place.
    name : str or None
        Of the exported weights; None for the folder's.
    licence : str
    """

    data: str
    format: str | None
    split: str | None
    subset: str | None
    recipe: Recipe
    budget: Budget
    seed: int
    frozen_encoder: bool
    pos_weight: float | str | None
    init_from: str | None
    cache: str | None
    name: str | None
    licence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for checkpoints."""
        return {**asdict(self), "recipe": self.recipe.to_dict()}


def choose(
    given: Mapping[str, Any],
    *,
    stored: Mapping[str, Any] | None,
    recipe: str | None,
    batch_size: int | None,
    learning_rate: float | None,
    budget: Budget,
) -> Choices:
    """The choices from what the user gave (None: nothing), what the checkpoint holds, and the defaults, in that order.

    Raises
    ------
    UsageError
        When there is no data set to train on, or a value makes no sense.
    WeightsError
        When the checkpoint's recipe has settings that are unknown here.
    """
    before: Mapping[str, Any] = stored or {}
    values: dict[str, Any] = {
        name: before.get(name) if given[name] is None else given[name]
        for name in ("data", "format", "split", "subset", "seed", "pos_weight", "init_from", "cache", "name", "licence")
    }
    if values["data"] is None:
        raise UsageError("no data set: say --data DIR")
    values["seed"] = values["seed"] or 0
    values["licence"] = values["licence"] or "unspecified"
    pos_weight = values["pos_weight"]
    if not (pos_weight in (None, "balanced") or (isinstance(pos_weight, int | float) and 0 < pos_weight < math.inf)):
        raise UsageError(f"--pos-weight must be a number above 0 or 'balanced', not {pos_weight!r}")
    base = recipe_named(recipe) if recipe is not None else _stored_recipe(before) if before else MODERN
    if budget == Budget():
        budget = Budget(**before["budget"]) if before else Budget(epochs=base.epochs)
    return Choices(
        **values,
        recipe=_adapted(base, batch_size=batch_size, learning_rate=learning_rate),
        budget=budget,
        frozen_encoder=bool(given["frozen_encoder"] or before.get("frozen_encoder")),
    )


def _adapted(recipe: Recipe, *, batch_size: int | None, learning_rate: float | None) -> Recipe:
    """`recipe` with another batch size, and its learning rates scaled so that the first is `learning_rate`."""
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    if learning_rate is not None:
        factor = learning_rate / recipe.learning_rates[0]
        recipe = replace(recipe, learning_rates=tuple(rate * factor for rate in recipe.learning_rates))
    return recipe


def check_identity(path: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that is of another training than the one that is asked for.

    Raises
    ------
    WeightsError
        Names the first thing that differs.
    """
    for key, word in _IDENTITY.items():
        if stored[key] != now[key]:
            old, new = (_shown(key, values[key]) for values in (stored, now))
            raise WeightsError(
                f"{path} is of another training: its {word} is {old}, not {new}; leave that option out to resume it, "
                "or start anew with another --out"
            )


def _stored_recipe(stored: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.from_dict(stored["recipe"])
    except ValueError as error:
        raise WeightsError(f"the checkpoint is another samptag's ({error}); start anew with another --out") from None


def _shown(key: str, value: Any) -> str:
    if key == "config":
        config = ModelConfig.from_dict(value)
        return f"{config.name} at {config.sample_rate} Hz with {config.n_tags} tags"
    if key == "tags":
        return f"{', '.join(value[:5])}{', ...' if len(value) > 5 else ''}"
    if key == "recipe":
        return f"{value['name']} (batch size {value['batch_size']}, learning rate {value['learning_rates'][0]:g})"
    return str(value)
