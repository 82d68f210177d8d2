import base64
import json
import math

import numpy as np

import samptag
from samptag.tagging.result import TagScore, TrackError, TrackResult
from samptag.text import valid_text

SCORES = (TagScore("guitar", 0.25), TagScore("piano", 0.75), TagScore("drums", 0.75), TagScore("quiet", 0.01))


def result(**changes) -> TrackResult:
    facts = {"path": "a.mp3", "duration": 1.5, "sample_rate": 44_100, "model": "m", "segments": 2, "scores": SCORES}
    return TrackResult(**{**facts, **changes})


def test_top_is_best_first_and_ties_keep_the_models_order():
    assert [item.tag for item in result().top(3)] == ["piano", "drums", "guitar"]
    assert len(result().top(None)) == 4
    assert len(result().top(99)) == 4
    assert result().top(0) == ()


def test_threshold_and_tags_and_k_combine():
    assert [item.tag for item in result().top(None, threshold=0.25)] == ["piano", "drums", "guitar"]
    assert [item.tag for item in result().top(1, threshold=0.1, tags={"guitar", "quiet"})] == ["guitar"]
    assert result().top(5, threshold=0.9) == ()


def test_record_has_exactly_the_documented_keys_and_plain_values():
    record = result(warnings=("truncated: 1.0 s decoded",), weights_sha256="5" * 64).to_record(top=2)
    assert record == {
        "schema": "samptag.tag/1",
        "path": "a.mp3",
        "duration": 1.5,
        "sample_rate": 44_100,
        "model": "m",
        "weights": {"name": "m", "sha256": "5" * 64},
        "segments": 2,
        "padded": False,
        "tags": [{"tag": "piano", "score": 0.75}, {"tag": "drums", "score": 0.75}],
        "warnings": ["truncated: 1.0 s decoded"],
        "error": None,
        "version": samptag.__version__,
    }
    assert list(record)[:3] == ["schema", "path", "duration"]


def test_record_of_a_failed_input():
    record = result(scores=(), error=TrackError("AudioError", "a.mp3: empty")).to_record()
    assert record["tags"] == []
    assert record["error"] == {"type": "AudioError", "message": "a.mp3: empty"}


def test_a_name_that_is_not_unicode_stays_valid_json_and_recoverable():
    raw = b"caf\xe9 \xf0\x9f\x8e\xb5.mp3"
    path = raw.decode("utf-8", "surrogateescape")
    failed = TrackError("AudioError", f"{path}: empty")
    text = json.dumps(result(path=path, error=failed).to_record(), ensure_ascii=False)
    record = json.loads(text.encode("utf-8"))
    assert record["path"] == "caf� 🎵.mp3"
    assert base64.b64decode(record["path_bytes"]) == raw
    assert "path_bytes" not in result().to_record()


def test_scores_are_rounded_to_what_means_something():
    (item,) = result(scores=(TagScore("x", float(np.float32(0.1))),)).to_record()["tags"]
    assert item["score"] == 0.1
    assert math.isfinite(item["score"])


def test_valid_text_leaves_everything_else_alone():
    assert valid_text("naïve 音楽 🎵\n") == "naïve 音楽 🎵\n"
