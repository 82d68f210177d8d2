"""Training: recipes, schedules, batches, checkpoints, and the loop that goes on after any interruption."""

from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.log import EpochDone, Event, Prepared, StepDone
from samptag.training.recipe import RECIPES, Augmentation, Recipe
from samptag.training.run import TrainResult, train

__all__ = [
    "RECIPES",
    "Augmentation",
    "EpochDone",
    "Event",
    "Prepared",
    "Processes",
    "Recipe",
    "StepDone",
    "TrainConfig",
    "TrainResult",
    "train",
]
