"""A data set of real music, split by hand, and its decoded audio."""

import csv
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import samptag
from samptag.core.model import ModelConfig
from samptag.data.cache import AudioCache, build_cache
from samptag.data.dataset import Dataset
from samptag.data.formats import open_dataset
from samptag.training import TrainResult, log


@pytest.fixture(scope="module", autouse=True)
def without_pictures() -> Iterator[None]:
    """As where matplotlib is not installed: a picture of the curves takes longer than most of these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
        yield


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """Manifest: 14 training, 6 validation and 4 test clips of 6 s with the tags calm and driving."""
    path = tmp_path_factory.mktemp("set") / "set.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "tags"])
        for clip in sorted((media / "set").glob("*.opus")):
            tag, number = clip.name.split("-")[:2]
            rows.writerow([clip, "train" if int(number) <= 7 else "valid" if int(number) <= 10 else "test", tag])
    return path


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all trainings of these tests keep decoded audio."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path: Path, cache_dir: Path) -> Callable[..., TrainResult]:
    """``train(data, **options)``: a training on the CPU, into `tmp_path`/out unless the options say otherwise."""
    usual = {"out": tmp_path / "out", "cache": cache_dir, "device": "cpu"}
    return lambda data=None, **options: samptag.train(data, **usual | options)


@pytest.fixture(scope="session")
def dataset(small_set: Path) -> Dataset:
    return open_dataset(small_set)


@pytest.fixture(scope="session")
def audio(dataset: Dataset, cache_dir: Path) -> AudioCache:
    return build_cache(dataset, sample_rate=22_050, directory=cache_dir)


@pytest.fixture
def small_config() -> ModelConfig:
    """A net of five modules without dropout, for two tags."""
    return ModelConfig(m=3, n=5, first_filter=9, first_stride=9, n_tags=2, dropout=0.0)
