"""Muon's steps, and what the frozen layers' replay keeps."""

import numpy as np
import pytest
import torch
from torch import nn

from recipes.samplecnn_3_9_mtat50.elders import Elders
from recipes.samplecnn_3_9_mtat50.export import student
from recipes.samplecnn_3_9_mtat50.lessons import ReplayLesson
from recipes.samplecnn_3_9_mtat50.muon import Muon, orthogonalised
from recipes.samplecnn_3_9_mtat50.phases import Phase
from recipes.samplecnn_3_9_mtat50.replay import Replay
from recipes.samplecnn_3_9_mtat50.store import SEGMENT
from recipes.samplecnn_3_9_mtat50.student import Student
from samptag.errors import OutputError
from samptag.training import Workers


@pytest.fixture
def workers():
    workers = Workers(2)
    yield workers
    workers.close()


@pytest.mark.parametrize("shape", [(40, 120), (120, 40), (64, 64)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_lengths(shape):
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape)))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape)))
    found = orthogonalised(left @ torch.diag(torch.logspace(0, -1, min(shape))) @ right.t())
    inside = left.t() @ found @ right
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4
    torch.testing.assert_close(left @ inside @ right.t(), found, rtol=0, atol=1e-4)


def test_reordered_rows_and_columns_are_only_reordered():
    torch.manual_seed(0)
    weight = torch.randn(16, 8, 3)
    by_kernel = orthogonalised(weight.permute(2, 1, 0).reshape(24, 16))
    torch.testing.assert_close(
        orthogonalised(weight.flatten(1)), by_kernel.view(3, 8, 16).permute(2, 1, 0).flatten(1), rtol=0, atol=1e-4
    )


def test_muon_steps_by_its_rate_keeps_the_norm_and_lowers_a_loss(workers):
    torch.manual_seed(0)
    weights = [
        nn.Parameter(torch.randn(16, 8, 3)),
        nn.Parameter(5 * torch.randn(8, 16, 1)),
        nn.Parameter(torch.ones(4, 4, 3)),
    ]
    goals = [torch.randn_like(weight) for weight in weights]
    muon = Muon(weights, workers=workers)
    losses = []
    for step in range(40):
        cosines = [
            nn.functional.cosine_similarity(w.flatten(), g.flatten(), dim=0)
            for w, g in zip(weights, goals, strict=True)
        ]
        losses.append(-sum(cosines).item())
        for weight in weights:
            weight.grad = None
        torch.autograd.backward(-sum(cosines))
        before = [weight.detach().clone() for weight in weights]
        muon.step(0.05)
        for weight, old in zip(weights, before, strict=True):
            assert weight.norm().item() == pytest.approx(old.norm().item(), rel=1e-5)
            if step == 0:  # at right angles to the weight, as the gradient of a cosine is
                assert ((weight - old).norm() / old.norm()).item() == pytest.approx(0.05, rel=0.1)
    assert losses[-1] < losses[0] - 1.5


def test_muon_goes_on_from_its_state(workers):
    def steps(weight, muon, seeds):
        for seed in seeds:
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
            muon.step(0.1)
        return muon

    start = torch.arange(48.0).view(4, 4, 3)
    whole, first = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    steps(whole, Muon([whole], workers=workers), range(4))
    state = steps(first, Muon([first], workers=workers), range(2)).state_dict()
    second = nn.Parameter(first.detach() * 1.5)  # the norm comes from the state
    resumed = Muon([second], workers=workers)
    resumed.load_state_dict(state)
    second.data.copy_(first)
    steps(second, resumed, range(2, 4))
    assert torch.equal(whole, second)


def test_slots_give_what_they_were_given_and_survive_in_their_file(tmp_path):
    replay = Replay(tmp_path / "x.replay", slots=5, shape=(3, 2), logits=2)
    assert not replay.versions.any()
    frames = torch.arange(12.0).view(2, 3, 2)
    logits = torch.tensor([[-3.0, 0.1], [2.0, 5.0]])
    replay.put(np.array([4, 1]), np.array([1, 7]), np.array([30, 40]), frames, logits)
    again = Replay(tmp_path / "x.replay", slots=5, shape=(3, 2), logits=2)
    np.testing.assert_array_equal(again.versions, [0, 7, 0, 0, 1])
    found, windows, elders = again.take(np.array([1, 4]))
    torch.testing.assert_close(found, frames[[1, 0]])
    np.testing.assert_array_equal(windows, [40, 30])
    torch.testing.assert_close(elders, logits[[1, 0]])


def test_a_disk_without_room_is_told_before(tmp_path):
    with pytest.raises(OutputError, match="GB of free disk space"):
        Replay(tmp_path / "x.replay", slots=2**40, shape=(729, 256))
    assert not list(tmp_path.iterdir())


class Tones:
    """Windows that can be told apart: draws follow from the generator alone."""

    logits = np.zeros((9, 2, 50), np.float32)

    def draw(self, n, rng, *, jitter, speed, mixed):
        chosen = rng.integers(0, 9, n)
        time = np.arange(SEGMENT, dtype=np.float32)
        return np.stack([np.sin(time * rng.uniform(0.01, 1), dtype=np.float32) for _ in chosen]), chosen


def test_replay_gives_what_the_frozen_layers_make_and_new_segments_in_their_turn(tmp_path, workers):
    torch.manual_seed(0)
    phase = Phase(name="d", after="", minutes=1, frozen=3, rate=0.0, batch=2, micro_batches=2, slots=4, fresh=1)
    learner = Student(student(), nn.ModuleDict(), frozen=3, workers=workers)
    (tmp_path / "d.of-other-weights.replay").touch()
    elders = Elders([learner.model.state_dict()], learner, workers)
    given = []

    def loss(logits, embeddings, chosen, elders):
        given.append(elders)
        return logits.mean()

    lesson = ReplayLesson(phase, learner, seed=1, windows=Tones(), loss=loss, elders=elders, folder=tmp_path)
    assert list(lesson.prepare(0))[-1] == 1.0
    assert len(list(tmp_path.iterdir())) == 1
    replay, before = lesson._replay, lesson._replay.take(np.arange(4))
    for slot in range(4):
        segments, chosen = Tones().draw(1, lesson.rng(slot, 1), jitter=0.25, speed=0.04, mixed=0.0)
        frames = learner.lower(torch.from_numpy(segments)).half().float()
        torch.testing.assert_close(before[0][slot], frames[0])
        assert before[1][slot] == chosen[0]
        torch.testing.assert_close(before[2][slot], elders(learner.lower(torch.from_numpy(segments)))[0])
    drawn = lesson.draw(0)
    assert len(list(lesson.losses(drawn))) == 2
    replaced = {int(slots[0]) for slots in drawn[0]}
    after = replay.take(np.arange(4))
    torch.testing.assert_close(torch.cat(given), after[2][drawn[0].ravel()])
    assert {slot for slot in range(4) if not torch.equal(before[0][slot], after[0][slot])} == replaced
    assert len(list(lesson.prepare(1))) == 0
    assert len(list(lesson.prepare(0))) == 1, "what was replaced too early is heard again"
    assert torch.equal(replay.take(np.arange(4))[0], before[0])
