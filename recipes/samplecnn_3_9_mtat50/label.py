"""The teacher's opinion of every segment, and of those half way between."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from recipes.samplecnn_3_9_mtat50 import teacher as musicnn
from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE, SCALE, SEGMENT, Store, write_labels
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from samptag.audio.resample import resample
from samptag.files import atomic_write

__all__ = ["label_tracks", "opinions", "teacher_windows", "write_scores"]

_BATCH = 8

_teacher: musicnn.Teacher | None = None  # one in each process


def teacher_windows(samples: np.ndarray) -> np.ndarray:
    """The 3 s around the middle of each segment, at the teacher's rate; segments start every half segment.

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
    n_segments = max(0, 2 * len(samples) // SEGMENT - 1)
    heard = resample((samples / np.float32(SCALE)).astype(np.float32), SAMPLE_RATE, musicnn.SAMPLE_RATE)
    heard = np.pad(heard, (0, max(0, musicnn.WINDOW - len(heard)))).astype(np.float32)
    middles = (np.arange(n_segments) + 1) * SEGMENT / 2 * musicnn.SAMPLE_RATE / SAMPLE_RATE
    starts = np.clip(np.rint(middles).astype(int) - musicnn.WINDOW // 2, 0, len(heard) - musicnn.WINDOW)
    return np.stack([heard[start : start + musicnn.WINDOW] for start in starts]) if n_segments else np.zeros((0, 0))


def opinions(
    teacher: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the teacher makes of windows, a few at a time.

    Parameters
    ----------
    teacher : Teacher
        Or what is called like it.
    windows : ndarray of float32, (segments, 48 128)
        At the teacher's rate.

    Returns
    -------
    ndarray of float16, (segments, 2, 50)
        Logits of both networks.
    ndarray of float16, (segments, 456)
        Embeddings; see `Teacher`.
    """
    parts = [teacher(windows[start : start + _BATCH]) for start in range(0, len(windows), _BATCH)]
    if not parts:
        return np.zeros((0, 2, len(TAGS)), np.float16), np.zeros((0, musicnn.EMBEDDING), np.float16)
    logits, embeddings = (np.concatenate(part).astype(np.float16) for part in zip(*parts, strict=True))
    return logits, embeddings


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
    missing = [track for track in tracks if not store.logits_file(track).is_file()]
    if missing:
        with ProcessPoolExecutor(jobs, initializer=_load_teacher, initargs=(teacher,)) as pool:
            files = [(store.audio_file(t), store.logits_file(t), store.embeddings_file(t)) for t in missing]
            for _ in pool.map(_label_file, *zip(*files, strict=True)):
                pass
    return len(missing)


def write_scores(target: Path, store: Store, tracks: Sequence[Track]) -> None:
    """The scores of a collection's touching segments as one file; see `collection.read_teacher_scores`.

    Parameters
    ----------
    target : Path
    store : Store
        Holds the labels of all tracks.
    tracks : sequence of Track
        In the order of the collection's table.
    """
    logits = [np.load(store.logits_file(track))[::2].astype(np.float32) for track in tracks]
    scores = (1 / (1 + np.exp(-np.concatenate(logits)))).astype(np.float16)
    with atomic_write(target) as file:
        np.savez(file, scores=scores, segments_per_track=np.array([len(part) for part in logits]))


def _load_teacher(folder: Path) -> None:
    global _teacher
    torch.set_num_threads(1)
    _teacher = musicnn.Teacher(folder)


def _label_file(audio: Path, logits_file: Path, embeddings_file: Path) -> None:
    if _teacher is None:
        raise RuntimeError("the process has no teacher")
    logits, embeddings = opinions(_teacher, teacher_windows(np.load(audio)))
    write_labels(logits_file, embeddings_file, logits=logits, embeddings=embeddings)
