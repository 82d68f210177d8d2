"""Foreign checkpoints turned into our networks; every key and every shape must be the expected one.

Two layouts are known, both of the repository beside Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based Automatic
Music Tagging Models, SMC 2020 (github.com/minzwon/sota-music-tagging-models): its SampleCNN (``sota-sample``) and its
SampleCNN with residual blocks and squeeze-and-excitation (``sota-se``), each a bare state_dict.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samptag.core.card import ModelCard
from samptag.core.config import Block, ModelConfig
from samptag.errors import WeightsError
from samptag.fetch import unexpected_kind
from samptag.files import atomic_write
from samptag.pretrained.entries import Layout, TagList, WeightsEntry
from samptag.text import first_names

if TYPE_CHECKING:
    from torch import Tensor

    from samptag.core.model import SampleCNN

__all__ = ["convert", "install_published", "read_state_dict", "save_converted"]

_BLOCKS: dict[Layout, Block] = {"sota-sample": "plain", "sota-se": "won-rese"}
# Their module inside a layer -> ours.
_PLAIN_LAYER = {"conv": "conv", "bn": "bn"}
_SE_LAYER = {
    "conv_1": "conv1",
    "bn_1": "bn1",
    "conv_2": "conv2",
    "bn_2": "bn2",
    "dense1": "se.dense1",
    "dense2": "se.dense2",
    "conv_3": "shortcut.conv",
    "bn_3": "shortcut.bn",
}
# Their layer -> ours: the strided one in front, nine that pool, one with a kernel of 1.
_LAYERS = {"layer1": "front", **{f"layer{i + 2}": f"body.{i}" for i in range(9)}, "layer11": "top"}
_COUNTER = "num_batches_tracked"


def install_published(path: Path, *, entry: WeightsEntry, target: Path) -> None:
    """Put the published file `path`, whose digest has been checked, at `target`, converted where it is foreign.

    Raises
    ------
    WeightsError
        The file does not hold what the registry says.
    OSError, OutputError
        `target` cannot be written.
    """
    if entry.format == "samptag":
        with path.open("rb") as source, atomic_write(target) as file:
            shutil.copyfileobj(source, file)
        return
    metrics: dict[str, float | str] = {}
    for score in entry.scores:
        metrics |= {"roc_auc": score.roc_auc, "measured_by": score.source}
        metrics |= {} if score.pr_auc is None else {"pr_auc": score.pr_auc}
    save_converted(
        path,
        target,
        layout=entry.format,
        tags=entry.tags,
        sample_rate=entry.sample_rate,
        name=entry.name,
        description=entry.description,
        licence=entry.licence,
        training_data=entry.training_data,
        source=entry.provenance,
        citation=entry.citation,
        split=entry.scores[0].split if entry.scores else None,
        metrics=metrics,
    )


def save_converted(path: Path, target: Path, *, layout: Layout, tags: TagList, sample_rate: int, **about: Any) -> None:
    """Convert the state_dict `path` and write it to `target`; `about` is the rest of its card.

    Raises
    ------
    WeightsError
        As `read_state_dict` and `convert`.
    OutputError
        `target` cannot be written.
    """
    from samptag.core.weights import save_model

    state = read_state_dict(path)
    model = convert(state, layout=layout, n_tags=len(tags.tags), sample_rate=sample_rate, source=str(path))
    card = ModelCard(config=model.config, tags=tags.tags, tag_categories=tags.categories, **about)
    save_model(target, model, card=card)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors by name in the PyTorch file at `path`, read without running any code in it.

    Raises
    ------
    WeightsError
        The file is damaged, is not a PyTorch file, or holds anything but named tensors.
    """
    import torch

    if kind := unexpected_kind(path):
        raise WeightsError(f"{path} is {kind}")
    try:
        with warnings.catch_warnings():
            # Torch's remarks on how old or odd the file is are for its authors; what matters is refused below.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is damaged or not a PyTorch state_dict ({type(error).__name__})") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in state.items()
    ):
        raise WeightsError(f"{path} is not a bare state_dict: it holds more than named tensors")
    return dict(state)


def convert(state: Mapping[str, Tensor], *, layout: Layout, n_tags: int, sample_rate: int, source: str) -> SampleCNN:
    """The network that the state_dict `state` of a foreign repository describes, in eval mode.

    Parameters
    ----------
    state : mapping of str to Tensor
        Exactly the keys of `layout`; the ``num_batches_tracked`` counters of batch normalisation may be absent, as
        PyTorch before 0.4.1 wrote no such thing.
    layout : {"sota-sample", "sota-se"}
        Whose names they are.
    n_tags : int
        Number of outputs the checkpoint must have.
    sample_rate : int
        Hz; the files do not say it.
    source : str
        What to call the file in messages.

    Returns
    -------
    SampleCNN
        float32, on the CPU, with 59 049 samples a segment, a padding of 1 in front as those networks have it, and
        PyTorch's default batch normalisation (epsilon 1e-5, momentum 0.1).

    Raises
    ------
    WeightsError
        A key is missing or unknown, a tensor has another shape or type, or a value is not finite.
    """
    import torch

    from samptag.core.model import SampleCNN

    config = ModelConfig(
        n_tags=n_tags,
        sample_rate=sample_rate,
        block=_BLOCKS[layout],
        front_padding=1,
        bn_epsilon=1e-5,
        bn_momentum=0.1,
    )
    with torch.device("meta"):
        model = SampleCNN(config)
    model.load_state_dict(dict(_renamed(state, model.state_dict(), layout, source)), assign=True)
    return model.eval()


def _renamed(
    state: Mapping[str, Tensor], ours: Mapping[str, Tensor], layout: Layout, source: str
) -> Iterator[tuple[str, Tensor]]:
    """Our keys with their tensors, each checked."""
    their_modules = {our: their for their, our in _modules(layout)}
    theirs = {}
    for key in ours:
        module, _, leaf = key.rpartition(".")
        theirs[f"{their_modules[module]}.{leaf}"] = key
    missing = [key for key in theirs if key not in state and not key.endswith(_COUNTER)]
    extra = [key for key in state if key not in theirs]
    for keys, what in ((missing, "lacks"), (extra, "has an unknown")):
        if keys:
            named = first_names([repr(key) for key in keys], 1)
            raise WeightsError(f"{source} is not of the layout {layout}: it {what} key {named}")
    for their, our in theirs.items():
        yield our, _checked(state.get(their), ours[our], their, source)


def _modules(layout: Layout) -> Iterator[tuple[str, str]]:
    """Their module and ours, for every module that either layout may have."""
    for their_layer, our_layer in _LAYERS.items():
        for their, our in (_PLAIN_LAYER if layout == "sota-sample" else _SE_LAYER).items():
            yield f"{their_layer}.{their}", f"{our_layer}.{our}"
    if layout == "sota-sample":
        yield "dense", "head"
    else:
        yield from (("dense1", "hidden.linear"), ("bn", "hidden.bn"), ("dense2", "head"))


def _checked(tensor: Tensor | None, like: Tensor, key: str, source: str) -> Tensor:
    """`tensor` as float32 (a counter as int64), after its shape, type and values have been checked."""
    import torch

    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    if tensor.shape != like.shape:
        raise WeightsError(f"{source}: {key!r} has the shape {tuple(tensor.shape)} instead of {tuple(like.shape)}")
    if tensor.is_floating_point() != like.is_floating_point() or tensor.is_complex():
        raise WeightsError(f"{source}: {key!r} has the type {tensor.dtype} instead of {like.dtype}")
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{source}: {key!r} holds values that are not finite")
    return tensor.to(like.dtype, copy=True).contiguous()
