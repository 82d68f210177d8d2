"""Sound that no track holds, heard by the teacher as the student will hear it: mixtures, crossfades, other speeds."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from recipes.samplecnn_3_9_mtat50 import teacher as musicnn
from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.label import opinions
from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE, SCALE, Store, write_array, write_labels
from recipes.samplecnn_3_9_mtat50.windows import MIXTURE, Windows
from samptag.audio.resample import resample

__all__ = ["Mixer", "label_mixtures", "labelled_mixtures"]

_AT_ONCE = 64  # mixtures a file

_SINGLE, _TOGETHER = 0.35, 0.88  # up to here one piece alone, up to here two at once, beyond them a crossfade
_SPEEDS = (0.8, 1.25)  # of the sound, so pitch and voice change too
_RESPED_ALONE, _RESPED_FIRST, _RESPED_SECOND = 0.9, 0.6, 0.5
_BELOW_DB = (-3.0, 15.0)  # how far the second piece of two at once lies below the first
_APART_DB = 6.0  # how far the pieces of a crossfade may be apart
_FADE_SECONDS = (0.1, 1.0)
_SHIFT_SECONDS = 0.7
_LEAST_LEVEL, _MOST_GAIN = 1e-4, 20.0

# Rare tags come first: a piece counts for more by what the teacher gives above _HEARD, in units of the tag's mean.
_HEARD, _RARITY, _LEAST_MEAN = 0.15, 0.15, 0.02


class Mixer:
    """Draws such sounds from labelled music.

    Parameters
    ----------
    windows : Windows
        The music.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        scores = windows.scores(np.arange(len(windows)))
        rarity = np.maximum(0, scores - _HEARD) / (scores.mean(axis=0) + _LEAST_MEAN)
        first = windows.chances * (1 + _RARITY * rarity.sum(axis=1))
        self._first = first / first.sum()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One sound.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of float32, (MIXTURE,)
            In [-1, 1], at 22 050 Hz: the 3 s that the teacher hears.
        """
        kind = rng.random()
        first = self._piece(rng, self._first, resped=_RESPED_ALONE if kind < _SINGLE else _RESPED_FIRST)
        if kind < _SINGLE:
            return first
        second = self._piece(rng, self._windows.chances, resped=_RESPED_SECOND)
        second *= np.float32(min((first.std() + _LEAST_LEVEL) / (second.std() + _LEAST_LEVEL), _MOST_GAIN))
        if kind < _TOGETHER:
            mixed = first + second * _gain(-rng.uniform(*_BELOW_DB))
        else:
            middle, length = rng.uniform(0.2, 0.8) * MIXTURE, rng.uniform(*_FADE_SECONDS) * SAMPLE_RATE
            angle = np.pi / 2 * np.clip((np.arange(MIXTURE, dtype=np.float32) - middle) / length + 0.5, 0, 1)
            mixed = first * np.cos(angle) + second * np.sin(angle) * _gain(rng.uniform(-_APART_DB, _APART_DB))
        quieter: np.ndarray = (mixed / max(1.0, np.abs(mixed).max())).astype(np.float32)
        return quieter

    def _piece(self, rng: np.random.Generator, chances: np.ndarray, *, resped: float) -> np.ndarray:
        """Three seconds of some track, as fast as drawn."""
        speed = np.exp(rng.uniform(*np.log(_SPEEDS))) if rng.random() < resped else 1.0
        rate = round(SAMPLE_RATE * speed)
        length = -(-MIXTURE * rate // SAMPLE_RATE) + 1
        shift = int(rng.uniform(-_SHIFT_SECONDS, _SHIFT_SECONDS) * SAMPLE_RATE)
        samples = self._windows.around(int(rng.choice(len(chances), p=chances)), length, shift)
        return resample(samples, rate, SAMPLE_RATE)[:MIXTURE]


def labelled_mixtures(
    mixer: Mixer, teacher: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some mixtures and what the teacher makes of them.

    Parameters
    ----------
    mixer : Mixer
    teacher : Teacher
        Or what is called like it.
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int16, (n, MIXTURE)
        The sounds, at 22 050 Hz.
    ndarray of float16, (n, networks, tags)
        Logits.
    ndarray of float16, (n, 456)
        Embeddings.
    """
    sounds = np.stack([np.rint(mixer.draw(rng) * (SCALE - 1)).astype("<i2") for _ in range(n)])
    heard = [resample(sound / np.float32(SCALE), SAMPLE_RATE, musicnn.SAMPLE_RATE) for sound in sounds]
    # 48 127 or 48 128 samples, as the rounding of the resampler's length goes.
    windows = [np.pad(sound[: musicnn.WINDOW], (0, max(0, musicnn.WINDOW - len(sound)))) for sound in heard]
    return sounds, *opinions(teacher, np.stack(windows))


def label_mixtures(
    store: Store, tracks: Sequence[Track], *, games: frozenset[str], teacher: Path, n: int, seed: int, jobs: int | None
) -> int:
    """Draw mixtures and have the teacher hear them, as far as they are missing.

    Parameters
    ----------
    store : Store
        Holds the audio and the labels of all tracks.
    tracks : sequence of Track
        To draw from.
    games : frozenset of str
        See `Windows`.
    teacher : Path
        Folder of the teacher's weights.
    n : int
        How many mixtures there shall be; rounded up to whole files.
    seed : int
        Decides each file's mixtures, together with its number.
    jobs : int or None
        Processes; None for as many as there are cores.

    Returns
    -------
    int
        How many were made.
    """
    missing = [number for number in range(-(-n // _AT_ONCE)) if not store.mixture_files(number).logits.is_file()]
    if missing:
        with ProcessPoolExecutor(jobs, initializer=_prepare, initargs=(store, tracks, games, teacher)) as pool:
            for _ in pool.map(_make, [store] * len(missing), missing, [seed] * len(missing)):
                pass
    return len(missing) * _AT_ONCE


_tools: tuple[Mixer, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] | None = None  # in each process


def _prepare(store: Store, tracks: Sequence[Track], games: frozenset[str], teacher: Path) -> None:
    global _tools
    torch.set_num_threads(1)
    _tools = Mixer(Windows(store, tracks, games=games)), musicnn.Teacher(teacher)


def _make(store: Store, number: int, seed: int) -> None:
    if _tools is None:
        raise RuntimeError("the process has no teacher")
    mixer, teacher = _tools
    sounds, logits, embeddings = labelled_mixtures(mixer, teacher, _AT_ONCE, np.random.default_rng([seed, number]))
    files = store.mixture_files(number)
    write_array(files.audio, sounds)
    write_labels(files.logits, files.embeddings, logits=logits, embeddings=embeddings)


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))
