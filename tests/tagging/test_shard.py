import numpy as np
import pytest

from samptag.errors import UsageError
from samptag.tagging import TagScore, TrackError, TrackResult
from samptag.tagging.shard import Ranks, from_bytes, to_bytes


def test_results_survive_the_way_between_processes():
    path = b"caf\xe9 \xf0\x9f\x8e\xb5.mp3".decode("utf-8", "surrogateescape")
    result = TrackResult(
        path=path,
        duration=1.25,
        sample_rate=48_000,
        model="m",
        segments=2,
        padded=True,
        scores=(TagScore("guitar", 1 / 3), TagScore("flöte", 0.1)),
        taggram=np.array([[0.1, 0.2], [0.3, 0.4]], np.float32),
        starts=np.array([0.0, 0.5]),
        embedding=np.arange(3, dtype=np.float32),
        warnings=("truncated",),
    )
    back = from_bytes(to_bytes(result))
    assert back.to_record(top=None) == result.to_record(top=None)
    assert (back.path, back.scores) == (result.path, result.scores)
    for name in ("taggram", "starts", "embedding"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name), strict=True)


def test_failed_results_too():
    failed = TrackResult(path="x", model="m", error=TrackError("AudioError", "x: empty"))
    back = from_bytes(to_bytes(failed))
    assert (back.error, back.scores, back.taggram, back.embedding) == (failed.error, (), None, None)


def test_ranks_come_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Ranks.from_environment() == Ranks(rank=3, world_size=4, local_rank=1)
    assert Ranks.from_environment().device("cpu") == "cpu"
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="RANK"):
        Ranks.from_environment()
