"""The training loop, `Trainer.run`, and one step of it, `Stepper.step`."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samptag import __version__
from samptag.core.card import ModelCard
from samptag.core.model import SampleCNN
from samptag.core.weights import save_model
from samptag.engine.torch_model import memory_errors
from samptag.errors import DeviceError, SamptagError
from samptag.evaluation.metrics import agreement, macro, present, weighted_auc
from samptag.training import checkpoints, optimise
from samptag.training.augment import augment
from samptag.training.batches import Load, Parts, Segments, batch_bounds, prefetched
from samptag.training.config import TrainConfig
from samptag.training.distributed import Processes
from samptag.training.fused import FusedForward, Workers, training_forward
from samptag.training.log import Callback, EpochDone, Pace, Prepared, StepDone, TrainingLog
from samptag.training.teachers import TeacherLoss

# Steps are reported at most this often; on a GPU each time costs a synchronisation.
REPORT_SECONDS = 0.25
# The state is saved before a validation if the last checkpoint is older than this.
SAVE_BEFORE_VALIDATION_SECONDS = 60.0


@dataclass(frozen=True)
class Validation:
    """How well a model does on the validation clips."""

    loss: float  # mean over segments and tags of the training loss
    # Macro means over the tags with positive and negative clips, NaN when there is none; soft labels above 0 are
    # positive, as in `samptag.evaluate` by default.
    roc_auc: float = math.nan
    pr_auc: float = math.nan
    # With teachers, because their scores are no labels to rank by: the correlation of scores and teachers' scores over
    # the segments, mean over tags. NaN without.
    agreement: float = math.nan


class Stepper:
    """A model on `device` in training with its optimiser, schedule and moving average.

    `objective` gives the summed loss of logits and labels, both (examples, tags); `live`, if given, the labels of
    augmented waveforms, (segments, tags), in place of their own. With `fast_path` the fused CPU layers train.
    """

    def __init__(
        self,
        model: SampleCNN,
        config: TrainConfig,
        *,
        device: torch.device,
        processes: Processes,
        objective: Callable[[Tensor, Tensor], Tensor],
        live: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        recipe, lowest = config.recipe, config.freeze_modules
        self.model, self.recipe, self.device, self.processes = model, recipe, device, processes
        self.loss, self._live, self._takes_embeddings = objective, live, config.freeze_encoder
        self._frozen = [] if lowest is None else [model.front, *model.body[:lowest]]
        for module in [model] if config.freeze_encoder else self._frozen:
            module.requires_grad_(False)
        model.head.requires_grad_(True)
        self.workers = Workers()
        forward = training_forward(model, config, device=device, processes=processes, workers=self.workers)
        self.fast_path = isinstance(forward, FusedForward)
        self._compiled = config.compiled and not self.fast_path
        self._forward = torch.compile(forward) if self._compiled else forward
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = optimise.make_optimiser(model, recipe)
        self.schedule = optimise.schedule_for(recipe)
        decay = recipe.ema_decay
        self._average = None if decay is None else optimise.MovingAverage(model.state_dict(), decay=decay)
        self._norms = optimise.NormWarmUp(model, steps=recipe.norm_warmup_steps if lowest is None else 0)
        self.rate = 0.0

    def step(
        self, waveforms: Tensor, labels: Tensor, *, batch_size: int, spent: float, number: int, rng: np.random.Generator
    ) -> Tensor:
        """Update the weights by one batch; the loss, summed over this process's examples and all tags, not waited for.

        `waveforms`, (segments, samples), or embeddings for a frozen encoder, are on the device, those of an example one
        after another; `labels` are (examples, tags). `batch_size` counts the examples of all processes, `number` the
        steps of the training from 1; `spent` is the spent share of the budget, in [0, 1].
        """
        recipe = self.recipe
        if not self._takes_embeddings:
            how, length, rate = recipe.augmentation, self.model.config.input_length, self.model.config.sample_rate
            waveforms, labels = augment(waveforms, labels, how=how, length=length, sample_rate=rate, rng=rng)
        self.rate = self.schedule.learning_rate(spent)
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate * group["rate_share"]
        self._optimiser.zero_grad(set_to_none=True)
        if self._compiled:  # batches differ in size, and each size would be compiled again
            torch._dynamo.mark_dynamic(waveforms, 0)
        mixed = recipe.mixed_precision and self.device.type == "cuda"
        precision = torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext()
        try:
            with memory_errors(), self._norms.step(number):
                if self._live is not None:
                    labels = _by_example(self._live(waveforms), labels)
                with precision:
                    logits = self._forward(waveforms)
                loss = self.loss(_by_example(logits.float(), labels), labels)
                torch.autograd.backward(loss / (batch_size * labels.shape[1]))
        except MemoryError:
            fault = f"{self.device} has too little memory for {len(waveforms)} segments a step"
            raise DeviceError(f"{fault}; lower --batch-size") from None
        self.processes.add_gradients(self.parameters)
        if recipe.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip_gradient_norm)
        self._optimiser.step()
        self.schedule.step_done()
        if self._average is not None:
            self._average.update(self.model.state_dict(), step=number)
        return loss.detach()

    def prepare(self) -> None:
        """Put the model in training mode, except for what is frozen."""
        self.model.train()
        for module in self._frozen:
            module.eval()

    def threads(self) -> AbstractContextManager[None]:
        """What decides who may use the CPU's cores during steps: the fused layers' workers, or each operation."""
        return self.workers.in_charge() if self.fast_path else nullcontext()

    def weights(self) -> Mapping[str, Tensor]:
        """The weights to validate and export: those of the moving average where there is one."""
        return self.model.state_dict() if self._average is None else self._average.state

    def verdict(self, validation: Validation) -> optimise.EpochVerdict:
        """What the schedule makes of an epoch's validation."""
        loss, monitor = validation.loss, self.recipe.monitor
        score = math.nan if monitor == "loss" else getattr(validation, monitor)
        # A ranking needs positives and negatives of some tag, agreement a teacher; without them the loss has to do.
        return self.schedule.epoch_done(loss, score=-loss if math.isnan(score) else score)

    def start_stage(self, weights: Mapping[str, Tensor]) -> None:
        """Take over `weights` and start with a fresh optimiser."""
        self.model.load_state_dict(weights)
        self._optimiser = optimise.make_optimiser(self.model, self.recipe)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers for checkpoints."""
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
        optimise.restore_optimiser(self._optimiser, state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.rate = float(state["rate"])
        if self._average is not None:
            for name, tensor in state["average"].items():
                self._average.state[name].copy_(tensor)


def _by_example(values: Tensor, labels: Tensor) -> Tensor:
    """The mean of the segments' `values`, (segments, tags), of each example in `labels`, (examples, tags)."""
    return values.view(len(labels), -1, labels.shape[1]).mean(dim=1)


@dataclass
class Position:
    """How far a training has come; part of every checkpoint."""

    epoch: int = 0  # done
    step: int = 0  # done in the open epoch
    total_steps: int = 0
    seconds: float = 0.0  # spent in the runs before this one
    finished: bool = False  # the schedule has ended
    history: list[dict[str, Any]] = field(default_factory=list)  # one record an epoch


class Trainer:
    """Takes a model, on `device` with the weights to start from, through the epochs that the config asks for.

    `best` holds the weights and record of the best epoch (of the stage, with the "stages" schedule).
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: SampleCNN,
        parts: Parts,
        load: Load,
        device: torch.device,
        processes: Processes,
        out: Path,
        callback: Callback | None = None,
    ) -> None:
        self.config, self.parts, self.load, self.out = config, parts, load, out
        self.device, self.processes = device, processes
        self._callback = callback if callback is not None and processes.leads else lambda event: None
        objective: Callable[[Tensor, Tensor], Tensor]
        if parts.taught is None:
            objective = optimise.label_loss(config.pos_weight, parts.train_labels).to(device)
        else:
            objective = TeacherLoss(parts.taught.scores)
        self.stepper = Stepper(model, config, objective=objective, live=parts.live, device=device, processes=processes)
        self._eval_model = SampleCNN(model.config).to(device).eval()
        self.best: dict[str, Any] | None = None
        self.position = Position()
        self.segments_per_epoch = len(parts.epoch(0, seed=config.seed))
        self.steps_per_epoch = len(self._bounds(self.segments_per_epoch))
        # The open epoch's loss over this process's segments, and how many values it is the sum of.
        precision = torch.float32 if device.type == "mps" else torch.float64  # which MPS does not have
        self._loss, self._loss_count = torch.zeros((), dtype=precision, device=device), 0
        self._pace = Pace()
        self._signals = checkpoints.StopSignals()
        self._spent: float | None = None
        self._saved_at = self._resumed_at = time.monotonic()

    def run(self) -> int:
        """Train until the schedule or budget ends, or a signal stops it; the signal's number, 0 without one."""
        prepared = Prepared(
            config=self.config,
            parts=self.parts,
            device=str(self.device),
            parameters=sum(p.numel() for p in self.stepper.model.parameters()),
            fast_path=self.stepper.fast_path,
            segments_per_epoch=self.segments_per_epoch,
            steps_per_epoch=self.steps_per_epoch,
            epoch=self.position.epoch,
            step=self.position.step,
        )
        self._callback(prepared)
        self._resumed_at = time.monotonic()
        self._agree()
        with ExitStack() as stack:
            stack.callback(self.stepper.workers.close)
            log = TrainingLog(self.out, records=self.position.history) if self.processes.leads else None
            if log is not None:
                stack.callback(log.close)
            stack.enter_context(self._signals)
            if not self._over():
                self.save(checkpoints.LAST)
            # An epoch that is open though the budget is spent was killed before its validation.
            while self.position.step or not self._over():
                stopped_by = self._train_epoch() or self._close_epoch(log)
                if stopped_by:
                    self.save(checkpoints.LAST)
                    return stopped_by
        return 0

    def _bounds(self, n_segments: int) -> list[tuple[int, int]]:
        """First and last example of every batch of an epoch."""
        each = self.config.recipe.segments_per_example
        return batch_bounds(n_segments // each, batch_size=self.config.recipe.batch_size // each)

    def _train_epoch(self) -> int:
        """Train the rest of the open epoch; the number of the signal that stopped it, or 0."""
        p = self.position
        segments = self.parts.epoch(p.epoch, seed=self.config.seed)
        bounds = [] if self._over() else self._bounds(len(segments))[p.step :]
        each = self.config.recipe.segments_per_example
        shares = [self.processes.rows(*bound) for bound in bounds]
        batches = [segments.take(slice(s.start * each, s.stop * each)) for s in shares]
        started = reported = time.monotonic()
        done = 0
        self.stepper.prepare()
        with self.stepper.threads():
            for (batch, waveforms, waited), (first, last) in zip(prefetched(self.load, batches), bounds, strict=True):
                self._step(batch, waveforms, last - first)
                done += (last - first) * each
                now = time.monotonic()
                self._pace.measure(done, waited=waited, seconds=now - started)
                if now - reported > REPORT_SECONDS or p.step == self.steps_per_epoch:
                    reported = now
                    self._report()
                stop, save_due = self._agree()
                if save_due and not stop:
                    self.save(checkpoints.LAST)
                if stop or self._over():
                    return stop
        return 0

    def _step(self, batch: Segments, waveforms: Tensor, batch_size: int) -> None:
        p, labelled = self.position, self.parts.train_labels
        targets = self.parts.targets(batch, labelled) if self.parts.live is None else labelled[batch.clips]
        targets = targets.reshape(-1, self.config.recipe.segments_per_example, targets.shape[1]).mean(axis=1)
        labels = torch.from_numpy(targets).to(self.device)
        rng = np.random.default_rng([self.config.seed, p.epoch, p.step, self.processes.rank])
        spent, number = min(self._spent or 0.0, 1.0), p.total_steps + 1
        self._loss += self.stepper.step(waveforms, labels, batch_size=batch_size, spent=spent, number=number, rng=rng)
        self._loss_count += labels.numel()
        p.step, p.total_steps = p.step + 1, number

    def _close_epoch(self, log: TrainingLog | None) -> int:
        """Validate the epoch just trained and act on the result; the number of the signal that interrupted it, or 0."""
        # Clocks differ, and all processes save or none; every step waits for the process whose audio comes last.
        age, wait_share = self.processes.highest([time.monotonic() - self._saved_at, self._pace.wait_share])
        if age > SAVE_BEFORE_VALIDATION_SECONDS:
            self.save(checkpoints.LAST)
        self._eval_model.load_state_dict(self.stepper.weights())
        validation = self._validate()
        if validation is None:
            return self._signals.received
        if self.processes.leads:
            self._pace.warn_of_waiting(wait_share)
        stage, verdict = self.stepper.schedule.stage, self.stepper.verdict(validation)
        record = self._record(validation, stage=stage, best=verdict.best)
        if verdict.best or self.best is None:
            weights = {name: tensor.cpu().clone() for name, tensor in self._eval_model.state_dict().items()}
            self.best = {"weights": weights, "record": record}
        if verdict.reload:
            self.stepper.start_stage(self.best["weights"])
        p = self.position
        p.history.append(record)
        p.epoch, p.step, p.finished = p.epoch + 1, 0, verdict.finished
        self._loss.zero_()
        self._loss_count = 0
        self._agree()  # a validation takes time
        if log is not None and self.best["record"] is record:
            self._export(record)
        # The last checkpoint comes last: killed before it, the epoch is trained again and writes all of this again.
        self.save(*([checkpoints.BEST] if verdict.best else []), checkpoints.LAST)
        if log is not None:
            log.add(record)
        self._callback(EpochDone(record=record))
        return 0

    @torch.no_grad()
    def _validate(self) -> Validation | None:
        """The figures of the eval model, over all processes; None when a signal interrupts it."""
        predict = self._eval_model.classify if self.config.freeze_encoder else self._eval_model
        parts, batch_size, loss = self.parts, self.config.recipe.batch_size, self.stepper.loss
        segments, labels = parts.consecutive(parts.valid), parts.valid_labels
        mine = segments.take(self.processes.rows(0, len(segments)))
        scored: list[NDArray[np.float32]] = []
        wanted: list[NDArray[np.float32]] = []
        summed = 0.0
        for first in range(0, len(mine), batch_size):
            batch = mine.take(slice(first, first + batch_size))
            logits = predict(self.load(batch)).float()
            wanted.append(parts.targets(batch, labels))
            summed += float(loss(logits, torch.from_numpy(wanted[-1]).to(logits.device)))
            scored.append(torch.sigmoid(logits).cpu().numpy())
            # A single process may stop in the middle; several would wait for each other.
            if self._signals.received and self.processes.world_size == 1:
                return None
        collect = self.processes.collect
        total = sum(collect(summed))
        scores, targets = (np.concatenate([x for share in collect(each) for x in share]) for each in (scored, wanted))
        if not np.isfinite(scores).all():
            return Validation(math.nan)
        total /= targets.size
        if parts.taught is not None:
            return Validation(total, agreement=agreement(scores, reference=targets, top=1).correlation)
        clips = np.zeros(labels.shape)
        np.add.at(clips, segments.clips, scores)
        clips /= np.bincount(segments.clips, minlength=len(labels))[:, None]
        # Not by scikit-learn, whose checks of its input take longer than an epoch of a classifier alone.
        positives, once = present(labels), np.ones((len(clips), 1))
        areas = [weighted_auc(positives[:, tag], clips[:, tag], once) for tag in range(positives.shape[1])]
        roc, pr = np.array(areas).reshape(-1, 2).T
        return Validation(total, macro(roc), macro(pr))

    def _agree(self) -> tuple[int, bool]:
        """The signal to stop for, 0 for none, and whether to save; all processes agree, though each has its own clock.

        They also agree on the spent share of the budget, which decides the learning rate: weights would drift apart.
        """
        save_due = time.monotonic() - self._saved_at > 60 * self.config.save_every_minutes
        steps, seconds = self.position.total_steps, self._seconds()
        spent = self.config.spent(steps=steps, seconds=seconds, steps_per_epoch=self.steps_per_epoch)
        stop, save, agreed = self.processes.highest([self._signals.received, save_due, spent or 0.0])
        self._spent = None if spent is None else agreed
        return int(stop), bool(save)

    def _over(self) -> bool:
        """Whether the schedule or the budget has ended; a larger budget reopens a training."""
        return self.position.finished or (self._spent or 0.0) >= 1.0

    def _seconds(self) -> float:
        return self.position.seconds + time.monotonic() - self._resumed_at

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to continue; all processes call it at once."""
        mine = {"random": checkpoints.random_state(), "loss": float(self._loss), "loss_count": self._loss_count}
        return {
            "config": self.config.to_dict(),
            "facts": self.parts.facts,
            "position": {**asdict(self.position), "seconds": self._seconds()},
            "stepper": self.stepper.state_dict(),
            "best": self.best,
            "processes": self.processes.collect(mine),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of a training with the same model, data and recipe."""
        self.stepper.load_state_dict(state["stepper"])
        self.best = state["best"]
        self.position = Position(**state["position"])
        shares = state["processes"]
        if len(shares) == self.processes.world_size:
            checkpoints.restore_random_state(shares[self.processes.rank]["random"])
            shares = [shares[self.processes.rank]]
        elif not self.processes.leads:
            shares = []
        self._loss.fill_(sum(share["loss"] for share in shares))
        self._loss_count = sum(share["loss_count"] for share in shares)

    def save(self, *names: str) -> None:
        """Write the state to the files of these names; all processes call it at once."""
        state = self.state()
        if self.processes.leads:
            for name in names:
                checkpoints.save_checkpoint(self.out / name, state)
        self._saved_at = time.monotonic()

    def _report(self) -> None:
        """Report the step; raise a SamptagError when the loss is no longer finite."""
        p, spent, rate = self.position, self._spent, self.stepper.rate
        loss = float(self._loss) / max(self._loss_count, 1)
        if not math.isfinite(loss):
            advice = f"lower the learning rate (--learning-rate; it was {rate:.3g})"
            raise SamptagError(f"the loss is {loss} in epoch {p.epoch + 1}: the training has diverged; {advice}")
        done = StepDone(
            epoch=p.epoch + 1,
            step=p.step,
            steps=self.steps_per_epoch,
            loss=loss,
            learning_rate=rate,
            segments_per_second=self._pace.segments_per_second,
            progress=None if spent is None else min(spent, 1.0),
            remaining_seconds=None if not spent else max(0.0, (1 - spent) / spent * self._seconds()),
        )
        self._callback(done)

    def _record(self, validation: Validation, *, stage: int, best: bool) -> dict[str, Any]:
        p = self.position
        sums = self.processes.collect([float(self._loss), self._loss_count])
        return {
            "epoch": p.epoch + 1,
            "steps": p.total_steps,
            "stage": stage + 1,
            "learning_rate": self.stepper.rate,
            "train_loss": sum(loss for loss, _ in sums) / max(sum(count for _, count in sums), 1),
            **{f"valid_{name}": figure for name, figure in asdict(validation).items()},
            "best": best,
            "segments_per_second": self._pace.segments_per_second,
            "wait_share": self._pace.wait_share,
            "seconds": self._seconds(),
        }

    def _export(self, record: Mapping[str, Any]) -> None:
        config, dataset, model = self.config, self.parts.dataset, self._eval_model.config
        taught = f", taught by {', '.join(self.parts.teachers)}" if self.parts.teachers else ""
        start = "" if config.init_from is None else f", starting from {Path(config.init_from).name}"
        names = ("valid_roc_auc", "valid_pr_auc", "valid_agreement", "valid_loss", "epoch")
        card = ModelCard(
            name=config.name or self.out.resolve().name,
            config=model,
            tags=dataset.tags,
            tag_categories=dataset.tag_categories,
            licence=config.licence,
            training_data=f"{len(self.parts.train)} clips of {dataset.root.absolute().name} ({dataset.format}, train "
            f"of {dataset.split_name}){taught}",
            description=f"{model.name}, recipe {config.recipe.name} of samptag {__version__}{start}",
            split=dataset.split_name,
            split_hash=self.parts.cache.split_hash,
            metrics={name: record[name] for name in names if math.isfinite(record[name])},
            source=f"samptag train, seed {config.seed}",
        )
        save_model(self.out / checkpoints.MODEL, self._eval_model, card=card)
