"""What the recipe's student computes, what it hears, and how its phases go on after a stop."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.elders import Elders
from recipes.samplecnn_3_9_mtat50.export import student
from recipes.samplecnn_3_9_mtat50.label import teacher_windows, write_scores
from recipes.samplecnn_3_9_mtat50.loss import TeacherLoss
from recipes.samplecnn_3_9_mtat50.options import Pace
from recipes.samplecnn_3_9_mtat50.phases import PHASES, Phase
from recipes.samplecnn_3_9_mtat50.store import SEGMENT, Store, write_array
from recipes.samplecnn_3_9_mtat50.student import CROP, Student, mel_heads
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from recipes.samplecnn_3_9_mtat50.teacher import EMBEDDING, WINDOW
from recipes.samplecnn_3_9_mtat50.train import Material, finished, train_phase, trained
from recipes.samplecnn_3_9_mtat50.windows import Crops, Windows, augment
from samptag.audio.decode import open_audio
from samptag.training import Workers


@pytest.fixture(scope="module")
def samples(media):
    """Ten seconds of music, int16 at 22 050 Hz."""
    with open_audio(media / "eastern-dreams.mp3", sample_rate=22_050) as stream:
        music = np.concatenate(list(stream))[:220_500]
    return np.rint(music * 32_767).astype("<i2")


@pytest.fixture
def store(tmp_path, samples):
    """A store with one track, its audio and invented logits and embeddings."""
    store = Store(tmp_path)
    track = Track(key="a.ogg", path=tmp_path / "a.ogg", source="orois")
    write_array(store.audio_file(track), samples)
    rng, n = np.random.default_rng(0), 2 * len(samples) // SEGMENT - 1
    write_array(store.logits_file(track), rng.normal(-3, 2, (n, 2, len(TAGS))).astype(np.float16))
    write_array(store.embeddings_file(track), rng.normal(size=(n, EMBEDDING)).astype(np.float16))
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
    logits, embeddings, spectral = learner(segments)
    assert embeddings.shape == (2, 512)
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


def test_what_lies_above_the_frozen_layers_can_be_run_on_what_they_gave(samples):
    torch.manual_seed(0)
    model = student()
    model.dropout.p = 0.0
    segments = torch.from_numpy(samples[: 2 * SEGMENT].reshape(2, SEGMENT) / np.float32(32_768))
    learner = Student(model, torch.nn.ModuleDict(), frozen=3, workers=Workers(1))
    frames = learner.lower(segments)
    assert frames.shape == (2, *learner.lower_shape) == (2, 729, 256)
    with torch.no_grad():
        logits, embeddings, spectral = (part.clone() for part in learner(segments))
        for found, expected in zip(learner.upper(frames), (logits, embeddings), strict=True):
            torch.testing.assert_close(found, expected)
    assert not spectral
    assert [weight.shape for weight in learner.filters()] == [(256, 256, 3)] * 5 + [(512, 256, 3), (512, 512, 1)]


def _student_with_statistics(seed):
    """A net with random weights and running statistics that are not those of a new one."""
    torch.manual_seed(seed)
    model = student()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def test_elders_go_on_from_what_the_shared_frozen_layers_give(samples):
    first, second = _student_with_statistics(1), _student_with_statistics(2)
    learner = Student(first, torch.nn.ModuleDict(), frozen=3, workers=Workers(2))
    second.load_state_dict(learner.frozen_state(), strict=False)
    elders = Elders([first.state_dict(), second.state_dict()], learner, Workers(2))
    segments = torch.from_numpy(samples[: 3 * SEGMENT].reshape(3, SEGMENT) / np.float32(32_768))
    with torch.no_grad():
        expected = (first(segments) + second(segments)) / 2
        assert (first(segments) - second(segments)).abs().max() > 0.01
        torch.testing.assert_close(elders(learner.lower(segments)), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="other frozen layers"):
        Elders([_student_with_statistics(3).state_dict()], learner, Workers(1))


@pytest.mark.parametrize(("middle", "window"), [(3 * SEGMENT + SEGMENT // 2, 6), (4 * SEGMENT, 7)])
def test_the_teacher_hears_the_three_seconds_around_middles_and_boundaries_of_segments(middle, window):
    samples = np.zeros(7 * SEGMENT + 100, "<i2")
    samples[middle] = 30_000  # a click
    windows = teacher_windows(samples)
    assert windows.shape == (13, WINDOW)
    assert abs(int(np.abs(windows[window]).argmax()) - WINDOW // 2) <= 1


def test_the_teacher_hears_whole_segments_only():
    samples = np.zeros(2 * SEGMENT, "<i2")
    lengths = (SEGMENT - 1, SEGMENT, SEGMENT + SEGMENT // 2, SEGMENT + SEGMENT // 2 + 1, 2 * SEGMENT)
    assert [len(teacher_windows(samples[:length])) for length in lengths] == [0, 1, 1, 2, 3]
    assert teacher_windows(samples[: SEGMENT + 5]).shape == (1, WINDOW)


def test_scores_of_a_collection_are_those_of_touching_segments(store, tmp_path):
    store, track = store
    write_scores(tmp_path / "scores.npz", store, [track, track])
    with np.load(tmp_path / "scores.npz") as content:
        np.testing.assert_array_equal(content["segments_per_track"], [3, 3])
        logits = np.load(store.logits_file(track))[[0, 2, 4]].astype(np.float32)
        np.testing.assert_allclose(content["scores"][3:], 1 / (1 + np.exp(-logits)), atol=1e-3)


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
    assert len(windows) == len(windows.logits) == len(windows.embeddings) == 2 * len(samples) // SEGMENT - 1
    segments = windows.plain(np.array([1, 2])) * 32_768
    np.testing.assert_array_equal(segments[0], samples[SEGMENT // 2 + 1 :][:SEGMENT])
    np.testing.assert_array_equal(segments[1], samples[SEGMENT : 2 * SEGMENT])
    segments, chosen = windows.draw(4, np.random.default_rng(0), jitter=0.7, speed=0.05)
    assert segments.shape == (4, SEGMENT)
    assert chosen.shape == (4,)
    assert (chosen < len(windows)).all()


def test_other_music_is_mixed_in_far_below(store):
    windows = Windows(store[0], [store[1]])
    segment = windows.plain(np.array([1]))[0]
    for seed in range(5):
        added = windows._far_below(segment, np.random.default_rng(seed))
        assert -27 < 20 * np.log10(added.std() / segment.std()) < -11
    alone, _ = windows.draw(2, np.random.default_rng(1), jitter=0.0, speed=0.0)
    mixed, _ = windows.draw(2, np.random.default_rng(1), jitter=0.0, speed=0.0, mixed=1.0)
    assert not np.array_equal(alone, mixed)


class Interrupted:
    """The same crops or windows, with Ctrl-C while those of a later step are drawn."""

    def __init__(self, drawing, *, at):
        self.drawing, self.left = drawing, at

    def __len__(self):
        return len(self.drawing)

    def __getattr__(self, name):
        return getattr(self.drawing, name)

    def draw(self, n, *others, **settings):
        if n < 64:  # not what the spectrograms' bands are measured on
            self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return self.drawing.draw(n, *others, **settings)


def assert_same(folder, again, phase):
    whole, resumed = trained(folder, phase), trained(again, phase)
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_phase_that_is_stopped_ends_with_the_same_weights(store, tmp_path):
    crops, windows = Crops(store[0], [store[1]]), Windows(store[0], [store[1]])
    phase = Phase(name="m", after="", minutes=1, crops=True, frozen=0, rate=3e-3, batch=2, micro_batches=1)

    def train(folder, crops):
        material = Material(crops=crops, windows=windows, held_out=None)
        train_phase(phase, folder=folder, material=material, pace=Pace(minutes=1, steps=6), seed=3, threads=1)

    train(tmp_path / "whole", crops)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", Interrupted(crops, at=2))
    assert not finished(tmp_path / "stopped", phase)
    train(tmp_path / "stopped", crops)
    assert_same(tmp_path / "whole", tmp_path / "stopped", phase)


def test_the_loss_weighs_scores_and_logits_by_their_spread_over_the_music(store):
    windows, rng = Windows(store[0], [store[1]]), np.random.default_rng(1)
    chosen, logits = np.array([4, 0, 4]), rng.normal(-3, 2, (3, len(TAGS))).astype(np.float32)
    phase = replace(PHASES[-1], logits=0.5, scores=2.0, embedded=0.0)
    found = TeacherLoss(windows, torch.nn.Identity(), phase)(torch.from_numpy(logits), torch.zeros(3, 512), chosen)

    heard = (1 / (1 + np.exp(-windows.logits.astype(np.float64)))).mean(axis=1)
    given, target = 1 / (1 + np.exp(-logits.astype(np.float64))), heard[chosen]
    entropy = -(target * np.log(given) + (1 - target) * np.log(1 - given)).mean()
    clipped = np.clip(target, 1e-4, 1 - 1e-4)
    of_logits = ((logits - np.log(clipped / (1 - clipped))) / windows.logits.mean(axis=1).std(axis=0)) ** 2
    of_scores = ((given - target) / np.maximum(heard.std(axis=0), 0.03)) ** 2
    assert found.item() == pytest.approx(2 * entropy + 0.5 * of_logits.mean() + 2.0 * of_scores.mean(), rel=1e-4)


def test_elders_have_their_share_in_the_loss(store):
    windows, rng = Windows(store[0], [store[1]]), np.random.default_rng(2)
    chosen, given = np.array([1, 3]), torch.from_numpy(rng.normal(-3, 2, (2, len(TAGS))).astype(np.float32))

    def loss(elders, share):
        phase = replace(PHASES[-1], embedded=0.0, elders_share=share)
        return TeacherLoss(windows, torch.nn.Identity(), phase)(given, torch.zeros(2, 512), chosen, elders).item()

    teachers = torch.logit(torch.from_numpy(windows.scores(chosen)), 1e-4)
    assert loss(teachers, 0.6) == pytest.approx(loss(None, 0.6), rel=1e-5)
    least = torch.nn.functional.binary_cross_entropy_with_logits(given, torch.sigmoid(given)).item()
    assert loss(given, 1.0) == pytest.approx(2 * least, rel=1e-5)
    assert 2 * least < loss(given, 0.6) < loss(given, 0.3) < loss(given, 0.0) == loss(None, 0.6)


def test_phases_with_muon_and_replay_end_with_the_same_weights(store, tmp_path):
    crops, windows = Crops(store[0], [store[1]]), Windows(store[0], [store[1]])
    small = {"batch": 2, "micro_batches": 1}
    first = replace(PHASES[0], **small)
    replaying = replace(PHASES[3], **small, after="m", slots=4, fresh=1)
    hearing = replace(PHASES[4], **small)
    with_elders = replace(PHASES[-1], **small, after="d", elders=("d",), slots=4, fresh=1)

    def train(phase, folder, windows=windows, steps=2):
        material = Material(crops=crops, windows=windows, held_out=None)
        train_phase(phase, folder=folder, material=material, pace=Pace(minutes=1, steps=steps), seed=3, threads=2)

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(first, whole, steps=1)
    stopped.mkdir()
    (stopped / "m.pt").write_bytes((whole / "m.pt").read_bytes())
    for phase, at in ((replaying, 6), (hearing, 2), (with_elders, 6)):  # four draws fill the slots
        train(phase, whole)
        with pytest.raises(KeyboardInterrupt):
            train(phase, stopped, Interrupted(windows, at=at))
        assert not finished(stopped, phase)
        for file in stopped.glob("*.replay"):
            file.unlink()  # as when it was lost: the slots are heard again as they were
        train(phase, stopped)
        assert_same(whole, stopped, phase)
    assert not list(tmp_path.rglob("*.replay"))
    before, after = trained(whole, first), trained(whole, hearing)
    still = {name for name in before if torch.equal(before[name], after[name])}
    frozen = ("front.", *(f"body.{i}." for i in range(hearing.frozen)))
    assert {name for name in still if not name.endswith(".bias")} == {
        name for name in before if name.startswith(frozen) and not name.endswith(".bias")
    }
