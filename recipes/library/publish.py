"""A trained student put among the weights that samptag ships: file, registry entry and model card."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from recipes.library.evaluate import LISTENERS
from recipes.register import register_bundled
from samptag.core.card import Concept, CutoffEvidence, Evidence, ModelCard
from samptag.core.weights import Weights, read_weights, save_model
from samptag.errors import UsageError
from samptag.fetch import file_sha256
from samptag.files import atomic_write

WEIGHTS = Path(__file__).parents[2] / "weights"

SPLIT = "63 Magnatune tracks with listeners' tags, on which some of the teachers were trained"
_DESCRIPTIONS = {
    "samplecnn-3-9-library": "The default: {n} words for a library of music, in categories; the paper's 3^9 SampleCNN",
    "samplecnn-3-9-mtat50": "MagnaTagATune's {n} tags; the paper's 3^9 SampleCNN, taught by musicnn on other music",
    "frame-mel-729-243-library": "{n} words for a library of music, in categories; small and quick, on log-mel bands",
}
# Part of a student -> what its figures are called.
_KINDS = {"library": "words", "mtat50": "tags"}
PARTS = tuple(_KINDS)
_SHORT = {"frame-mel-729-243-library": "mel"}
_CITATION = (
    "Lee, Park, Kim, Nam: Sample-level Deep Convolutional Neural Networks for Music Auto-tagging Using Raw Waveforms, "
    "SMC 2017; teachers: Pons, Serra: musicnn, ISMIR LBD 2019; Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based "
    "Automatic Music Tagging Models, SMC 2020"
)


def halve(trained: Path, target: Path) -> None:
    """Store trained weights in float16, as they are bundled: figures are those of what ships."""
    weights = read_weights(trained)
    save_model(target, weights.tensors, card=weights.card, dtype=np.float16)


def publish(weights: Path, part: str, *, figures: Mapping[str, Any], folder: Path) -> Path:
    """Store a part of what `halve` wrote ("library" or "mtat50") with what is known of it; enter it in the registry.

    `figures` are `evaluate.measure`'s, `folder` has the ``registry.json``; gives the file in it. A UsageError where the
    figures are of other weights, or lack tracks that people tagged or that were held out; a WeightsError for bad files.
    """
    loaded, known = read_weights(weights), figures[_KINDS[part]]
    if figures["weights"] != {"name": loaded.card.name, "sha256": loaded.sha256}:
        raise UsageError(f"{weights}: the figures are of other weights; evaluate these first")
    if not (known["human"] and known["agreement"]):
        raise UsageError(f"{weights}: its figures lack tagged or held-out tracks; evaluate it with the folders of both")
    clips, _, taught = loaded.card.training_data.partition(", taught by ")
    data = f"{clips.split()[0]} tracks, versions of tracks and excerpts, taught by {taught}"
    card, tensors = _cut(loaded, part)
    card = replace(
        _with_evidence(card, known),
        training_data=f"Public music without labels, listed in recipes/library/sources.csv: {data}",
        citation=_CITATION,
        source="recipes/library",
    )
    target = folder / f"{card.name}.safetensors"
    save_model(target, tensors, card=card, dtype=np.float16)
    register_bundled(target, short=_SHORT.get(card.name))
    words = dict(zip(card.tags, card.tag_categories or [""] * len(card.tags), strict=True))
    page = model_card(card.name, part, known, version=figures["samptag"], sha256=file_sha256(target), words=words)
    with atomic_write(folder / f"{card.name}.md") as file:
        file.write(page.encode("utf-8"))
    return target


def _with_evidence(card: ModelCard, known: Mapping[str, Any]) -> ModelCard:
    macro = known["human"]["macro"]
    return replace(
        card,
        split=SPLIT,
        split_hash=None,
        metrics={"roc_auc": macro["roc_auc"], "pr_auc": macro["pr_auc"], "protocol": "all"},
        description=_DESCRIPTIONS[card.name].format(n=len(card.tags)),
        cutoffs=known["cutoffs"],
        cutoff_evidence={tag: CutoffEvidence(**each) for tag, each in known["cutoff_evidence"].items()},
        evidence={tag: Evidence.from_dict(tag, each) for tag, each in known["evidence"].items()},
        concepts={name: Concept.from_dict(name, each) for name, each in known["concepts"].items()},
    )


def _cut(weights: Weights, part: str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """The card and the tensors of a part: the outputs that belong to it, by their own names."""
    card = weights.card
    mine = [tag.startswith(LISTENERS) == (part == "mtat50") for tag in card.tags]
    rows = np.flatnonzero(mine)
    categories = None if part == "mtat50" else tuple(np.array(card.tag_categories)[rows].tolist())
    tags = tuple(card.tags[row].removeprefix(LISTENERS) for row in rows)
    tensors = {name: each[rows] if name.startswith("head.") else each for name, each in weights.tensors.items()}
    config = replace(card.config, n_tags=len(tags))
    name = f"{card.config.name}-{part}"
    return replace(card, name=name, config=config, tags=tags, tag_categories=categories), tensors


def model_card(
    name: str, part: str, known: Mapping[str, Any], *, version: str, sha256: str, words: Mapping[str, str]
) -> str:
    """The page about some weights, from the figures that were measured.

    ``NAME.about.md`` beside this file says what is theirs alone, ``PART.how.md`` how teachers' scores make its words'.
    `version` is that of samptag when it was measured; `words` has every word's category.
    """
    evidence = dict.fromkeys(words, Evidence(kind="none"))
    evidence |= {word: Evidence.from_dict(word, each) for word, each in known["evidence"].items()}
    degraded = [("none", *_pair(known["human"]["macro"]), "", "")]
    for condition, each in known["human"]["degraded"].items():
        lost = [f"{0 - each[f'{area}_difference']:+.4f}" for area in ("roc_auc", "pr_auc")]
        degraded.append((condition, *_pair(each["macro"]), *lost))
    concepts = [(each, found["evidence"]) for each, found in known["concepts"].items()]
    concepts += [(f"the genre folder {each}", found) for each, found in known["genres"].items()]
    agreement = known["agreement"]
    said = dict.fromkeys(one for each in evidence.values() for one in (each.published or "").split("; ") if one)
    template = Template(Path(__file__).with_name("card.template.md").read_text(encoding="utf-8"))
    return template.substitute(
        name=name,
        about=Path(__file__).with_name(f"{name}.about.md").read_text(encoding="utf-8").strip(),
        sha256=sha256,
        version=version,
        n_words=len(words),
        how=Path(__file__).with_name(f"{part}.how.md").read_text(encoding="utf-8").strip(),
        n_tested=len(known["human"]["tags"]),
        clips=known["human"]["clips"],
        roc_auc=_with_interval(known["human"]["macro"], "roc_auc"),
        pr_auc=_with_interval(known["human"]["macro"], "pr_auc"),
        held_out=agreement["tracks"],
        segments=agreement["segments"],
        by_track=f"{agreement['by_track']:.3f}",
        by_segment=f"{agreement['by_segment']:.3f}",
        degraded=_table(("degradation", "macro ROC-AUC", "macro PR-AUC", "ROC-AUC lost", "PR-AUC lost"), degraded),
        published="; ".join(said) or "not known",
        concepts=_table(("what", "known of it"), [(what, Evidence.from_dict(what, x).text) for what, x in concepts]),
        words=_table(
            ("word", "category", "known of it", "cut-off"),
            [
                (word, category, replace(evidence[word], published=None).text, _cutoff(known, word))
                for word, category in words.items()
            ],
        ),
    )


def _cutoff(known: Mapping[str, Any], word: str) -> str:
    if word not in known["cutoffs"]:
        return ""
    return f"{known['cutoffs'][word]:.3f}: {CutoffEvidence(**known['cutoff_evidence'][word]).text}"


def _pair(macro: Mapping[str, Any]) -> list[str]:
    return [f"{macro[area]:.4f}" for area in ("roc_auc", "pr_auc")]


def _with_interval(macro: Mapping[str, Any], area: str) -> str:
    low, high = macro[f"{area}_ci95"]
    return f"{macro[area]:.3f} ({low:.3f} to {high:.3f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
