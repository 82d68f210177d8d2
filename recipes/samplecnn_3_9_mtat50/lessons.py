"""What the steps of a phase hear, and the losses that follow."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from recipes.samplecnn_3_9_mtat50.elders import Elders
from recipes.samplecnn_3_9_mtat50.loss import TeacherLoss
from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.replay import Replay, remove_replays
from recipes.samplecnn_3_9_mtat50.student import CROP, Student
from recipes.samplecnn_3_9_mtat50.windows import Crops, Windows

__all__ = ["CropLesson", "Lesson", "ReplayLesson", "SegmentLesson"]

_FILLED_AT_ONCE = 32

S = TypeVar("S")
T = TypeVar("T")


class Lesson(ABC):
    """One phase's material, drawn so that a step always hears the same.

    Parameters
    ----------
    phase : Phase
    student : Student
    seed : int
    """

    def __init__(self, phase: Phase, student: Student, *, seed: int) -> None:
        self.phase, self.student, self.seed = phase, student, seed

    def prepare(self, step: int) -> Iterator[float]:
        """Get ready for `step` and those after it; the share that is done, now and then."""
        return iter(())

    @abstractmethod
    def draw(self, step: int) -> Any:
        """What `losses` needs for a step; called in another thread while the step before is learned."""

    @abstractmethod
    def losses(self, drawn: Any) -> Iterator[Tensor]:
        """The loss of each micro-batch; its backward pass must come before the next one."""

    def rng(self, *numbers: int) -> np.random.Generator:
        """Random numbers of their own for every step of every phase."""
        return np.random.default_rng([self.seed, ord(self.phase.name), *numbers])


class CropLesson(Lesson):
    """Spectrograms of crops.

    Parameters
    ----------
    phase, student, seed
        See `Lesson`.
    crops : Crops
    """

    def __init__(self, phase: Phase, student: Student, *, seed: int, crops: Crops) -> None:
        super().__init__(phase, student, seed=seed)
        self._crops = crops

    def draw(self, step: int) -> list[np.ndarray]:
        """Crops of each micro-batch."""
        rng = self.rng(step)
        return [self._crops.draw(self.phase.batch, CROP, rng) for _ in range(self.phase.micro_batches)]

    def losses(self, drawn: list[np.ndarray]) -> Iterator[Tensor]:
        """The error of their spectrograms."""
        for crops in drawn:
            yield self.student.crop_loss(torch.from_numpy(crops))


class SegmentLesson(Lesson):
    """The teacher's opinion of segments that are heard anew in every step.

    Parameters
    ----------
    phase, student, seed
        See `Lesson`.
    windows : Windows
    loss : TeacherLoss
    """

    def __init__(self, phase: Phase, student: Student, *, seed: int, windows: Windows, loss: TeacherLoss) -> None:
        super().__init__(phase, student, seed=seed)
        self._windows, self._loss = windows, loss

    def draw(self, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Segments of each micro-batch and their numbers."""
        rng = self.rng(step)
        return [_varied(self.phase, self._windows, self.phase.batch, rng) for _ in range(self.phase.micro_batches)]

    def losses(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[Tensor]:
        """The distance from the teacher, and of the spectrograms."""
        for segments, chosen in drawn:
            logits, embeddings, spectral = self.student(torch.from_numpy(segments))
            yield self._loss(logits, embeddings, chosen) + self.phase.spectral * spectral


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """Segments for some slots, before the frozen layers."""

    slots: np.ndarray
    versions: np.ndarray
    segments: np.ndarray
    windows: np.ndarray


class ReplayLesson(Lesson):
    """The teacher's and the elders' opinion of segments that the frozen layers have mostly heard before.

    A slot's version is 1 at first, and s + 2 after step s has replaced it. Slot and version decide the segment, and
    the number of a step which slots it uses and replaces, so that a file is checked, completed or made for any step.

    Parameters
    ----------
    phase, student, seed, windows, loss
        See `SegmentLesson`.
    elders : Elders
    folder : Path
        For the file.
    """

    def __init__(
        self,
        phase: Phase,
        student: Student,
        *,
        seed: int,
        windows: Windows,
        loss: TeacherLoss,
        elders: Elders,
        folder: Path,
    ) -> None:
        super().__init__(phase, student, seed=seed)
        self._windows, self._loss, self._elders = windows, loss, elders
        name = f"{phase.name}.{self._digest()}.replay"
        remove_replays(folder, phase.name, but=name)
        self._replay = Replay(folder / name, slots=phase.slots, shape=student.lower_shape, logits=elders.width)

    def prepare(self, step: int) -> Iterator[float]:
        """Fill the slots that do not hold what they must before `step`."""
        due = np.ones(self.phase.slots, dtype=np.int64)
        for before in range(step):
            due[self._replaced(self._used(before))] = before + 2
        wrong = np.flatnonzero(self._replay.versions != due)
        parts = np.array_split(wrong, range(_FILLED_AT_ONCE, len(wrong), _FILLED_AT_ONCE)) if len(wrong) else []
        for done, heard in enumerate(_one_ahead(lambda slots: self._hear(slots, due[slots]), parts), start=1):
            self._keep(heard)
            yield done / len(parts)

    def draw(self, step: int) -> tuple[np.ndarray, _Heard]:
        """The slots of each micro-batch, (micro_batches, batch), and new segments for those that are replaced."""
        used = self._used(step)
        replaced = self._replaced(used)
        return used, self._hear(replaced, np.full(len(replaced), step + 2))

    def losses(self, drawn: tuple[np.ndarray, _Heard]) -> Iterator[Tensor]:
        """The distance from the teacher and the elders."""
        used, heard = drawn
        self._keep(heard)
        for slots in used:
            frames, chosen, elders = self._replay.take(slots)
            yield self._loss(*self.student.upper(frames), chosen, elders if self._elders.width else None)

    def _used(self, step: int) -> np.ndarray:
        n = self.phase.micro_batches * self.phase.batch
        return self.rng(step).choice(self.phase.slots, n, replace=False).reshape(self.phase.micro_batches, -1)

    def _replaced(self, used: np.ndarray) -> np.ndarray:
        return used[:, : self.phase.fresh].ravel()

    def _hear(self, slots: np.ndarray, versions: np.ndarray) -> _Heard:
        drawn = [_varied(self.phase, self._windows, 1, self.rng(*each)) for each in zip(slots, versions, strict=True)]
        segments, windows = (np.concatenate(part) for part in zip(*drawn, strict=True))
        return _Heard(slots=slots, versions=versions, segments=segments, windows=windows)

    def _keep(self, heard: _Heard) -> None:
        frames = self.student.lower(torch.from_numpy(heard.segments))
        self._replay.put(heard.slots, heard.versions, heard.windows, frames, self._elders(frames))

    def _digest(self) -> str:
        """What decides the content of the slots."""
        digest = hashlib.sha256(repr((self.phase, self.seed)).encode())
        for tensor in (*self.student.frozen_state().values(), *self._elders.tensors()):
            digest.update(tensor.numpy().tobytes())
        digest.update(self._windows.logits.tobytes())
        return digest.hexdigest()[:16]


def _varied(phase: Phase, windows: Windows, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return windows.draw(n, rng, jitter=phase.jitter, speed=phase.speed, mixed=phase.mixed)


def _one_ahead(work: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """``map(work, items)``, with the next result made in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(work, item) for item in items[:1]]
        for item in items[1:]:
            coming.append(pool.submit(work, item))
            yield coming.pop(0).result()
        yield from (future.result() for future in coming)
