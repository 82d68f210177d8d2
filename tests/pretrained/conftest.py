from pathlib import Path

import pytest
import torch
from foreign_checkpoints import sample_state


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in a foreign layout, with three tags; never written to."""
    path = tmp_path_factory.mktemp("made") / "best_model.pth"
    torch.save(sample_state(3), path)
    return path
