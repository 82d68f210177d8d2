"""Training: recipes, schedules, batches, checkpoints, and the loop that goes on after any interruption.

`train` is all that most callers need. The parts below it are public for trainings of another kind: the fused CPU layers
with their threads, the schedule, the moving average, the signals.
"""

from samptag.training.checkpoints import StopSignals
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.fused import FusedForward, Workers
from samptag.training.log import EpochDone, Event, Prepared, StepDone
from samptag.training.optimise import MovingAverage
from samptag.training.recipe import RECIPES, Augmentation, Recipe
from samptag.training.run import TrainResult, train
from samptag.training.schedule import CosineSchedule

__all__ = [
    "RECIPES",
    "Augmentation",
    "CosineSchedule",
    "EpochDone",
    "Event",
    "FusedForward",
    "MovingAverage",
    "Prepared",
    "Processes",
    "Recipe",
    "StepDone",
    "StopSignals",
    "TrainConfig",
    "TrainResult",
    "Workers",
    "train",
]
