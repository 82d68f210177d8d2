"""The example of docs/scale.md, run as it is written, on a Ray of its own."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from samptag import Tagger

# Not imported here, which would take a second of every run.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'samptag[ray]'")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(media, broken_file):
    return [str(media / "bay.wav"), str(broken_file("text.mp3")), str(media / "lava.opus")]


def check(rows, files, weights):
    """One row a file, equal to what the Tagger says of it; the second cannot be read."""
    assert [row["path"] for row in rows] == files
    tagger = Tagger.from_pretrained(weights, device="cpu")
    for file, row in list(zip(files, rows, strict=True))[::2]:
        expected = tagger.tag(file)
        np.testing.assert_allclose(row["scores"], [item.score for item in expected.scores], atol=1e-5)
        np.testing.assert_allclose(row["embedding"], expected.embedding, atol=1e-4)
        assert row["tags"] == [item.tag for item in expected.top(5)]
        assert (row["error"], row["duration"]) == ("", pytest.approx(expected.duration))
    assert "text.mp3" in rows[1]["error"]
    assert np.isnan(rows[1]["scores"]).all()
    assert rows[1]["tags"] == []


def test_paths_in_parquet_out(files, tiny_weights, tmp_path):
    import pyarrow.parquet

    out = tmp_path / "out.parquet"
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(ROOT)
    # The machine may be busy, and have little memory left for what is not of this test.
    environment |= {"RAY_NUM_REDIS_GET_RETRIES": "300", "RAY_worker_register_timeout_seconds": "300"}
    environment["RAY_memory_monitor_refresh_ms"] = "0"
    environment.pop("PYTHONWARNINGS", None)
    command = [sys.executable, ROOT / "docs" / "ray_tag.py", out, *files, "--model", tiny_weights, "--processes", "1"]
    for _ in range(3):  # its half dozen processes wait for one another with deadlines of their own
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if done.returncode == 0:
            break
        shutil.rmtree(out, ignore_errors=True)
    assert done.returncode == 0, done.stderr.decode()
    found = {row["path"]: row for row in pyarrow.parquet.read_table(out).to_pylist()}
    check([found[file] for file in files], files, tiny_weights)


def test_bytes_are_tagged_as_paths_are(files, tiny_weights, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from ray_tag import Tag

    batch = {
        "path": np.array(files, dtype=object),
        "bytes": np.array([Path(file).read_bytes() for file in files], dtype=object),
    }
    columns = Tag(str(tiny_weights), "cpu")(batch)
    check([{name: column[row] for name, column in columns.items()} for row in range(3)], files, tiny_weights)
