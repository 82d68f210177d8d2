import json
from pathlib import Path

import pytest
import weights_server as ws

from recipes.register import register_bundled
from samptag.errors import WeightsError
from samptag.pretrained import Store, load_registry


def test_registered_names_are_written_by_recipes(tmp_path: Path):
    ws.write_registry(tmp_path, ws.registry_entry("first", b"content"), ws.registry_entry("second", b"content"))
    document = json.loads((tmp_path / "registry.json").read_text())
    document["tag_lists"] = {"three": ["guitar", "sitar", "harp"]}
    (tmp_path / "registry.json").write_text(json.dumps(document))
    made = ws.small_weights(tmp_path / "second.safetensors")
    entry = register_bundled(made)
    assert entry.checksums.problem(made) is None
    assert (entry.scores[0].split, entry.scores[0].roc_auc, entry.scores[0].pr_auc) == ("a split", 0.5123, 0.25)
    document = json.loads((tmp_path / "registry.json").read_text())
    assert [known["name"] for known in document["weights"]] == ["first", "second"]
    assert document["weights"][1]["tags"] == "three"
    store = Store(registry=load_registry(tmp_path / "registry.json"), cache=tmp_path / "cache")
    assert store.load("second").card.name == "second"
    register_bundled(ws.small_weights(tmp_path / "third.safetensors", seed=2))
    assert list(load_registry(tmp_path / "registry.json").entries) == ["third", "first", "second"]
    made.rename(tmp_path / "fourth.safetensors")
    with pytest.raises(WeightsError, match=r"call it second\.safetensors"):
        register_bundled(tmp_path / "fourth.safetensors")


def test_a_card_without_the_texts_an_entry_needs_changes_nothing(tmp_path: Path):
    registry = ws.write_registry(tmp_path, ws.registry_entry("first", b"content"))
    before = registry.read_bytes()
    with pytest.raises(WeightsError, match="its card does not say its licence"):
        register_bundled(ws.small_weights(tmp_path / "mine.safetensors", licence=""))
    assert registry.read_bytes() == before
