"""Other versions of the music as files, so that teachers who hear everything once hear varied sound too."""

import csv
import io
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from samptag.audio.decode import SCALE
from samptag.core.device import select_device
from samptag.data.cache import build_cache
from samptag.data.formats import open_dataset
from samptag.files import atomic_write
from samptag.training.augment import augment
from samptag.training.recipe import MODERN

RATE = 22_050
LONG, SHORT = 43 * RATE, 16 * RATE
BATCH = 16
# Half are mixed with another track, half played up to a tenth faster or slower, half equalised.
HOW = replace(
    MODERN.augmentation,
    **{"gain_db": 12, "mixup_probability": 0.5, "mixup_alpha": 1.0, "noise_probability": 0.1},
    **{"band_limit_probability": 0.1, "speed_probability": 0.5, "speed": 0.1, "equaliser_probability": 0.5},
)


def vary(manifest: Path, varied: Path, *, excerpts: Path | None, versions: int, cache: Path | None) -> None:
    """Write `versions` of all that is learned from beside `varied`, and into that `manifest`, `excerpts` and versions.

    A version is 43 s from a random place, or 16 s of what lasts less, augmented as a segment is in training, but as a
    whole, on a GPU where there is one. Every draw follows from the batch, so a run that was stopped goes on with the
    files that are there.
    """
    folder = varied.with_suffix("")
    folder.mkdir(exist_ok=True)
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    if excerpts is not None:
        table.writerows((file.resolve(), "train", file.parent.name) for file in sorted(excerpts.glob("*/*.flac")))
    _list(varied, manifest, rows)
    data = open_dataset(varied, labelled=False)
    audio = build_cache(data, sample_rate=RATE, directory=cache)
    learned = np.flatnonzero((audio.lengths > 0) & [clip.part == "train" for clip in data.clips])
    is_long = audio.lengths[learned] >= LONG
    kinds = ((LONG, learned[is_long]), (SHORT, learned[~is_long]))
    device = select_device("auto")
    with ThreadPoolExecutor() as threads:
        written: list[Future[None]] = []
        for version, (length, places) in product(range(versions), kinds):
            order = np.random.default_rng([0, version, length]).permutation(places)
            for first in range(0, len(order), BATCH):
                batch = order[first : first + BATCH].tolist()
                files = [folder / f"{place:05}-{version}.flac" for place in batch]
                table.writerows((file, "train", data.clips[i].group) for file, i in zip(files, batch, strict=True))
                if all(file.exists() for file in files):
                    continue
                rng = np.random.default_rng([0, version, length, first])
                torch.manual_seed(int(rng.integers(2**32)))
                music = np.stack([_excerpt(audio.clip(place), HOW.reach(length), rng) for place in batch])
                waveforms, labels = torch.from_numpy(music).to(device), torch.zeros(len(batch), 1, device=device)
                sound, _ = augment(waveforms, labels, how=HOW, length=length, sample_rate=RATE, rng=rng)
                _finish(written)
                written = [threads.submit(_write, *each) for each in zip(files, sound.cpu().numpy(), strict=True)]
        _finish(written)
    _list(varied, manifest, rows)


def _list(varied: Path, manifest: Path, rows: io.StringIO) -> None:
    with atomic_write(varied) as opened:
        opened.write(manifest.read_bytes() + rows.getvalue().encode())


def _finish(written: Iterable[Future[None]]) -> None:
    for each in written:
        each.result()


def _excerpt(samples: npt.NDArray[np.int16], length: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """`length` samples from a random place, repeated where there are fewer."""
    start = rng.integers(max(1, len(samples) - length))
    return np.resize(samples[start : start + length], length) / np.float32(SCALE)


def _write(file: Path, sound: npt.NDArray[np.float32]) -> None:
    with atomic_write(file) as opened:
        soundfile.write(opened, sound / max(1.0, float(np.abs(sound).max())), RATE, format="FLAC")
