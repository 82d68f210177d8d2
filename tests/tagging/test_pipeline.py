"""The pipeline with arithmetic for a decoder and a net: order, bounds, ends."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from samptag.core.card import ModelCard
from samptag.core.config import ModelConfig
from samptag.errors import AudioError
from samptag.tagging import pipeline as pipeline_module
from samptag.tagging.files import Input
from samptag.tagging.pipeline import Pipeline

LENGTH = 4
CARD = ModelCard(name="m", config=ModelConfig(n_tags=2), tags=("a", "b"), licence="CC0-1.0", training_data="none")


def inputs(counts):
    """One input a number: that many segments, each filled with the input's position."""
    return [Input(path=f"{index}:{count}", source="") for index, count in enumerate(counts)]


def numbers(track):
    """The input's position, and how many segments it has."""
    return tuple(map(int, track.input.path.split(":")))


def decode(track):
    index, count = numbers(track)
    if count < 0:
        yield np.zeros((1, LENGTH), np.float32)
        raise AudioError(f"{index} is broken")
    for start in range(0, count, 3):
        k = min(3, count - start)
        rows = np.arange(start, start + k, dtype=np.float32)[:, None] + np.zeros((1, LENGTH), np.float32)
        yield rows + 1000 * index
    yield np.zeros((0, LENGTH), np.float32)


def predict(segments):
    return segments[:, :2].copy(), segments[:, :1].copy()


def make(sources, **changes) -> Pipeline:
    options = {
        "decode": decode,
        "predict": predict,
        "jobs": 3,
        "batch_size": 4,
        "fill_batches": False,
        "keep_taggram": True,
    }
    return Pipeline(sources, **{**options, **changes})


@pytest.fixture
def workers():
    """``workers()``: samptag's threads that were not there before the test, as an earlier one's Predictor may be."""
    before = threading.enumerate()
    return lambda: [each.name for each in set(threading.enumerate()) - {*before} if each.name.startswith("samptag-")]


def rows_of(track):
    return track.result(card=CARD).taggram[:, 0].tolist()


@pytest.mark.parametrize("fill_batches", [False, True])
@pytest.mark.parametrize("jobs", [1, 4])
def test_every_segment_comes_back_to_its_own_input_in_order(jobs, fill_batches):
    counts = [5, 1, 40, 1, 2, 17, 1, 1, 1, 9] * 5
    tracks = make(inputs(counts), jobs=jobs, fill_batches=fill_batches).tracks()
    for index, (count, track) in enumerate(zip(counts, tracks, strict=True)):
        assert numbers(track) == (index, count)
        assert rows_of(track) == [1000.0 * index + row for row in range(count)]


def test_a_broken_input_and_an_empty_one_fail_alone():
    results = [track.result(card=CARD) for track in make(inputs([2, -1, 0, 3])).tracks()]
    assert [result.segments for result in results] == [2, 0, 0, 3]
    assert results[1].error.type == "AudioError"
    assert "1 is broken" in results[1].error.message
    assert "no sound" in results[2].error.message


def test_a_bug_in_decoding_is_the_error_of_its_input_with_its_own_type():
    def buggy(track):
        if numbers(track)[0] == 1:
            raise ZeroDivisionError("oh")
        yield from decode(track)

    results = [track.result(card=CARD) for track in make(inputs([1, 1, 1]), decode=buggy).tracks()]
    assert [result.error and result.error.type for result in results] == [None, "ZeroDivisionError", None]


def test_scores_that_are_not_numbers_become_an_error():
    def bad(segments):
        return np.full((len(segments), 2), np.nan, np.float32), segments[:, :1]

    (track,) = make(inputs([3]), predict=bad).tracks()
    assert "not numbers" in track.result(card=CARD).error.message


@pytest.mark.parametrize("where", ["predict", "inputs", "blas"])
def test_an_error_outside_decoding_ends_the_run_in_the_callers_thread(where, workers, monkeypatch):
    def failing_predict(segments):
        raise RuntimeError("net")

    def failing_inputs():
        yield from inputs([1, 1])
        raise RuntimeError("inputs")

    def failing_limit():
        raise RuntimeError("blas")

    if where == "blas":
        monkeypatch.setattr(pipeline_module, "one_thread", failing_limit)
    run = make(failing_inputs()) if where == "inputs" else make(inputs([3, 3]), predict=failing_predict)
    with pytest.raises(RuntimeError, match="net" if where == "predict" else where):
        list(run.tracks())
    assert workers() == []


def test_closing_early_ends_the_workers(workers):
    with closing(make(inputs([50] * 100)).tracks()) as tracks:
        next(tracks)
    assert workers() == []


def test_inputs_are_taken_only_as_far_ahead_as_allowed(monkeypatch):
    monkeypatch.setattr(pipeline_module, "AHEAD_TRACKS", 5)
    taken = []

    def counting():
        for item in inputs([1] * 40):
            taken.append(item)
            yield item

    seen = 0
    with closing(make(counting()).tracks()) as tracks:
        for _ in tracks:
            seen += 1
            time.sleep(0.002)  # time to run ahead, for workers that would
            assert len(taken) <= seen + 5
    assert seen == 40


def test_finished_tracks_wait_only_up_to_their_bytes(monkeypatch):
    monkeypatch.setattr(pipeline_module, "AHEAD_BYTES", 100)
    gate = threading.Event()
    begun = []

    def first_is_slow(track):
        index, _ = numbers(track)
        begun.append(index)
        if index == 0:
            assert gate.wait(300)
        yield from decode(track)

    # 12 segments of 2 float32 are 96 bytes: with two waiting tracks the limit is passed.
    with closing(make(inputs([12] * 30), jobs=2, decode=first_is_slow).tracks()) as tracks:
        opener = threading.Timer(0.3, gate.set)
        opener.start()
        assert numbers(next(tracks))[0] == 0
        opener.join()
        ahead = max(begun)
        assert [numbers(track)[0] for track in tracks] == list(range(1, 30))
    assert ahead <= 6


def test_small_inputs_pass_a_huge_one_and_queue_stays_bounded():
    decoded, scored, waiting = [], [], []

    def counting(track):
        for rows in decode(track):
            decoded.append(len(rows))
            yield rows

    def slow_at_first(segments):
        time.sleep(0 if scored else 0.05)  # time to run ahead, for workers that would
        waiting.append(sum(decoded) - sum(scored))
        scored.append(len(segments))
        return predict(segments)

    run = make(inputs([600] + [1] * 50), jobs=2, decode=counting, predict=slow_at_first)
    assert [track.scored for track in run.tracks()] == [600] + [1] * 50
    # in the queue and beyond its end, in the batch, and a block in the hands of each worker
    assert max(waiting) <= 2 * 4 + 3 + 4 + 2 * 3


def test_full_batches_are_waited_for_while_something_is_decoded():
    sizes = []

    def noting(segments):
        sizes.append(len(segments))
        return predict(segments)

    list(make(inputs([90]), jobs=1, predict=noting, fill_batches=True, batch_size=30).tracks())
    assert sizes == [30, 30, 30]
