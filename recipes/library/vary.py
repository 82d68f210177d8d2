"""Other versions of the music as files, so that teachers who hear everything once hear varied sound too."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from samptag.audio.decode import SCALE
from samptag.data.cache import build_cache
from samptag.data.formats import open_dataset
from samptag.files import atomic_write
from samptag.training.augment import augment
from samptag.training.recipe import MODERN

RATE = 22_050
SECONDS = 43
BATCH = 16
# Half are mixed with another track, half played up to a tenth faster or slower, half equalised.
HOW = replace(
    MODERN.augmentation,
    **{"gain_db": 12, "mixup_probability": 0.5, "mixup_alpha": 1.0, "noise_probability": 0.1},
    **{"band_limit_probability": 0.1, "speed_probability": 0.5, "speed": 0.1, "equaliser_probability": 0.5},
)


def vary(manifest: Path, varied: Path, *, excerpts: Path | None, cache: Path | None) -> None:
    """Write a version of every training track, beside `varied`, and into that `manifest`, versions and `excerpts`.

    A version is 43 s from a random place of a track, augmented as a segment is in training, but as a whole. Every draw
    follows from the track's batch, so a run that was stopped goes on with the files that are there.
    """
    folder = varied.with_suffix("")
    folder.mkdir(exist_ok=True)
    data = open_dataset(manifest, labelled=False)
    audio = build_cache(data, sample_rate=RATE, directory=cache)
    places = [i for i, clip in enumerate(data.clips) if clip.split == "train" and audio.lengths[i]]
    order = np.random.default_rng(0).permutation(places)
    length = SECONDS * RATE
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        files = [folder / f"{place:05}.flac" for place in batch]
        table.writerows((file, "train", data.clips[place].group) for file, place in zip(files, batch, strict=True))
        if all(file.exists() for file in files):
            continue
        rng = np.random.default_rng([0, first])
        torch.manual_seed(first)
        waveforms = np.empty((len(batch), HOW.reach(length)), np.float32)
        for row, place in zip(waveforms, batch, strict=True):
            samples = audio.clip(int(place))
            start = rng.integers(max(1, len(samples) - len(row)))
            row[:] = np.resize(samples[start : start + len(row)], len(row)) / np.float32(SCALE)
        unlabelled = torch.zeros(len(batch), 1)
        music = torch.from_numpy(waveforms)
        sound, _ = augment(music, unlabelled, how=HOW, length=length, sample_rate=RATE, rng=rng)
        for file, row in zip(files, sound.numpy(), strict=True):
            with atomic_write(file) as opened:
                soundfile.write(opened, row / max(1.0, float(np.abs(row).max())), RATE, format="FLAC")
    if excerpts is not None:
        table.writerows((file.resolve(), "train", file.parent.name) for file in sorted(excerpts.glob("*/*.flac")))
    with atomic_write(varied) as opened:
        opened.write(manifest.read_bytes() + rows.getvalue().encode())
