"""A Tagger with a small net."""

from pathlib import Path

import pytest
from tiny_weights import save_tiny_weights

from samptag.core.weights import LoadedModel, read_weights


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def tiny_model(tiny_weights: Path) -> LoadedModel:
    return read_weights(tiny_weights).loaded()
