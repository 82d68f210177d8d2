"""Bundled weights entered in the registry: what a recipe calls when it has made a file."""

import json
from pathlib import Path
from typing import Any

from samptag.core.weights import read_weights
from samptag.errors import WeightsError
from samptag.fetch import file_sha256
from samptag.files import atomic_write
from samptag.pretrained.registry import Registry, TagList, WeightsEntry, load_registry, parse_registry

__all__ = ["describe_bundled", "register_bundled"]


def describe_bundled(path: Path, *, registry: Registry, short: str | None = None) -> dict[str, Any]:
    """The registry entry, as JSON holds it, of the weights file `path`, taken from the file and its card.

    The card's metrics ``roc_auc`` and ``pr_auc`` become the entry's score on the card's split, by its ``protocol``.

    Raises
    ------
    WeightsError
        The file cannot be loaded, or its name is not the card's name and ``.safetensors``.
    """
    card = read_weights(path).card
    if path.name != f"{card.name}.safetensors":
        raise WeightsError(f"{path} holds the weights {card.name!r}: call it {card.name}.safetensors")
    tags: list[str] = list(card.tags)
    if card.tag_categories is not None:
        tags = [f"{category}---{tag}" for category, tag in zip(card.tag_categories, card.tags, strict=True)]
    own = TagList(tags=card.tags, categories=card.tag_categories)
    listed = [name for name, known in registry.tag_lists.items() if known == own]
    scores = []
    roc_auc, pr_auc = (card.metrics.get(key) for key in ("roc_auc", "pr_auc"))
    if card.split and isinstance(roc_auc, float):
        pr_part = {"pr_auc": round(pr_auc, 4)} if isinstance(pr_auc, float) else {}
        protocol = {"protocol": card.metrics["protocol"]} if "protocol" in card.metrics else {}
        measured = {"split": card.split, **protocol, "roc_auc": round(roc_auc, 4), **pr_part}
        scores = [{**measured, "source": "measured, see the card"}]
    return {
        "name": card.name,
        **({} if short is None else {"short": short}),
        "description": card.description,
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": file_sha256(path),
        "format": "samptag",
        "licence": card.licence,
        "citation": card.citation,
        "training_data": card.training_data,
        "sample_rate": card.config.sample_rate,
        "tags": listed[0] if listed else tags,
        "scores": scores,
    }


def register_bundled(path: Path, *, short: str | None = None) -> WeightsEntry:
    """The entry of the weights file `path`, after writing it into the ``registry.json`` beside that file.

    `short` is what a user may type instead of its name.

    An entry of the same name is replaced where it stands; a new one comes first. The registry is written only when the
    result is valid.

    Raises
    ------
    WeightsError
        The file or the registry cannot be used, or the card lacks a text that an entry needs.
    """
    registry_file = path.parent / "registry.json"
    entry = describe_bundled(path, registry=load_registry(registry_file), short=short)
    for text in ("description", "licence", "citation", "training_data"):
        if not entry[text]:
            raise WeightsError(f"{path}: its card does not say its {text.replace('_', ' ')}")
    document = json.loads(registry_file.read_text(encoding="utf-8"))
    names = [known["name"] for known in document["weights"]]
    if entry["name"] in names:
        document["weights"][names.index(entry["name"])] = entry
    else:
        document["weights"].insert(0, entry)
    parse_registry(document, registry_file)
    with atomic_write(registry_file) as file:
        file.write((json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    return load_registry(registry_file).entries[entry["name"]]
