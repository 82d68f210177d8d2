"""The steps of the recipe, each skipped when its result is complete."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from recipes.samplecnn_3_9_mtat50.collection import TABLE
from recipes.samplecnn_3_9_mtat50.options import Options
from samptag.core.atomic import atomic_write
from samptag.errors import DatasetError, WeightsError

__all__ = ["STEPS"]

_log = logging.getLogger("samptag.recipe")


def evaluate(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.card import figures_text
    from recipes.samplecnn_3_9_mtat50.evaluate import PERTURBATIONS, measure, reusable

    weights = _existing(options.weights_file)
    perturbations = () if options.clean_only else PERTURBATIONS
    figures = reusable(_figures_file(options), weights, perturbations=perturbations)
    if figures is None:
        figures = measure(
            weights,
            collection=_collection(options),
            teacher_scores=_teacher_scores(options),
            perturbations=perturbations,
            device=options.device,
            progress=_say_tenths,
        )
        options.work.mkdir(parents=True, exist_ok=True)
        with atomic_write(_figures_file(options)) as file:
            file.write(json.dumps(figures, indent=1, ensure_ascii=False).encode("utf-8"))
    _log.info("%s", figures_text(figures))


def publish(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.evaluate import PERTURBATIONS, reusable
    from recipes.samplecnn_3_9_mtat50.export import publish as publish_weights

    figures = reusable(_figures_file(options), _existing(options.weights_file), perturbations=PERTURBATIONS)
    if figures is None:
        raise WeightsError(f"{options.weights_file} has no figures in {options.work}; run the step evaluate first")
    target = publish_weights(options.weights_file, figures=figures, folder=options.publish_to)
    _log.info("publish: %s, its registry entry and its card", target)


STEPS: dict[str, Callable[[Options], None]] = {
    "evaluate": evaluate,
    "publish": publish,
}


def _figures_file(options: Options) -> Path:
    return options.work / "figures.json"


def _existing(weights: Path) -> Path:
    if not weights.is_file():
        raise WeightsError(f"{weights} is not there; run the step export, or name weights with --weights")
    return weights


def _collection(options: Options) -> Path:
    """The first folder of music that has a table."""
    for folder in options.music:
        if (folder / TABLE).is_file():
            return folder
    raise DatasetError(f"none of the folders of music has a {TABLE}, whose tags the weights are measured on")


def _teacher_scores(options: Options) -> Path:
    file = options.teacher_scores or options.work / "teacher-scores.npz"
    if not file.is_file():
        raise DatasetError(f"{file} is not there; run the step label, or name the file with --teacher-scores")
    return file


def _say_tenths(what: str, done: int, total: int) -> None:
    if done * 10 // total > (done - 1) * 10 // total:
        _log.info("%s: %d of %d", what, done, total)
