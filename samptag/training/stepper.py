"""One step of a training: forward, loss, backward, optimiser, moving average."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samptag.core.model import SampleCNN
from samptag.errors import DeviceError
from samptag.training.augment import augment
from samptag.training.distributed import Processes
from samptag.training.forward import FusedForward, training_forward
from samptag.training.optimise import MovingAverage, NormWarmUp, make_optimiser, restore_optimiser
from samptag.training.recipe import Recipe
from samptag.training.schedule import EpochVerdict, StagedSchedule, schedule_for
from samptag.training.validate import Validation
from samptag.training.workers import Workers

__all__ = ["Stepper"]


class Stepper:
    """A model in training with its optimiser, schedule and moving average.

    Parameters
    ----------
    model : SampleCNN
        With the weights to start from, on `device`.
    recipe : Recipe
    device : torch.device
    processes : Processes
    frozen_encoder : bool
        Train the classifier alone.
    pos_weight : Tensor or None
        Weight of each tag's positives in the loss, (tags,).
    compiled : bool
        Let torch.compile make the forward pass, where it is not the fused one.

    Attributes
    ----------
    fast_path : bool
        Whether the fused CPU layers train.
    rate : float
        Learning rate of the last step.
    """

    def __init__(
        self,
        model: SampleCNN,
        *,
        recipe: Recipe,
        device: torch.device,
        processes: Processes,
        frozen_encoder: bool,
        pos_weight: Tensor | None,
        compiled: bool,
    ) -> None:
        self.model, self.recipe, self.device, self.processes = model, recipe, device, processes
        self.pos_weight = None if pos_weight is None else pos_weight.to(device)
        if frozen_encoder:
            model.requires_grad_(False)
            model.head.requires_grad_(True)
        self.workers = Workers()
        forward = training_forward(
            model, device=device, processes=processes, workers=self.workers, frozen_encoder=frozen_encoder
        )
        self.fast_path = isinstance(forward, FusedForward)
        self._compiled = compiled and not self.fast_path
        self._forward = torch.compile(forward) if self._compiled else forward
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = make_optimiser(self.parameters, recipe)
        self.schedule = schedule_for(recipe)
        decay = recipe.ema_decay
        self._average = None if decay is None else MovingAverage(model.state_dict(), decay=decay)
        self._norms = NormWarmUp(model, steps=0 if frozen_encoder else recipe.norm_warmup_steps)
        self.rate = 0.0

    def threads(self) -> AbstractContextManager[None]:
        """Who may use the processor's cores during steps: the fused layers' workers, or each operation."""
        return self.workers.in_charge() if self.fast_path else nullcontext()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy summed over segments and tags; labels may be soft."""
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum", pos_weight=self.pos_weight)

    def step(
        self, waveforms: Tensor, labels: Tensor, *, batch_size: int, spent: float, number: int, rng: np.random.Generator
    ) -> Tensor:
        """Move the weights by one batch.

        Parameters
        ----------
        waveforms, labels : Tensor
            This process's part of the batch, on the device.
        batch_size : int
            Segments of the batch over all processes.
        spent : float
            Share of the budget spent, in [0, 1].
        number : int
            Of this step in the training, from 1.
        rng : numpy.random.Generator
            For the augmentation.

        Returns
        -------
        Tensor
            The loss summed over this process's segments and all tags, not yet waited for.

        Raises
        ------
        DeviceError
            When the device runs out of memory.
        """
        sample_rate = self.model.config.sample_rate
        waveforms, labels = augment(waveforms, labels, how=self.recipe.augmentation, sample_rate=sample_rate, rng=rng)
        self.rate = self.schedule.learning_rate(spent)
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate
        if self._compiled:  # batches differ in size, which would be compiled for anew
            torch._dynamo.mark_dynamic(waveforms, 0)
        mixed = self.recipe.mixed_precision and self.device.type == "cuda"
        self._optimiser.zero_grad(set_to_none=True)
        try:
            with self._norms.step(number):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
                    logits = self._forward(waveforms)
                loss = self.loss(logits.float(), labels)
                torch.autograd.backward(loss / (batch_size * labels.shape[1]))
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise DeviceError(
                f"{self.device} has too little memory for {len(waveforms)} segments a step; lower --batch-size"
            ) from None
        self.processes.add_gradients(self.parameters)
        if self.recipe.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_gradient_norm)
        self._optimiser.step()
        self.schedule.step_done()
        if self._average is not None:
            self._average.update(self.model.state_dict(), step=number)
        return loss.detach()

    def weights(self) -> Mapping[str, Tensor]:
        """The weights to validate and export: the moving average's where there is one."""
        return self.model.state_dict() if self._average is None else self._average.state

    def judge(self, validation: Validation) -> EpochVerdict:
        """What the schedule makes of an epoch's validation."""
        if isinstance(self.schedule, StagedSchedule):
            return self.schedule.epoch_done(validation.loss)
        # A ranking needs positives and negatives of some tag; without, the loss has to do.
        by_loss = self.recipe.monitor == "loss" or np.isnan(validation.roc_auc)
        score = -validation.loss if by_loss else validation.roc_auc
        return self.schedule.epoch_done(score, valid_loss=validation.loss)

    def start_stage(self, weights: Mapping[str, Tensor]) -> None:
        """Take over `weights` and start with a fresh optimiser."""
        self.model.load_state_dict(weights)
        self._optimiser = make_optimiser(self.parameters, self.recipe)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers from which `load_state_dict` continues."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self._average is None else self._average.state,
            "rate": self.rate,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        restore_optimiser(self._optimiser, state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.rate = float(state["rate"])
        if self._average is not None:
            for name, tensor in state["average"].items():
                self._average.state[name].copy_(tensor)
