"""A trained student as a weights file, and its place among the weights that samptag ships."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recipes.register import register_bundled
from recipes.samplecnn_3_9_mtat50.card import model_card
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from samptag.core.model import ModelConfig, SampleCNN
from samptag.core.weights import ModelCard, load_model_file, save_model
from samptag.errors import WeightsError
from samptag.fetch import file_sha256
from samptag.files import atomic_write

__all__ = ["NAME", "export", "publish", "student"]

NAME = "samplecnn-3-9-mtat50"
SPLIT = "63 Magnatune tracks with listeners' tags, on which the teacher was trained"


def student() -> SampleCNN:
    """An untrained student: the paper's net with one output a tag.

    Dropout and the momentum of the running statistics only matter in training, which is shorter than the paper's: half
    the embedding dropped, and statistics over a hundred steps, would cost more than they give.
    """
    return SampleCNN(ModelConfig(n_tags=len(TAGS), dropout=0.1, bn_momentum=0.03))


def export(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as a float16 file that samptag loads.

    Parameters
    ----------
    path : Path
        The file; an old one is replaced.
    state : Mapping
        A state dict of the student.

    Raises
    ------
    RuntimeError
        It is another network's.
    """
    model = SampleCNN(ModelConfig(n_tags=len(TAGS)))
    missing = model.load_state_dict(state, strict=False).missing_keys
    if [name for name in missing if not name.endswith("num_batches_tracked")]:
        raise RuntimeError(f"the state dict lacks {missing[0]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, model, card=_card({}), dtype=np.float16)


def publish(weights: Path, *, figures: Mapping[str, Any], folder: Path) -> Path:
    """Put weights into the folder of those that samptag ships, with their scores, registry entry and model card.

    Parameters
    ----------
    weights : Path
        What `export` wrote.
    figures : Mapping
        What `evaluate.measure` found for them.
    folder : Path
        Has the ``registry.json``.

    Returns
    -------
    Path
        The weights file in `folder`.

    Raises
    ------
    WeightsError
        They have other tags, or another order of them.
    """
    loaded = load_model_file(weights)
    if loaded.card.tags != TAGS:
        raise WeightsError(f"{weights} has other tags, or the same in another order, than the recipe: export it again")
    macro = figures["valid"]["macro"]
    target = folder / f"{NAME}.safetensors"
    protocol = figures["valid"]["protocol"].split()[0]
    card = _card({"roc_auc": macro["roc_auc"], "pr_auc": macro["pr_auc"], "protocol": protocol})
    save_model(target, loaded.model, card=card, dtype=np.float16)
    register_bundled(target)
    text = model_card({**figures, "weights": {"name": NAME, "sha256": file_sha256(target)}})
    with atomic_write(folder / f"{NAME}.md") as file:
        file.write(text.encode("utf-8"))
    return target


def _card(metrics: Mapping[str, float | str]) -> ModelCard:
    return ModelCard(
        name=NAME,
        config=ModelConfig(n_tags=len(TAGS)),
        tags=TAGS,
        licence="CC-BY-NC-SA-4.0",
        training_data=(
            "About 35 hours of freely licensed music (Magnatune excerpts, game music, songs, choirs, single "
            "instruments), scored by musicnn's two MagnaTagATune networks; listed in the recipe's sources.csv"
        ),
        description="The default: the paper's 3^9 SampleCNN with MagnaTagATune's 50 tags, taught by musicnn",
        split=SPLIT if metrics else None,
        metrics=dict(metrics),
        source="recipes/samplecnn_3_9_mtat50",
        citation=(
            "Lee, Park, Kim, Nam: Sample-level Deep Convolutional Neural Networks for Music Auto-tagging Using Raw "
            "Waveforms, SMC 2017; teacher: Pons, Serra: musicnn, ISMIR LBD 2019"
        ),
    )
