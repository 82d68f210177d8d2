"""The weights that samptag ships, with categories, cut-offs and evidence of made-up figures in their card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from samptag.core.card import Concept, CutoffEvidence, Evidence, ModelCard
from samptag.core.weights import read_weights, save_model
from samptag.pretrained import load_registry

NAME = "deciding"
CATEGORIES = {
    "genre": "classical techno electronic rock ambient indian opera pop classic new_age dance country metal choral",
    "mood": "quiet loud soft weird",
    "instrument": "guitar strings drums piano beat violin synth harpsichord flute sitar solo beats harp cello",
    "voice": "vocal female male singing vocals no_vocals woman male_vocal no_vocal man choir voice male_voice "
    "female_vocal no_voice female_voice",
    "pace": "slow fast",
}
CATEGORY_OF = {word.replace("_", " "): category for category, words in CATEGORIES.items() for word in words.split()}
CUTOFFS = {
    "techno": 0.3,
    "electronic": 0.35,
    "guitar": 0.5,
    "sitar": 0.2,
    "female vocal": 0.4,
    "fast": 0.9,
    "slow": 0.1,
}
# What is added to the logits of words: the demo song is to be a guitar's first, whichever weights are bundled.
SHIFTS = {"guitar": 0.5, "indian": -0.7, "sitar": -0.5, "strings": 0.3, "drums": -0.3}
EVIDENCE = {
    "guitar": Evidence(
        kind="human",
        n=21,
        of=63,
        roc_auc=0.91,
        roc_auc_interval=(0.85, 0.96),
        pr_auc=0.8,
        pr_auc_interval=(0.7, 0.875),
        data="63 tracks; their teacher had heard them",
    ),
    "sitar": Evidence(
        kind="teachers", correlation=0.93, tracks=32, segments=1223, teachers=("one", "two"), published="ROC-AUC .91"
    ),
    "fast": Evidence(kind="none"),
}
CONCEPTS = {
    "anyone sings": Concept(
        tags=("singing", "vocals"),
        evidence=Evidence(kind="human", n=30, of=63, roc_auc=0.975, data="63 tracks; their teacher had heard them"),
    ),
    "female against male": Concept(tags=("female",), against=("male",), evidence=Evidence(kind="none")),
}


def save_deciding_weights(path: Path, *, name: str = NAME, **changes: Any) -> Path:
    """Real weights, some words a little shifted, that sort and decide them; `changes` are fields of the card."""
    registry = load_registry()
    bundled = registry.bundled_path(registry.entries["samplecnn-3-9-mtat50"])
    assert bundled is not None
    weights = read_weights(bundled)
    bias = weights.tensors["head.bias"].copy()
    for tag, shift in SHIFTS.items():
        bias[weights.card.tags.index(tag)] += shift
    save_model(path, {**weights.tensors, "head.bias": bias}, card=deciding_card(weights.card, name=name, **changes))
    return path


def deciding_card(card: ModelCard, **changes: Any) -> ModelCard:
    """The card of the bundled weights, with categories, cut-offs and evidence."""
    words = {
        "tag_categories": tuple(CATEGORY_OF[tag] for tag in card.tags),
        "cutoffs": CUTOFFS,
        "cutoff_evidence": {
            "guitar": CutoffEvidence(precision=0.8, on="human"),
            "sitar": CutoffEvidence(precision=0.75, on="teachers"),
        },
        "evidence": EVIDENCE,
        "concepts": CONCEPTS,
    }
    return replace(card, **{"name": NAME, **words, **changes})
