"""The Tagger with a small net and real music."""

import io
import threading

import numpy as np
import pytest
import torch

from samptag.audio.decode import open_audio
from samptag.errors import AudioError, DeviceError, UsageError
from samptag.tagging.tagger import Tagger

LENGTH, RATE = 6561, 22_050


@pytest.fixture(scope="module")
def tagger(tiny_model):
    return Tagger(tiny_model, device="cpu", jobs=2)


def test_scores_are_the_plain_models_mean_over_the_segments(tagger, tiny_model, demo_clip):
    result = tagger.tag(demo_clip)
    with open_audio(demo_clip, sample_rate=RATE) as stream:
        samples = np.concatenate(list(stream))
    starts = [*range(0, len(samples) - LENGTH + 1, LENGTH)]
    starts += [len(samples) - LENGTH] if starts[-1] + LENGTH < len(samples) else []
    segments = np.stack([samples[start : start + LENGTH] for start in starts])
    with torch.inference_mode():
        expected = torch.sigmoid(tiny_model.model(torch.from_numpy(segments))).numpy()
        embedding = tiny_model.model.embed(torch.from_numpy(segments)).numpy().mean(axis=0)
    np.testing.assert_allclose(result.taggram, expected, atol=1e-5)
    np.testing.assert_allclose([item.score for item in result.scores], expected.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(result.embedding, embedding, atol=1e-4)
    np.testing.assert_allclose(result.starts, np.array(starts) / RATE)
    assert [item.tag for item in result.scores] == list(tiny_model.card.tags)
    assert result.segments == len(starts)


def test_batches_jobs_and_company_change_no_digit(tiny_model, media, demo_clip):
    paths = [demo_clip, *sorted((media / "set").iterdir())[:5]]
    alone = [Tagger(tiny_model, device="cpu", batch_size=1, jobs=1).tag(path) for path in paths]
    together = Tagger(tiny_model, device="cpu", batch_size=50, jobs=4).tag_many(paths)
    for one, many in zip(alone, together, strict=True):
        assert one.to_record(top=None) == many.to_record(top=None)
        np.testing.assert_array_equal(one.taggram, many.taggram)


def test_file_objects_paths_and_strings_are_the_same(tagger, demo_clip):
    expected = tagger.tag(demo_clip).scores
    assert tagger.tag(str(demo_clip)).scores == expected
    assert tagger.tag(io.BytesIO(demo_clip.read_bytes())).scores == expected
    with demo_clip.open("rb") as file:
        assert tagger.tag(file).scores == expected


def test_tag_raises_and_tag_many_does_not(tagger, broken_file, demo_clip):
    bad = broken_file("text.mp3")
    with pytest.raises(AudioError, match=r"text\.mp3"):
        tagger.tag(bad)
    results = list(tagger.tag_many([bad, demo_clip, bad], taggram=False))
    assert [result.error is None for result in results] == [False, True, False]
    assert results[1].taggram is None


def test_a_short_hop_gives_many_segments_in_little_memory(tiny_model, write_sound):
    path = write_sound("short.wav", samples=np.zeros((LENGTH + 500, 1), np.float32), rate=RATE)
    tagger = Tagger(tiny_model, device="cpu", hop_seconds=1 / RATE, batch_size=64)
    assert tagger.hop == 1
    result = tagger.tag(path)
    assert result.segments == 501
    np.testing.assert_allclose(result.starts, np.arange(501) / RATE)


def test_seconds_are_reported_as_they_are_decoded(tagger, demo_clip):
    seconds = []
    (result,) = tagger.tag_many([demo_clip], on_seconds=seconds.append)
    assert sum(seconds) == pytest.approx(result.duration)
    assert len(seconds) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop_seconds": 0}, "hop"),
        ({"hop_seconds": float("nan")}, "hop"),
        ({"tail": "cut"}, "overlap, pad, drop"),
        ({"batch_size": 0}, "batch size"),
        ({"jobs": -1}, "jobs"),
    ],
)
def test_options_out_of_range_are_refused(tiny_model, options, message):
    with pytest.raises(UsageError, match=message):
        Tagger(tiny_model, **options)


@pytest.mark.parametrize(("device", "advice"), [("cpu", "OMP_NUM_THREADS=1"), ("cuda:0", "smaller --batch-size")])
def test_out_of_memory_says_what_to_do(tiny_model, demo_clip, monkeypatch, device: str, advice: str):
    tagger = Tagger(tiny_model, device="cpu")

    def greedy(segments):
        return np.empty(1 << 50), segments

    greedy.batch_size = 24
    monkeypatch.setattr(tagger, "_predictor", greedy)
    monkeypatch.setattr(tagger, "device", device)
    with pytest.raises(DeviceError, match=f"out of memory on {device}; .*{advice}"):
        list(tagger.tag_many([demo_clip]))


def test_a_model_that_does_not_fit_says_so_too(tiny_model, monkeypatch):
    def greedy(*arguments, **options):
        np.empty(1 << 50)

    monkeypatch.setattr("samptag.tagging.tagger.Predictor", greedy)
    with pytest.raises(DeviceError, match="out of memory on cpu; set OMP_NUM_THREADS=1"):
        Tagger(tiny_model, device="cpu")


def test_leaving_in_the_middle_leaves_no_threads(tagger, demo_clip):
    results = tagger.tag_many([demo_clip] * 50)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samptag-decode")]
