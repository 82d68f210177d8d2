"""The engines against the plain module: the same scores for every network of the family."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_grid import grid_configs
from settled_nets import mono_segments, plain_scores, settled_net

from samptag.core.config import config_from_name
from samptag.core.layout import layout
from samptag.core.model import ModelConfig, SampleCNN
from samptag.core.weights import read_weights
from samptag.engine import predictor as predictor_module
from samptag.engine.predictor import Predictor
from samptag.engine.torch_model import TorchModel, fold
from samptag.pretrained import DEFAULT

DEFAULT_WEIGHTS = Path(__file__).parents[2] / "weights" / f"{DEFAULT}.safetensors"
BEYOND_THE_GRID = (
    *(f"samplecnn-3-6-{block}{multi}" for block in ("se", "res", "rese", "won-rese") for multi in ("", "-multi")),
    "samplecnn-3-6-multi",
    "samplecnn-3-7-pad1",
    "samplecnn-3-7-won-rese-pad1",
    "samplecnn-2-9-rese",
    "samplecnn-2-9-oddfront",
    "samplecnn-4-5-16-res",
    "samplecnn-5-4-25-se",
    "samplecnn-2-7-se-multi",
    "frame-raw-729-243",
    "frame-raw-243-81-res-multi",
    "frame-raw-2-6-512-256",
    "frame-mel-729-243",
    "frame-mel-729-243-rese-multi",
    "frame-mel-4-4-100-64-se",
)
NAMES = (*(config.name for config in grid_configs()), *BEYOND_THE_GRID)


def assert_same(fast: tuple[np.ndarray, np.ndarray], plain: tuple[np.ndarray, np.ndarray]) -> None:
    for ours, theirs in zip(fast, plain, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(fast[0] - plain[0]).max() < 1e-5
    assert np.abs(fast[1] - plain[1]).max() < 2e-5 * max(1, np.abs(plain[1]).max())


def is_numpy(predictor: Predictor) -> bool:
    return isinstance(predictor._backend, predictor_module._Threads)


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_is_the_modules(name: str):
    config = config_from_name(name)
    with torch.device("meta"):
        state = SampleCNN(config).state_dict()
    assert layout(config).shapes() == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_the_plain_module(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    segments = segments[:2]
    plain = plain_scores(model, segments)
    predictor = Predictor(model, threads=2)
    assert is_numpy(predictor)
    assert_same(predictor(segments), plain)
    assert plain[0].std() > 0.01


def test_a_network_without_a_numpy_form_is_computed_by_torch(music):
    config = config_from_name("frame-raw-3-5-11-9-won-rese")
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    predictor = Predictor(model)
    assert not is_numpy(predictor)
    assert_same(predictor(segments), plain_scores(model, segments))


class BlockOfTheFuture:
    """Nothing that the CPU engine has ever heard of."""


def test_a_block_without_a_numpy_form_is_computed_by_torch(music, monkeypatch):
    config = config_from_name("samplecnn-3-5")
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    usual = layout(config).body
    wider = tuple(replace(block, convolution=replace(block.convolution, kernel=5, pads=(2, 2))) for block in usual)
    for part in (
        {"top": BlockOfTheFuture()},
        {"body": (BlockOfTheFuture(),) * 5},
        {"front": BlockOfTheFuture()},
        {"body": wider},
    ):
        monkeypatch.setattr(predictor_module, "layout", lambda config, part=part: replace(layout(config), **part))
        predictor = Predictor(model)
        assert not is_numpy(predictor)
        assert_same(predictor(segments), plain_scores(model, segments))


@pytest.mark.parametrize(
    "name",
    ["samplecnn-3-7", "samplecnn-2-9", "samplecnn-3-6-rese-multi", "frame-mel-729-243", "samplecnn-3-6-won-rese"],
)
def test_folding_changes_no_numbers_and_not_the_model(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold(model)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.inference_mode():
        waveforms = torch.from_numpy(segments)
        torch.testing.assert_close(folded(waveforms), model(waveforms), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_half_precision_keeps_the_scores_of_the_default_weights(music):
    model = read_weights(DEFAULT_WEIGHTS).loaded().model
    segments = mono_segments(music.samples, model.config.input_length, 4)
    plain, half = plain_scores(model, segments)[0], half_scores(model, segments)
    assert np.abs(half - plain).max() < 1e-3
    assert (half != plain).any()


def half_scores(model: SampleCNN, segments: np.ndarray) -> np.ndarray:
    embeddings = TorchModel(model, "cpu", dtype=torch.float16).embed(segments)
    with torch.inference_mode():
        return torch.sigmoid(model.classify(torch.from_numpy(embeddings))).numpy()


@pytest.mark.parametrize("scale", [20.0, 1e4, 2.0**31])
def test_segments_too_loud_for_half_precision_have_the_scores_of_float32(scale: float, music):
    model = read_weights(DEFAULT_WEIGHTS).loaded().model
    segments = mono_segments(music.samples, model.config.input_length, 3)
    segments[1] *= np.float32(scale)
    scores, plain = half_scores(model, segments), plain_scores(model, segments)[0]
    np.testing.assert_allclose(scores[1], plain[1], atol=1e-5)
    # the classifier's product rounds by the size of the batch
    np.testing.assert_allclose(scores[::2], half_scores(model, segments[::2]), rtol=1e-6)


def test_an_overflow_in_half_precision_is_computed_in_float32(music):
    config = config_from_name("samplecnn-3-7")
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    with torch.no_grad():
        model.top.bn.weight.mul_(1e7)
    embeddings = TorchModel(model, "cpu", dtype=torch.float16, batch_size=2).embed(segments)
    assert_same((embeddings, embeddings), (TorchModel(model, "cpu").embed(segments),) * 2)


@pytest.mark.parametrize("name", ["samplecnn-3-7", "samplecnn-3-6-rese-multi", "frame-mel-243-243"])
def test_half_precision_of_any_net_is_close(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 3)
    model = settled_net(config, segments)
    # Random weights spread the errors of rounding over the outputs, trained ones do so less (test above).
    assert np.abs(half_scores(model, segments) - plain_scores(model, segments)[0]).max() < 3e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["samplecnn-3-9", "samplecnn-3-7-rese-multi", "frame-mel-729-243", "samplecnn-2-13"])
def test_cuda_keeps_the_scores(name: str, music):
    config = config_from_name(name)
    segments = mono_segments(music.samples, config.input_length, 150)
    model = settled_net(config, segments[:4])
    segments[::7] *= np.float32(1e4)
    plain = plain_scores(model, segments)[0]
    # Small batches fill each staging buffer many times while earlier batches are still computed.
    for batch_size in (64, 4):
        scores, embeddings = Predictor(model, device="cuda:0", batch_size=batch_size)(segments)
        assert np.abs(scores - plain).max() < 3e-3
        assert embeddings.shape == (150, config.embedding_size)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own():
    # In a process of its own: pytest's may have threads that do not survive a fork.
    script = f"""
import os, signal
import numpy as np
from pathlib import Path
from samptag.core.weights import read_weights
from samptag.engine.predictor import Predictor
weights = read_weights(Path({str(DEFAULT_WEIGHTS)!r}))
predictor = Predictor(weights, threads=2)
segments = np.random.default_rng(0).normal(0, 0.1, (4, weights.card.config.input_length)).astype(np.float32)
expected = predictor(segments)[0]
child = os.fork()
if not child:
    signal.alarm(300)
    os._exit(0 if (predictor(segments)[0] == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], check=True)


@pytest.fixture(scope="module")
def small():
    return ModelConfig(n=6, first_filter=3, first_stride=3, n_tags=5)


@pytest.fixture
def small_net(small: ModelConfig, music) -> SampleCNN:
    return settled_net(small, mono_segments(music.samples, small.input_length, 4))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_scores_do_not_depend_on_company_or_threads(small_net: SampleCNN, threads: int, count: int, music):
    segments = mono_segments(music.samples, small_net.config.input_length, count)
    alone = Predictor(small_net, threads=1)
    scores, embeddings = Predictor(small_net, threads=threads)(segments)
    for i, segment in enumerate(segments):
        one_score, one_embedding = alone(segment[None])
        np.testing.assert_array_equal(scores[i], one_score[0])
        np.testing.assert_array_equal(embeddings[i], one_embedding[0])


def test_silence_and_full_scale_have_scores(small_net: SampleCNN):
    length = small_net.config.input_length
    segments = np.stack([np.zeros(length), np.ones(length), -np.ones(length)]).astype(np.float32)
    predictor = Predictor(small_net)
    scores, _ = predictor(segments)
    assert np.isfinite(scores).all()
    assert_same(predictor(segments), plain_scores(small_net, segments))


def test_what_overflows_is_not_a_number_and_warns_of_nothing(small_net: SampleCNN, music):
    # pytest makes an error of NumPy's warning.
    segments = mono_segments(music.samples, small_net.config.input_length, 1)
    assert np.isnan(Predictor(small_net)(segments * np.float32(1e38))[0]).any()


def test_one_segment_leaves_nothing_behind_for_the_next(small_net: SampleCNN, music):
    quiet = mono_segments(music.samples, small_net.config.input_length, 1)
    predictor = Predictor(small_net, threads=1)
    before = predictor(quiet)
    predictor(np.ones_like(quiet))
    np.testing.assert_array_equal(predictor(quiet)[0], before[0])


def test_results_are_not_overwritten_by_the_next_call(small_net: SampleCNN, music):
    segments = mono_segments(music.samples, small_net.config.input_length, 2)
    predictor = Predictor(small_net)
    scores, embeddings = predictor(segments)
    kept = scores.copy(), embeddings.copy()
    predictor(np.zeros_like(segments))
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(embeddings, kept[1])


def test_calls_from_many_threads_do_not_mix(small_net: SampleCNN, music):
    segments = mono_segments(music.samples, small_net.config.input_length, 6)
    predictor = Predictor(small_net, threads=2)
    expected = predictor(segments)[0]
    results: dict[int, np.ndarray] = {}

    def call(i: int) -> None:
        results[i] = predictor(segments[i:])[0]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        np.testing.assert_array_equal(results[i], expected[i:])


def test_a_call_that_was_interrupted_leaves_nothing_to_the_next(small_net: SampleCNN, music, monkeypatch):
    segments = mono_segments(music.samples, small_net.config.input_length, 60)
    predictor = Predictor(small_net, threads=4)
    expected = predictor(segments[:12])[0]
    map_all = ThreadPoolExecutor.map

    def interrupted(pool: ThreadPoolExecutor, function: Callable[..., object], items: np.ndarray) -> Iterator[object]:
        yield next(map_all(pool, function, items))
        raise KeyboardInterrupt

    for _ in range(5):
        with monkeypatch.context() as impatient:
            impatient.setattr(ThreadPoolExecutor, "map", interrupted)
            with pytest.raises(KeyboardInterrupt):
                predictor(segments[::-1])
        np.testing.assert_array_equal(predictor(segments[:12])[0], expected)


@pytest.mark.parametrize("block", ["plain", "se"])
def test_the_model_is_left_as_it_is_and_read_once(block: str, music):
    config = ModelConfig(n=6, first_filter=3, first_stride=3, n_tags=5, block=block)
    model = settled_net(config, mono_segments(music.samples, config.input_length, 4))
    segments = mono_segments(music.samples, config.input_length, 1)
    model.train()
    predictor, module = Predictor(model), TorchModel(model, "cpu")
    assert model.training
    scores, embeddings = predictor(segments)[0], module.embed(segments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    np.testing.assert_array_equal(predictor(segments)[0], scores)
    np.testing.assert_array_equal(module.embed(segments), embeddings)


def test_a_weights_file_needs_no_module(music):
    weights = read_weights(DEFAULT_WEIGHTS)
    segments = mono_segments(music.samples, weights.card.config.input_length, 3)
    for ours, module in zip(Predictor(weights)(segments), Predictor(weights.to_module())(segments), strict=True):
        np.testing.assert_array_equal(ours, module)


def test_the_tensors_of_the_weights_are_not_kept():
    weights = read_weights(DEFAULT_WEIGHTS)
    tensor, predictor = weakref.ref(weights.tensors["head.weight"]), Predictor(weights)
    del weights
    gc.collect()
    assert tensor() is None
    assert is_numpy(predictor)


def test_memory_that_gave_out_is_a_memory_error(small_net: SampleCNN, monkeypatch):
    module = TorchModel(small_net, "cpu")
    segments = np.zeros((1, small_net.config.input_length), np.float32)
    for error in (
        torch.OutOfMemoryError("no room"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
    ):
        monkeypatch.setattr(module._exact, "embed", Raising(error))
        with pytest.raises(MemoryError, match=r"no room|allocate memory|out of memory"):
            module.embed(segments)


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    "segments",
    [np.zeros((2, 100), np.float32), np.zeros(2187, np.float32), np.zeros((1, 2187), np.float64)],
    ids=["length", "dimensions", "dtype"],
)
def test_segments_of_another_kind_are_refused(small_net: SampleCNN, segments: np.ndarray):
    with pytest.raises(ValueError, match=r"samplecnn-3-6-3 takes (float32 segments|waveforms of shape)"):
        Predictor(small_net)(segments)


def test_views_of_longer_arrays_are_taken(small_net: SampleCNN, music):
    segments = mono_segments(music.samples, small_net.config.input_length, 4)
    predictor = Predictor(small_net)
    np.testing.assert_array_equal(predictor(segments[::2])[0], predictor(segments)[0][::2])
    read_only = segments.copy()
    read_only.setflags(write=False)
    np.testing.assert_array_equal(predictor(read_only)[0], predictor(segments)[0])
