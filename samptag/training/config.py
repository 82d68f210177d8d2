"""The settings of a training: one frozen config, and whether a checkpoint belongs to the same training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from samptag.core.config import ModelConfig, config_from_name
from samptag.errors import UsageError, WeightsError
from samptag.text import first_names
from samptag.training.recipe import DISTIL, MODERN, TUNE, Recipe, recipe_named

_BUDGET = ("epochs", "max_steps", "max_minutes")
_OF_THE_RECIPE = ("batch_size", "learning_rate", "segments_per_clip", "segments_per_example")
# How the result is computed, not what it is: each run has its own, whatever the checkpoint says.
_PER_RUN = ("device", "jobs", "resident", "compiled", "save_every_minutes")
# Clips are compared by the split's name and hash, teachers by their digests, vocabularies by their words; the weights
# to start from are in the checkpoint.
_MAY_DIFFER = (
    *("data", "format", "split", "subset", "teacher", "vocabulary", "init_from", "cache", "name", "licence"),
    *_BUDGET,
    *_PER_RUN,
)
# These are compared first, in this order: a difference in one may cause those in the next.
_WORDS = {
    "freeze_encoder": "--freeze-encoder",
    "freeze_modules": "--freeze-modules",
    "recipe": "recipe",
    "model": "model",
    "tags": "list of tags",
    "split_name": "split",
    "split_hash": "list of clips",
    "teachers": "list of teachers",
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training: the command fills it, the trainer reads it, the checkpoint stores it.

    A resumed training must have the same value of every field that is not in one of the lists above this class.
    """

    data: str  # folder or manifest; see `samptag.data.formats.open_dataset`, also for the next three
    format: str | None = None
    split: str | None = None
    subset: str | None = None
    teacher: str | None = None  # names or paths of weights, between commas, whose scores are learned in place of labels
    # Table of the words to learn and the teachers' tags they are made of; see `samptag.training.vocabulary`. None: the
    # teachers' tags.
    vocabulary: str | None = None
    # Whether the teachers score every training segment as it is augmented, instead of the music once. The default with
    # teachers on CUDA, but not with a frozen encoder.
    live_teachers: bool = False
    # None: that of `init_from`, else samplecnn-3-9. Its number of tags is the data set's.
    model: ModelConfig | None = None
    recipe: Recipe = MODERN  # by name: "modern" is the default, with `init_from` "tune", with `teacher` "distil"
    init_from: str | None = None  # name or path of weights to start from; a classifier for other tags starts anew
    freeze_encoder: bool = False  # train the classifier alone, on embeddings that are computed once
    # Keep the front end and this many of the lowest modules as in `init_from`: they are most of a CPU step's cost.
    freeze_modules: int | None = None
    # Weight of positives in the loss; "balanced": negatives / positives of each tag, at most 100.
    pos_weight: float | str | None = None
    # Same seed, data, number of threads and kind of CPU, and a budget that is not wall-clock time: the same weights,
    # bit for bit.
    seed: int = 0
    # The budget: the first limit reached ends the training; with none, the recipe's epochs do. Minutes are wall-clock
    # time from the first step on, validation and checkpoints included, over all runs of a resumed training.
    epochs: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    cache: str | None = None  # where decoded audio is kept; None for the usual place
    name: str | None = None  # of the exported weights; None: the folder's
    licence: str = "unspecified"  # of the exported weights
    device: str = "auto"  # as `samptag.Tagger` takes it
    jobs: int | None = None  # threads that decode audio
    # Whether the audio is copied to the device's memory; None: on CUDA where there is room.
    resident: bool | None = None
    compiled: bool = False  # run the model through torch.compile (not the CPU's fused layers)
    save_every_minutes: float = 10.0  # a checkpoint is also written so often inside an epoch

    def to_dict(self) -> dict[str, Any]:
        """Plain data for checkpoints; paths are absolute, since a training may be resumed from another folder."""
        plain = {**asdict(self), "recipe": self.recipe.to_dict()}
        for name in ("data", "cache", "vocabulary"):
            plain[name] = None if plain[name] is None else str(Path(plain[name]).absolute())
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` wrote; a WeightsError where it has unknown settings."""
        try:
            model = None if values["model"] is None else ModelConfig.from_dict(values["model"])
            return cls(**{**values, "model": model, "recipe": Recipe.from_dict(values["recipe"])})
        except (TypeError, ValueError) as error:
            advice = "start anew with another --out"
            raise WeightsError(f"the checkpoint is of another version of samptag ({error}); {advice}") from None

    def spent(self, *, steps: int, seconds: float, steps_per_epoch: int) -> float | None:
        """The share of the budget that is spent, 1 or more when it is used up; None where there is no limit."""
        limits = ((steps, 1, self.max_steps), (steps, steps_per_epoch, self.epochs), (seconds, 60, self.max_minutes))
        return max((done / (unit * limit) for done, unit, limit in limits if limit is not None), default=None)


def settle(given: Mapping[str, Any], *, stored: TrainConfig | None) -> TrainConfig:
    """The config from the options of `samptag.train`, else from the checkpoint (`stored`), else from the defaults."""
    values = {name: value for name, value in given.items() if value is not None}
    changed = {name: values.pop(name) for name in _OF_THE_RECIPE if name in values}
    before: dict[str, Any] = {}
    if stored is not None:
        dropped = {*_PER_RUN, *(_BUDGET if values.keys() & set(_BUDGET) else ())}
        before = {f.name: getattr(stored, f.name) for f in fields(stored) if f.name not in dropped}
    settled = before | values
    if "data" not in settled:
        raise UsageError("no data set: give --data DIR")
    for name in ("data", "cache", "init_from", "vocabulary"):
        settled[name] = None if settled.get(name) is None else str(settled[name])
    settled["pos_weight"] = _pos_weight(settled.get("pos_weight"))
    _check_teaching(settled)
    if settled.get("freeze_modules") is not None:
        if settled["init_from"] is None:
            raise UsageError("--freeze-modules needs weights to keep: give them with --init-from")
        if settled.get("freeze_encoder"):
            raise UsageError("--freeze-encoder already keeps all modules: leave out --freeze-modules")
    default = DISTIL if settled.get("teacher") else TUNE if settled["init_from"] else MODERN
    named = settled.setdefault("recipe", default)
    settled["recipe"] = recipe_named(named) if isinstance(named, str) else named
    if isinstance(settled.get("model"), str):
        settled["model"] = config_from_name(settled["model"])
    config = TrainConfig(**settled)
    recipe = config.recipe
    if config.init_from is not None and recipe is DISTIL:
        recipe = replace(DISTIL, norm_warmup_steps=0)  # their running statistics are kept
    recipe = _adapted(recipe.for_classifier() if config.freeze_encoder else recipe, **changed)
    bounded = any(getattr(config, name) is not None for name in _BUDGET)
    return replace(config, recipe=recipe, epochs=config.epochs if bounded else recipe.epochs)


def _check_teaching(settled: dict[str, Any]) -> None:
    """Refuse options that make no sense with or without teachers; make the teachers' paths absolute."""
    if settled.get("teacher") is None:
        if settled["vocabulary"] is not None:
            raise UsageError("--vocabulary says what teachers' tags mean: give --teacher too")
        if settled.get("live_teachers"):
            raise UsageError("--live-teachers says how teachers hear: give --teacher too")
        return
    if settled["pos_weight"] is not None:
        raise UsageError("--pos-weight weights labels, and with --teacher there are none: leave it out")
    if settled.get("live_teachers") and settled.get("freeze_encoder"):
        raise UsageError("--freeze-encoder computes embeddings once: leave out --live-teachers")
    names = [name.strip() for name in str(settled["teacher"]).split(",")]
    if not all(names):
        raise UsageError(f"--teacher {settled['teacher']}: a name between the commas is empty")
    settled["teacher"] = ",".join(str(Path(name).absolute()) if Path(name).is_file() else name for name in names)


def _pos_weight(value: Any) -> float | str | None:
    try:
        if value in (None, "balanced") or 0 < float(value) < math.inf:
            return value if value in (None, "balanced") else float(value)
    except ValueError:
        pass
    raise UsageError(f"--pos-weight must be a number above 0 or 'balanced', not {value!r}")


def _adapted(recipe: Recipe, *, learning_rate: float | None = None, **numbers: Any) -> Recipe:
    """`recipe` with the given numbers, its learning rates scaled so that the first is `learning_rate`."""
    recipe = replace(recipe, **numbers)
    if "batch_size" in numbers:
        recipe = replace(recipe, msd_batch_size=None)
    if learning_rate is not None:
        factor = learning_rate / recipe.learning_rates[0]
        recipe = replace(recipe, learning_rates=tuple(rate * factor for rate in recipe.learning_rates))
    return recipe


def check_batches(recipe: Recipe, *, processes: int) -> None:
    """Refuse a batch that is not made of whole examples, or half of which leaves a process without an example."""
    batch, each = recipe.batch_size, recipe.segments_per_example
    if each < 1 or batch % each:
        advice = "change --batch-size or --segments-per-example"
        raise UsageError(f"a batch of {batch} segments is not made of whole examples of {each}: {advice}")
    if each > 1 and batch // each < 2 * processes:
        fault = f"leaves some of {processes} processes without an example at the end of an epoch"
        advice = f"raise --batch-size to {2 * processes * each}"
        raise UsageError(f"a batch of {batch} segments, {each} an example, {fault}: {advice}")


def check_same(path: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse the checkpoint `path` where its config or facts (of the parts) differ from those now, and say which."""
    for key in (*_WORDS, *now):
        if key not in _MAY_DIFFER and stored[key] != now[key]:
            word = _WORDS.get(key, f"--{key.replace('_', '-')}")
            differs = f"its {word} is {_shown(key, stored[key])}, not {_shown(key, now[key])}"
            advice = "leave that option out to resume it, or start anew with another --out"
            raise WeightsError(f"{path} is of another training: {differs}; {advice}")


def _shown(key: str, value: Any) -> str:
    if key == "model":
        config = ModelConfig.from_dict(value)
        return f"{config.name} at {config.sample_rate} Hz with {config.n_tags} tags"
    if key == "tags":
        return first_names(value)
    if key == "recipe":
        return f"{value['name']} (batch size {value['batch_size']}, learning rate {value['learning_rates'][0]:g})"
    return str(value)
