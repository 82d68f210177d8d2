"""The teacher's opinion of every segment."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from recipes.samplecnn_3_9_mtat50 import teacher as musicnn
from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE, SEGMENT, Store, write_array
from samptag.audio.resample import resample
from samptag.core.atomic import atomic_write

__all__ = ["label_track", "label_tracks", "teacher_windows", "write_scores"]

_BATCH = 8
_FULL_SCALE = 32_768

_teacher: musicnn.Teacher | None = None  # one in each process


def teacher_windows(samples: np.ndarray) -> np.ndarray:
    """The 3 s around the middle of each consecutive segment, at the teacher's rate.

    Parameters
    ----------
    samples : ndarray of int16, (samples,)
        At 22 050 Hz.

    Returns
    -------
    ndarray of float32, (segments, 48 128)
        Windows that would reach over an end of the track are moved into it; a track shorter than a window is filled up
        with zeros.
    """
    n_segments = len(samples) // SEGMENT
    heard = resample((samples / np.float32(_FULL_SCALE)).astype(np.float32), SAMPLE_RATE, musicnn.SAMPLE_RATE)
    heard = np.pad(heard, (0, max(0, musicnn.WINDOW - len(heard)))).astype(np.float32)
    middles = (np.arange(n_segments) + 0.5) * SEGMENT * musicnn.SAMPLE_RATE / SAMPLE_RATE
    starts = np.clip(np.rint(middles).astype(int) - musicnn.WINDOW // 2, 0, len(heard) - musicnn.WINDOW)
    return np.stack([heard[start : start + musicnn.WINDOW] for start in starts]) if n_segments else np.zeros((0, 0))


def label_track(teacher: musicnn.Teacher, samples: np.ndarray) -> np.ndarray:
    """Logits of both networks for the consecutive segments: float16, (segments, 2, 50)."""
    windows = teacher_windows(samples)
    parts = [teacher(windows[start : start + _BATCH]) for start in range(0, len(windows), _BATCH)]
    return np.concatenate(parts).astype(np.float16) if parts else np.zeros((0, 2, 50), np.float16)


def label_tracks(store: Store, tracks: Sequence[Track], *, teacher: Path, jobs: int | None = None) -> int:
    """Fill in the labels that are missing.

    Parameters
    ----------
    store : Store
        Holds the audio of all tracks.
    tracks : sequence of Track
    teacher : Path
        Folder of the teacher's weights.
    jobs : int or None
        Processes; None for as many as there are cores.

    Returns
    -------
    int
        How many tracks were labelled.
    """
    missing = [track for track in tracks if not store.label_file(track).is_file()]
    if missing:
        with ProcessPoolExecutor(jobs, initializer=_load_teacher, initargs=(teacher,)) as pool:
            files = [(store.audio_file(track), store.label_file(track)) for track in missing]
            for _ in pool.map(_label_file, *zip(*files, strict=True)):
                pass
    return len(missing)


def write_scores(target: Path, store: Store, tracks: Sequence[Track]) -> None:
    """The teacher's scores of a whole collection as one file; see `collection.read_teacher_scores`.

    Parameters
    ----------
    target : Path
    store : Store
        Holds the labels of all tracks.
    tracks : sequence of Track
        In the order of the collection's table.
    """
    logits = [np.load(store.label_file(track)).astype(np.float32) for track in tracks]
    scores = (1 / (1 + np.exp(-np.concatenate(logits)))).astype(np.float16)
    with atomic_write(target) as file:
        np.savez(file, scores=scores, segments_per_track=np.array([len(part) for part in logits]))


def _load_teacher(folder: Path) -> None:
    global _teacher
    torch.set_num_threads(1)
    _teacher = musicnn.Teacher(folder)


def _label_file(audio: Path, target: Path) -> None:
    if _teacher is None:
        raise RuntimeError("the process has no teacher")
    write_array(target, label_track(_teacher, np.load(audio)))
