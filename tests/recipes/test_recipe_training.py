"""What the recipe's student computes, and what it hears."""

import signal

import numpy as np
import pytest
import torch

from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.export import student
from recipes.samplecnn_3_9_mtat50.label import teacher_windows
from recipes.samplecnn_3_9_mtat50.options import Pace
from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.store import SEGMENT, Store, write_array
from recipes.samplecnn_3_9_mtat50.student import CROP, Student, mel_heads
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from recipes.samplecnn_3_9_mtat50.teacher import WINDOW
from recipes.samplecnn_3_9_mtat50.train import Material, finished, train_phase, trained
from recipes.samplecnn_3_9_mtat50.windows import Crops, Windows, augment
from samptag.audio.decode import open_audio
from samptag.training.workers import Workers


@pytest.fixture(scope="module")
def samples(media):
    """Ten seconds of music, int16 at 22 050 Hz."""
    with open_audio(media / "eastern-dreams.mp3", sample_rate=22_050) as stream:
        music = np.concatenate(list(stream))[:220_500]
    return np.rint(music * 32_767).astype("<i2")


@pytest.fixture
def store(tmp_path, samples):
    """A store with one track, its audio and invented logits."""
    store = Store(tmp_path)
    track = Track(key="a.ogg", path=tmp_path / "a.ogg", source="orois")
    write_array(store.audio_file(track), samples)
    logits = np.random.default_rng(0).normal(-3, 2, (len(samples) // SEGMENT, 2, len(TAGS))).astype(np.float16)
    write_array(store.label_file(track), logits)
    return store, track


def test_frozen_layers_give_the_modules_own_values_and_are_not_trained(samples):
    torch.manual_seed(0)
    model = student()
    segments = torch.from_numpy(samples[: 2 * SEGMENT].reshape(2, SEGMENT) / np.float32(32_768))
    learner = Student(model, mel_heads(model), frozen=2, workers=Workers(2))
    model.eval()
    with torch.no_grad():
        expected = model.body[1](model.body[0](model.front(segments))).squeeze(2).transpose(1, 2)
    found = learner._lower(segments)
    torch.testing.assert_close(found[:, 1:-1], expected, rtol=1e-4, atol=1e-4)
    assert not found[:, [0, -1]].any()
    model.train()
    logits, spectral = learner(segments)
    torch.autograd.backward(logits.square().mean() + spectral)
    trained_ones = {id(p) for p in learner.parameters()}
    for name, parameter in model.named_parameters():
        lower = name.startswith(("front", "body.0", "body.1"))
        assert (id(parameter) in trained_ones) is not lower, name
        if lower:
            assert parameter.grad is None, name
        elif name.endswith("weight"):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_spectrograms_of_crops_have_the_modules_frames(samples):
    model = student()
    heads = mel_heads(model)
    music = torch.from_numpy(samples[: 30 * CROP].reshape(30, CROP) / np.float32(32_768))
    for head, frames in ((heads["3"], 27), (heads["4"], 9)):
        head.measure(music)
        target = head.target(music)
        assert target.shape == (30, frames, head.linear.out_features)
        assert target.mean((0, 1)).abs().max() < 1e-3
        assert target.std((0, 1)).max() < 1


def test_the_teacher_hears_the_three_seconds_around_each_segments_middle():
    at = 3 * SEGMENT + SEGMENT // 2  # a click in the middle of the fourth segment of seven
    samples = np.zeros(7 * SEGMENT + 100, "<i2")
    samples[at] = 30_000
    windows = teacher_windows(samples)
    assert windows.shape == (7, WINDOW)
    assert abs(int(np.abs(windows[3]).argmax()) - WINDOW // 2) <= 1
    assert teacher_windows(samples[: SEGMENT + 5]).shape == (1, WINDOW)
    assert len(teacher_windows(samples[: SEGMENT - 1])) == 0


def test_augmented_music_stays_music_of_its_length(samples):
    music = samples[:SEGMENT] / np.float32(32_768)
    for seed in range(20):
        varied = augment(music, np.random.default_rng(seed))
        assert varied.shape == music.shape
        assert varied.dtype == np.float32
        assert np.abs(varied).max() <= 1
        np.testing.assert_array_equal(varied, augment(music, np.random.default_rng(seed)))


def test_segments_lie_near_the_window_the_teacher_heard(store, samples):
    windows = Windows(store[0], [store[1]])
    assert len(windows) == len(samples) // SEGMENT
    np.testing.assert_array_equal(windows.plain(np.array([1]))[0] * 32_768, samples[SEGMENT : 2 * SEGMENT])
    segments, logits = windows.draw(4, np.random.default_rng(0))
    assert segments.shape == (4, SEGMENT)
    assert all(any(np.array_equal(one, known) for known in windows.logits) for one in logits)


class InterruptedCrops(Crops):
    """The same crops, with Ctrl-C while those of a later step are drawn."""

    def draw(self, n, length, rng):
        self.drawn = getattr(self, "drawn", 0) + (length == CROP)
        if self.drawn == 2:
            signal.raise_signal(signal.SIGINT)
        return super().draw(n, length, rng)


def test_a_phase_that_is_stopped_ends_with_the_same_weights(store, tmp_path):
    windows = Windows(store[0], [store[1]])
    phase = Phase(name="m", after="", crops=True, frozen=0, rate=3e-3, batch=2, micro_batches=1)

    def train(folder, kind):
        material = Material(crops=kind(store[0], [store[1]]), windows=windows, held_out=None)
        train_phase(phase, folder=folder, material=material, pace=Pace(minutes=1, steps=6), seed=3, threads=1)

    train(tmp_path / "whole", Crops)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", InterruptedCrops)
    assert not finished(tmp_path / "stopped", phase)
    train(tmp_path / "stopped", Crops)
    again = trained(tmp_path / "stopped", phase)
    for name, tensor in trained(tmp_path / "whole", phase).items():
        assert torch.equal(tensor, again[name]), name
