"""The phases of the training; see the recipe's README for what each is for."""

import io
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from recipes.samplecnn_3_9_mtat50.elders import Elders
from recipes.samplecnn_3_9_mtat50.export import student
from recipes.samplecnn_3_9_mtat50.lessons import CropLesson, Lesson, ReplayLesson, SegmentLesson
from recipes.samplecnn_3_9_mtat50.loss import TeacherLoss
from recipes.samplecnn_3_9_mtat50.optimisers import Optimisers
from recipes.samplecnn_3_9_mtat50.options import Pace
from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.replay import remove_replays
from recipes.samplecnn_3_9_mtat50.store import SEGMENT
from recipes.samplecnn_3_9_mtat50.student import MelHead, Student, mel_heads
from recipes.samplecnn_3_9_mtat50.teacher import EMBEDDING
from recipes.samplecnn_3_9_mtat50.windows import Crops, Windows
from samptag.core.model import SampleCNN
from samptag.engine.predictor import Predictor
from samptag.errors import WeightsError
from samptag.evaluation.metrics import agreement
from samptag.files import atomic_write
from samptag.training import CosineSchedule, MovingAverage, StopSignals, Workers

__all__ = ["Material", "finished", "train_phase", "trained"]

_log = logging.getLogger("samptag.recipe")

_SAVE_SECONDS, _JUDGE_SECONDS = 60, 420
_JUDGED_SEGMENTS = 400
_MEASURED_SEGMENTS = 64  # that tell the spectrograms' bands' means and spreads


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is heard.

    Attributes
    ----------
    crops : Crops
    windows : Windows
    held_out : Windows or None
        Music that is not learned from, to follow the training by.
    """

    crops: Crops
    windows: Windows
    held_out: Windows | None


def finished(folder: Path, phase: Phase) -> bool:
    """Whether a phase is over."""
    file = _checkpoint(folder, phase.name)
    return file.is_file() and bool(_load(file)["finished"])


def trained(folder: Path, phase: Phase) -> Mapping[str, Tensor]:
    """The weights that a phase ended with: the average's.

    Raises
    ------
    WeightsError
        The phase is not over.
    """
    if not finished(folder, phase):
        raise WeightsError(f"phase {phase.name} is not over; run the step train")
    average: Mapping[str, Tensor] = _load(_checkpoint(folder, phase.name))["average"]
    return average


def train_phase(
    phase: Phase, *, folder: Path, material: Material, pace: Pace, seed: int, threads: int | None = None
) -> None:
    """Train one phase to its end, from where an earlier run of it stopped.

    Parameters
    ----------
    phase : Phase
    folder : Path
        Where each phase keeps its checkpoint, ``<name>.pt``, and what it replays.
    material : Material
    pace : Pace
    seed : int
        Decides everything that is drawn, together with phase and step.
    threads : int or None
        None: as many as PyTorch takes.
    """
    workers = Workers(threads)
    try:
        with workers.in_charge():
            _Run(phase, folder, material, pace, seed, workers).train()
    finally:
        workers.close()
    remove_replays(folder, phase.name)


class _Run:
    """One phase's state and loop."""

    def __init__(self, phase: Phase, folder: Path, material: Material, pace: Pace, seed: int, workers: Workers) -> None:
        self.phase, self.folder, self.material, self.pace, self.seed = phase, folder, material, pace, seed
        self.workers = workers
        torch.manual_seed(seed)
        self.model = student()
        self.spectrograms = mel_heads(self.model)
        self.embeddings = nn.Linear(self.model.config.embedding_size, EMBEDDING)
        self.heads = nn.ModuleDict({"spectrograms": self.spectrograms, "embeddings": self.embeddings})
        self.step, self.seconds = 0, 0.0
        file = _checkpoint(folder, phase.name)
        state = _load(file) if file.is_file() else None
        self._start(state)
        heard = self.spectrograms if phase.crops or phase.spectral else nn.ModuleDict()
        self.student = Student(self.model, heard, frozen=phase.frozen, workers=workers)
        self.optimisers = Optimisers(
            phase, self.student, self.embeddings.parameters() if phase.embedded else (), workers
        )
        self.average = MovingAverage(self.model.state_dict(), decay=phase.average)
        if state is not None:
            self.optimisers.load_state_dict(state["optimisers"])
            self.average.state = state["average"]
            self.step, self.seconds = state["step"], state["seconds"]
        self.schedule = CosineSchedule(1.0, warmup_fraction=phase.warm_up)
        self.lesson = self._lesson()

    def _start(self, state: Mapping[str, Any] | None) -> None:
        """Take weights from this phase's checkpoint or the one before."""
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
        elif self.phase.after:
            before = _load(_checkpoint(self.folder, self.phase.after))
            self.model.load_state_dict(before["average"])
            self.heads.load_state_dict(before["heads"])
        else:
            self._measure_bands()

    def _lesson(self) -> Lesson:
        phase, student, seed, windows = self.phase, self.student, self.seed, self.material.windows
        if phase.crops:
            return CropLesson(phase, student, seed=seed, crops=self.material.crops)
        loss = TeacherLoss(windows, self.embeddings, phase)
        if phase.slots:
            ended = [_load(_checkpoint(self.folder, name))["average"] for name in phase.elders]
            elders = Elders(ended, student, self.workers)
            return ReplayLesson(
                phase, student, seed=seed, windows=windows, loss=loss, elders=elders, folder=self.folder
            )
        return SegmentLesson(phase, student, seed=seed, windows=windows, loss=loss)

    def train(self) -> None:
        """Train to the end of the phase, keeping a checkpoint of every minute and of the step a signal comes in."""
        self.model.train()
        with StopSignals() as signals, ThreadPoolExecutor(1) as ahead:
            self._prepare(signals)
            saved = judged = started = time.monotonic()
            before, running = self.seconds, 0.0
            coming = ahead.submit(self.lesson.draw, self.step)
            while (progress := self.pace.progress(self.step, self.seconds)) < 1:
                current = coming.result()
                coming = ahead.submit(self.lesson.draw, self.step + 1)
                loss = self._learn(current, progress)
                self.seconds = before + time.monotonic() - started
                running = loss if running == 0.0 else 0.97 * running + 0.03 * loss
                if signals.received:
                    self._save(finished=False)
                    raise KeyboardInterrupt
                if time.monotonic() - saved > _SAVE_SECONDS:
                    saved = time.monotonic()
                    self._save(finished=False)
                    _log.info(
                        "phase %s: step %d, %.0f %%, loss %.4f", self.phase.name, self.step, 100 * progress, running
                    )
                if time.monotonic() - judged > _JUDGE_SECONDS:
                    self._judge()
                    judged = time.monotonic()
        self._save(finished=True)
        self._judge()

    def _prepare(self, signals: StopSignals) -> None:
        said = time.monotonic()
        for share in self.lesson.prepare(self.step):
            if signals.received:
                raise KeyboardInterrupt
            if time.monotonic() - said > _SAVE_SECONDS:
                said = time.monotonic()
                _log.info("phase %s: %.0f %% of the segments to replay", self.phase.name, 100 * share)

    def _learn(self, drawn: Any, progress: float) -> float:
        """One step; its loss."""
        torch.manual_seed(self.seed * 1_000_003 + self.step)  # dropout: the same after a resume
        self.optimisers.clear()
        total = 0.0
        for part in self.lesson.losses(drawn):
            loss = part / self.phase.micro_batches
            torch.autograd.backward(loss)
            total += loss.item()
        self.optimisers.step(self.schedule.learning_rate(progress))
        self.step += 1
        self.average.update(self.model.state_dict(), step=self.step)
        return total

    def _measure_bands(self) -> None:
        typical = self.material.crops.draw(_MEASURED_SEGMENTS, SEGMENT, np.random.default_rng(self.seed + 1))
        for head in self.spectrograms.values():
            cast(MelHead, head).measure(torch.from_numpy(typical))

    def _judge(self) -> None:
        """Say how well the average agrees with the teacher on music that is not learned from."""
        held_out = self.material.held_out
        if held_out is None or self.phase.crops:
            return
        chosen = np.random.default_rng(5).permutation(len(held_out))[:_JUDGED_SEGMENTS]
        model = SampleCNN(self.model.config)
        model.load_state_dict(self.average.state)
        scores, _ = Predictor(model)(held_out.plain(chosen))
        alike = agreement(scores, reference=held_out.scores(chosen))
        _log.info(
            "phase %s: held-out segments: correlation %.4f, top-5 overlap %.3f",
            self.phase.name,
            alike.correlation,
            alike.top_overlap,
        )

    def _save(self, *, finished: bool) -> None:
        content = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimisers": self.optimisers.state_dict(),
                "average": self.average.state,
                "step": self.step,
                "seconds": self.seconds,
                "finished": finished,
            },
            content,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(_checkpoint(self.folder, self.phase.name)) as file:
            file.write(content.getbuffer())


def _checkpoint(folder: Path, name: str) -> Path:
    return folder / f"{name}.pt"


def _load(file: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state
