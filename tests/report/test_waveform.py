"""The outline of a waveform: the same for every division into blocks, and of a fixed size."""

import numpy as np
import pytest

from samptag.report.timeline import Outline


def outline(samples: np.ndarray, points: int, block: int) -> np.ndarray:
    made = Outline(points)
    for start in range(0, len(samples), block):
        made.push(samples[start : start + block])
    return made.finish()


@pytest.mark.parametrize("points", [16, 100, 1600])
def test_blocks_do_not_matter(music, points: int):
    samples = music.part(12)[:, 0]
    whole = outline(samples, points, len(samples))
    for block in (997, 44_100):
        assert (outline(samples, points, block) == whole).all()


def test_peaks_and_powers_are_those_of_the_sound(music):
    samples = music.part(20)[:, 0][: 2**19]
    peaks, powers = outline(samples, 64, 4096)
    parts = samples.reshape(64, -1)
    highest = np.abs(samples).max()
    np.testing.assert_allclose(peaks, np.abs(parts).max(axis=1) / highest * 255, atol=0.51)
    np.testing.assert_allclose(powers, np.sqrt(np.square(parts).mean(axis=1)) / highest * 255, atol=0.51)
    assert peaks.max() == 255
    assert (powers <= peaks).all()


def test_fewer_samples_than_points():
    peaks, powers = outline(np.array([0.25, -0.5], dtype=np.float32), 8, 2)
    assert peaks.tolist() == [255] * 8
    assert (powers > 0).all()


def test_silence_is_flat():
    assert not outline(np.zeros(50_000, dtype=np.float32), 10, 3000).any()
