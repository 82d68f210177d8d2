"""Training: recipes, schedules, batches, checkpoints, and the loop that goes on after any interruption."""

from samptag.training.events import EpochDone, Event, Prepared, StepDone
from samptag.training.recipe import RECIPES, Augmentation, Recipe
from samptag.training.run import TrainResult, train

__all__ = ["RECIPES", "Augmentation", "EpochDone", "Event", "Prepared", "Recipe", "StepDone", "TrainResult", "train"]
