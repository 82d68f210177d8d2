"""``bench gpu`` on the CPU at toy size: every part runs, and what it finds is kept whatever happens next."""

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tiny_weights import save_tiny_weights

from bench import gpu

TOY = shlex.split(
    "--device cpu --ways eager --batch 2 --segments 3 --seconds 0 --hours 0.002 --links 2 --track-seconds 3 "
    "--train-batches 2 --epochs 1"
)


@pytest.fixture
def run(tmp_path: Path, demo_clip: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command with further arguments; the rows of its file by part and name."""
    (tmp_path / "music").mkdir()
    shutil.copy(demo_clip, tmp_path / "music")
    weights, found = save_tiny_weights(tmp_path / "tiny.safetensors"), tmp_path / "gpu.json"
    places = ["--weights", str(weights), "--music", str(tmp_path / "music"), "--json", str(found)]
    monkeypatch.setenv("SAMPTAG_CACHE", str(tmp_path / "cache"))

    def run(*more: str, stops: str | None = None) -> dict[tuple[str, str], dict]:
        if stops is None:
            gpu.main([*places, *TOY, *more])
        else:
            with pytest.raises(SystemExit, match=stops):
                gpu.main([*places, *TOY, *more])
        return {(row["part"], row["name"]): row for row in json.loads(found.read_text())["rows"]}

    return run


def test_every_part_runs(run, capsys):
    rows = run()
    assert {part for part, _ in rows} == set(gpu.PARTS)
    assert all(row["value"] is not None for row in rows.values())
    assert 0 < rows["scores", "largest difference"]["value"] <= gpu.TOLERANCE
    assert rows["model", "what memory allows"]["value"] > 0
    assert rows["library", "decoding alone, 1 thread"]["value"] > 0
    assert rows["library", "end to end"]["value"] > 0
    assert rows["training", "samptag train, eager, batch 2"]["value"] > 0
    table = capsys.readouterr().out
    assert all(name in table for _, name in rows)


def test_a_run_that_is_out_of_time_keeps_what_it_has(run, monkeypatch, capsys):
    monkeypatch.setitem(gpu.PARTS, "model", lambda run: signal.raise_signal(signal.SIGALRM))
    rows = run("--only", "scores", "model", "library", stops="stopped early")
    assert {part for part, _ in rows} == {"scores"}
    assert "largest difference" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_part_that_fails_costs_no_other(run, tmp_path):
    rows = run("--only", "library", "scores", "--track-seconds", "nan", stops="not as it should be")
    assert "failed" in rows["library", "the whole part"]["note"]
    assert rows["scores", "largest difference"]["value"] is not None


def test_the_traffic_of_a_product_is_its_three_matrices():
    a, b = torch.zeros(4, 5), torch.zeros(6, 5)
    with torch.inference_mode(), gpu.Traffic() as traffic:
        a @ b.t()  # a view costs nothing
    assert traffic.bytes == 4 * (4 * 5 + 5 * 6 + 4 * 6)
