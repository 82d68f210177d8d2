"""The training loop: epochs, validations, checkpoints, and going on after any interruption."""

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samptag.core.model import SampleCNN
from samptag.core.weights import save_model
from samptag.errors import SamptagError
from samptag.training.batches import Prefetcher, Segments, batch_bounds
from samptag.training.events import EpochDone, StepDone
from samptag.training.job import Job, Position
from samptag.training.log import TrainingLog
from samptag.training.pace import Pace
from samptag.training.signals import StopSignals
from samptag.training.state import BEST, LAST, random_state, restore_random_state, save_checkpoint
from samptag.training.stepper import Stepper
from samptag.training.validate import Stopped, Validation, validate

__all__ = ["MODEL", "Trainer"]

MODEL = "model.safetensors"
# Steps are told about at most this often; on a GPU each time costs a synchronisation.
REPORT_SECONDS = 0.25
# Before a validation the state is saved when the last checkpoint is older than this.
SAVE_BEFORE_VALIDATION_SECONDS = 60.0


class Trainer:
    """Takes a `Stepper` through the epochs of a `Job`.

    Parameters
    ----------
    job : Job
    stepper : Stepper

    Attributes
    ----------
    position : Position
    best : dict or None
        Weights and record of the best epoch (of the stage, with the "stages" schedule).
    """

    def __init__(self, job: Job, stepper: Stepper) -> None:
        self.job, self.stepper = job, stepper
        self.judge = SampleCNN(stepper.model.config).to(stepper.device).eval()
        self.best: dict[str, Any] | None = None
        self.position = Position()
        self.steps_per_epoch = len(self._bounds(len(job.epoch_segments(0))))
        # The open epoch's loss over this process's segments, and how many numbers it is the sum of.
        # MPS has no float64.
        precision = torch.float32 if stepper.device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=precision, device=stepper.device)
        self._loss_count = 0
        self._pace = Pace()
        self._saved_at = self._resumed_at = time.monotonic()
        self._spent: float | None = None

    def run(self) -> int:
        """Train until schedule or budget end it, or a signal stops it.

        Returns
        -------
        int
            The signal's number, 0 without one.
        """
        self._resumed_at = time.monotonic()
        self._agree()
        with ExitStack() as stack:
            stack.callback(self.stepper.workers.close)
            log = TrainingLog(self.job.out, records=self.position.history) if self.job.processes.leads else None
            if log is not None:
                stack.callback(log.close)
            signals = stack.enter_context(StopSignals())
            if not self._over():
                self.save(LAST)
            while not self._over():
                stopped_by = self._train_epoch(signals) or self._close_epoch(signals, log)
                if stopped_by:
                    self.save(LAST)
                    return stopped_by
        return 0

    # The state

    def state(self) -> dict[str, Any]:
        """Everything the training continues from; all processes call it at once."""
        p = self.position
        mine = {"random": random_state(), "loss": float(self._loss), "loss_count": self._loss_count}
        return {
            "identity": dict(self.job.identity),
            "position": {
                "epoch": p.epoch,
                "step": p.step,
                "total_steps": p.total_steps,
                "seconds": self._seconds(),
                "finished": p.finished,
                "history": p.history,
            },
            "stepper": self.stepper.state_dict(),
            "best": self.best,
            "processes": self.job.processes.collect(mine),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, which is of the same model, data and recipe."""
        self.stepper.load_state_dict(state["stepper"])
        self.best = state["best"]
        self.position = Position(**state["position"])
        shares, processes = state["processes"], self.job.processes
        if len(shares) == processes.world:
            restore_random_state(shares[processes.rank]["random"])
            shares = [shares[processes.rank]]
        elif not processes.leads:
            shares = []
        self._loss.fill_(sum(share["loss"] for share in shares))
        self._loss_count = sum(share["loss_count"] for share in shares)

    def save(self, *names: str) -> None:
        """Write the state to the files of these names; all processes call it at once."""
        state = self.state()
        if self.job.processes.leads:
            for name in names:
                save_checkpoint(self.job.out / name, state)
        self._saved_at = time.monotonic()

    def _seconds(self) -> float:
        return self.position.seconds + time.monotonic() - self._resumed_at

    def _over(self) -> bool:
        """Whether schedule or budget are at their end; a larger budget reopens a training."""
        return self.position.finished or (self._spent or 0.0) >= 1.0

    # Training

    def _bounds(self, n_segments: int) -> list[tuple[int, int]]:
        return batch_bounds(n_segments, batch_size=self.stepper.recipe.batch_size)

    def _train_epoch(self, signals: StopSignals) -> int:
        """Train the rest of the open epoch; the number of the signal that stopped it, or 0."""
        job, p = self.job, self.position
        segments = job.epoch_segments(p.epoch)
        bounds = self._bounds(len(segments))[p.step :]
        loader = Prefetcher(job.load_train, [segments.take(job.processes.rows(*bound)) for bound in bounds])
        started = reported = time.monotonic()
        done = 0
        self.stepper.model.train()
        with self.stepper.threads():
            for (batch, waveforms), (first, last) in zip(loader, bounds, strict=True):
                self._step(batch, waveforms, last - first)
                done += last - first
                now = time.monotonic()
                self._pace.measure(done, waited=loader.waited_seconds, seconds=now - started)
                if now - reported > REPORT_SECONDS or p.step == self.steps_per_epoch:
                    reported = now
                    self._report()
                stop, save_due = self._agree(signals.received)
                if save_due and not stop:
                    self.save(LAST)
                if stop or self._over():
                    return stop
        return 0

    def _step(self, batch: Segments, waveforms: Tensor, batch_size: int) -> None:
        job, p = self.job, self.position
        labels = torch.from_numpy(job.train_labels[batch.clips]).to(self.stepper.device)
        loss = self.stepper.step(
            waveforms,
            labels,
            batch_size=batch_size,
            spent=min(self._spent or 0.0, 1.0),
            number=p.total_steps + 1,
            rng=np.random.default_rng([job.seed, p.epoch, p.step, job.processes.rank]),
        )
        self._loss += loss
        self._loss_count += labels.numel()
        p.step += 1
        p.total_steps += 1

    def _agree(self, signal: int = 0) -> tuple[int, bool]:
        """Agree among all processes on what clocks and signals say, which each of them has its own of.

        The share of the budget that is spent decides the learning rate too, so that weights would drift apart.

        Returns
        -------
        tuple
            The signal to stop by, 0 for none, and whether to save.
        """
        job = self.job
        due = job.processes.leads and time.monotonic() - self._saved_at > job.save_every_seconds
        spent = job.budget.spent(
            step=self.position.total_steps, seconds=self._seconds(), steps_per_epoch=self.steps_per_epoch
        )
        stop, save_due, agreed = job.processes.highest([signal, due, spent or 0.0])
        self._spent = None if spent is None else agreed
        return int(stop), bool(save_due)

    def _mean_loss(self) -> float:
        """Of the open epoch so far, on this process.

        Raises
        ------
        SamptagError
            When it is not finite any more.
        """
        loss = float(self._loss) / max(self._loss_count, 1)
        if not math.isfinite(loss):
            raise SamptagError(
                f"the loss is {loss} in epoch {self.position.epoch + 1}: the training has come apart; lower the "
                f"learning rate (--learning-rate, last {self.stepper.rate:.3g})"
            )
        return loss

    def _report(self) -> None:
        loss = self._mean_loss()
        if not self.job.processes.leads:
            return
        spent, p = self._spent, self.position
        ran = time.monotonic() - self._resumed_at
        self.job.listener(
            StepDone(
                epoch=p.epoch + 1,
                step=p.step,
                steps=self.steps_per_epoch,
                loss=loss,
                learning_rate=self.stepper.rate,
                segments_per_second=self._pace.segments_per_second,
                progress=None if spent is None else min(spent, 1.0),
                remaining_seconds=None if not spent else max(0.0, (1 - spent) / spent * (p.seconds + ran)),
            )
        )

    # Between epochs

    def _close_epoch(self, signals: StopSignals, log: TrainingLog | None) -> int:
        """Validate the epoch just trained and act on it; the number of the signal that broke it off, or 0."""
        due = time.monotonic() - self._saved_at > SAVE_BEFORE_VALIDATION_SECONDS
        # Clocks differ, and saving is done by all processes or by none.
        if self.job.processes.highest([int(due)])[0]:
            self.save(LAST)
        self.judge.load_state_dict(self.stepper.weights())
        try:
            validation = self._validate(signals)
        except Stopped:
            return signals.received
        self._tell_waiting()
        stage, verdict = self.stepper.schedule.stage, self.stepper.judge(validation)
        record = self._record(validation, stage=stage, best=verdict.best)
        if verdict.best or self.best is None:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.judge.state_dict().items()}
            self.best = {"weights": weights, "record": record}
        if verdict.reload:
            self.stepper.start_stage(self.best["weights"])
        p = self.position
        p.history.append(record)
        p.epoch, p.step = p.epoch + 1, 0
        self._loss.zero_()
        self._loss_count = 0
        self._agree()  # a validation takes time
        p.finished = verdict.finished
        if log is not None and self.best["record"] is record:
            self._export(record)
        # The last checkpoint comes last: killed before it, the epoch is trained again and writes all of this again.
        self.save(*([BEST] if verdict.best else []), LAST)
        if log is not None:
            log.add(record)
            self.job.listener(EpochDone(record=record))
        return 0

    def _tell_waiting(self) -> None:
        # All steps wait for the process that waits longest for its audio.
        share = max(self.job.processes.collect(self._pace.wait_share))
        if self.job.processes.leads:
            self._pace.tell_waiting(share)

    def _validate(self, signals: StopSignals) -> Validation:
        job = self.job
        # One process may give up in the middle; several would wait for each other.
        alone = job.processes.world == 1
        return validate(
            self.judge,
            job.valid_segments,
            job.valid_labels,
            load=job.load_valid,
            loss=self.stepper.loss,
            batch_size=self.stepper.recipe.batch_size,
            processes=job.processes,
            stopping=lambda: alone and signals.received != 0,
        )

    def _record(self, validation: Validation, *, stage: int, best: bool) -> dict[str, Any]:
        """The epoch's line in the log."""
        p = self.position
        sums = self.job.processes.collect([float(self._loss), self._loss_count])
        return {
            "epoch": p.epoch + 1,
            "steps": p.total_steps,
            "stage": stage + 1,
            "learning_rate": self.stepper.rate,
            "train_loss": sum(loss for loss, _ in sums) / max(sum(count for _, count in sums), 1),
            "valid_loss": validation.loss,
            "valid_roc_auc": validation.roc_auc,
            "valid_pr_auc": validation.pr_auc,
            "best": best,
            "segments_per_second": self._pace.segments_per_second,
            "wait_share": self._pace.wait_share,
            "seconds": self._seconds(),
        }

    def _export(self, record: Mapping[str, Any]) -> None:
        """Write the best weights as a model file."""
        names = ("valid_roc_auc", "valid_pr_auc", "valid_loss", "epoch")
        metrics = {name: record[name] for name in names if math.isfinite(record[name])}
        save_model(self.job.out / MODEL, self.judge, card=self.job.make_card(metrics))
