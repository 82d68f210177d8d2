"""The convolution with 4 products for 9 against the convolution itself, and its compiled passes against NumPy's."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samptag.core.layout import Convolution
from samptag.engine import winograd
from samptag.engine.cpu import (
    MAX_TILES,
    Filters,
    Frames,
    pooled_convolution,
    winograd_convolution,
    winograd_scratch,
    winograd_suits,
)

SHAPES = [(27, 128, 128), (81, 256, 512), (243, 128, 256), (4 * MAX_TILES + 5, 128, 128), (300, 256, 256)]
LAYER = Convolution("conv", 0, 0, 3, 1, (1, 1))


@pytest.fixture
def tensors():
    def make(n_in: int, n_out: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(n_in + n_out)
        return {
            "conv.weight": random.normal(0, (2 / (3 * n_in)) ** 0.5, (n_out, n_in, 3)).astype(np.float32),
            "conv.bias": random.normal(size=n_out).astype(np.float32),
            "bn.weight": random.normal(1, 0.3, n_out).astype(np.float32),
            "bn.bias": random.normal(size=n_out).astype(np.float32),
            "bn.running_mean": random.normal(size=n_out).astype(np.float32),
            "bn.running_var": random.uniform(0.5, 2, n_out).astype(np.float32),
        }

    return make


def pooled(x: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
    """Convolution, batch normalisation, ReLU and pooling as torch computes them in float64."""
    t = {name: torch.from_numpy(value).double() for name, value in values.items()}
    y = F.conv1d(torch.from_numpy(x).double().t()[None], t["conv.weight"], t["conv.bias"], padding=1)
    y = F.batch_norm(y, t["bn.running_mean"], t["bn.running_var"], t["bn.weight"], t["bn.bias"], eps=1e-3)
    return F.max_pool1d(F.relu(y), 3)[0].t().numpy()


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_both_ways_give_the_pooled_convolution(rows: int, n_in: int, n_out: int, tensors):
    values = tensors(n_in, n_out)
    source = Frames(3 * rows, n_in, pads=(1, 1))
    source.inside[:] = np.random.default_rng(0).random((3 * rows, n_in), np.float32)
    expected = pooled(source.inside, values)
    scratch = np.empty(winograd_scratch(512), np.float32)
    filters = [Filters(LAYER, tensors=values, epsilon=1e-3) for _ in range(2)]
    ways = [np.full((rows, n_out), np.nan, np.float32) for _ in range(2)]
    winograd_convolution(source, filters[0], ways[0], scratch=scratch)()
    for step in pooled_convolution(source, filters[1], ways[1]):
        step()
    for target in ways:
        np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-5)
    assert (ways[0] != ways[1]).any(), "two ways that round alike are one"


def test_it_is_taken_where_it_fits():
    assert winograd_suits(LAYER, np.empty((81, 128)))
    assert not winograd_suits(LAYER, np.empty((27, 128)))
    assert not winograd_suits(Convolution("conv", 0, 0, 2, 1, (0, 1)), np.empty((512, 128)))


def test_compiled_passes_give_the_same_digits(tmp_path):
    from samptag.engine.kernels import compile_passes

    by_numpy, by_numba = winograd.NUMPY, winograd.Passes(*compile_passes(str(tmp_path)))
    kept = list(tmp_path.rglob("*.nbi"))
    assert kept, "the compiled passes are kept for the next process"
    for index in kept:
        index.write_bytes(b"")
    compile_passes(str(tmp_path))  # a damaged cache does not keep them from being compiled
    random = np.random.default_rng(1)
    padded = random.normal(size=(600, 96)).astype(np.float32)
    padded[37] = np.inf
    padded[60:63] = np.nan
    bias = random.normal(size=96).astype(np.float32)
    results = []
    for rows, passes in itertools.product((162, 161), (by_numpy, by_numba)):
        frames = padded.copy()
        mixed, target = np.empty((9, 81, 96), np.float32), np.empty((rows, 96), np.float32)
        with np.errstate(invalid="ignore"):
            passes.rectify(frames)
            passes.mix(frames, 12, mixed)
            passes.unmix(mixed * np.float32(0.3), bias, target)
        results.append((mixed[:8], target))
    for first, second in (results[:2], results[2:]):
        for ours, theirs in zip(first, second, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(results[1][1]).any(), "what is not a number must not be hidden by the ReLU"


@pytest.mark.skipif(os.name == "nt", reason="folders have no mode there")
@pytest.mark.parametrize(("mode", "kept"), [(None, True), (0o700, True), (0o777, False), (0o770, False)])
def test_a_folder_that_others_may_write_to_keeps_no_compiled_passes(tmp_path, monkeypatch, mode, kept):
    from samptag.engine import kernels

    folder = tmp_path / "numba"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    caches = []
    monkeypatch.setenv("SAMPTAG_CACHE", str(tmp_path))
    monkeypatch.setattr(winograd, "passes", winograd.NUMPY)
    monkeypatch.setattr(kernels, "compile_passes", caches.append)
    winograd.fetch_compiled()
    assert caches == [str(folder) if kept else None]
    assert folder.stat().st_mode & 0o777 == (mode or 0o700)


def test_passes_that_are_not_kept_are_compiled(tmp_path, monkeypatch):
    from samptag.engine.kernels import compile_passes

    monkeypatch.chdir(tmp_path)
    passes, target = winograd.Passes(*compile_passes(None)), np.empty((2, 96), np.float32)
    passes.unmix(np.ones((8, 1, 96), np.float32), np.zeros(96, np.float32), target)
    assert np.isfinite(target).all()
    assert not list(tmp_path.iterdir())


def test_loops_that_numba_would_leave_to_python_are_not_taken(tmp_path):
    script = (
        "from samptag.engine import winograd\nwinograd.fetch_compiled()\nassert winograd.passes is winograd.NUMPY\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "SAMPTAG_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_long_jobs_fetch_the_compiled_passes_once(monkeypatch):
    fetched = []
    monkeypatch.setattr(winograd, "fetch_compiled", lambda: fetched.append(1))
    monkeypatch.setattr(winograd, "_seen", 0)
    monkeypatch.setattr(winograd, "_begun", False)
    started = []
    monkeypatch.setattr(winograd.threading, "Thread", lambda target, **_: started.append(target) or Started(target))
    winograd.count_segments(winograd.AFTER_SEGMENTS - 1, long_job=False)
    assert not started
    winograd.count_segments(1, long_job=False)
    winograd.count_segments(1000, long_job=False)
    assert len(fetched) == 1


def test_a_job_that_is_known_to_be_long_fetches_them_after_its_first_call(monkeypatch):
    monkeypatch.setattr(winograd, "_seen", 0)
    monkeypatch.setattr(winograd, "_begun", False)
    started = []
    monkeypatch.setattr(winograd.threading, "Thread", lambda target, **_: started.append(target) or Started(list))
    assert not winograd.worth_compiling(None)
    assert not winograd.worth_compiling(12.0)
    assert winograd.worth_compiling(1000.0)
    winograd.count_segments(1, long_job=winograd.worth_compiling(12.0))
    assert not started
    winograd.count_segments(1, long_job=winograd.worth_compiling(1000.0))
    assert started == [winograd.fetch_compiled]


class Started:
    def __init__(self, target) -> None:
        self.start = target


@pytest.mark.parametrize(
    "numba",
    ["raise ImportError('no numba here')", "raise RuntimeError('a broken one')", "njit = None"],
    ids=["missing", "raising", "strange"],
)
def test_without_a_numba_that_works_all_stays_as_it_is(tmp_path, numba: str):
    (tmp_path / "numba.py").write_text(numba)
    script = (
        "from samptag.engine import winograd\nwinograd.fetch_compiled()\nassert winograd.passes is winograd.NUMPY\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path)), "SAMPTAG_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
