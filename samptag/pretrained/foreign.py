"""Foreign checkpoints converted into our networks; every key and every shape must be the expected one.

Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020
(github.com/minzwon/sota-music-tagging-models) wrote bare PyTorch state_dicts: ``sota-sample`` is their SampleCNN,
``sota-se`` the one with residual blocks and squeeze-and-excitation; ``sota-fcn`` and ``sota-musicnn`` take log-mel
bands. The package musicnn (Pons, Serra 2019) wrote TensorFlow checkpoints: ``tf-musicnn`` and ``tf-vgg``.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samptag.core.card import ModelCard
from samptag.core.config import Architecture, Block, Config, ModelConfig, SpectrogramConfig
from samptag.errors import WeightsError
from samptag.fetch import unexpected_kind
from samptag.files import atomic_write
from samptag.pretrained.registry import Format, Layout, TagList, WeightsEntry
from samptag.text import first_names

if TYPE_CHECKING:
    from torch import Tensor

    from samptag.core.model import Model

# Weight decay has shrunk whole filters of published networks to almost nothing. Products of such numbers are denormal,
# and a CPU takes twenty times as long for those (Won's FCN: 28.7 s for 150 s of music, 1.4 s without). They become 0.
LEAST = 1e-20
_COUNTER = "num_batches_tracked"

_BLOCKS: dict[Layout, Block] = {"sota-sample": "plain", "sota-se": "won-rese"}
_ARCHITECTURES: dict[Layout, Architecture] = {
    "sota-fcn": "won-fcn",
    "sota-musicnn": "won-musicnn",
    "tf-musicnn": "musicnn",
    "tf-vgg": "vgg",
}
# Their module inside a layer -> ours.
_PLAIN_LAYER = {"conv": "conv", "bn": "bn"}
_SE_LAYER = {"conv_1": "conv1", "bn_1": "bn1", "conv_2": "conv2", "bn_2": "bn2"}
_SE_LAYER |= {"dense1": "se.dense1", "dense2": "se.dense2", "conv_3": "shortcut.conv", "bn_3": "shortcut.bn"}
# Their layer -> ours: the strided one in front, nine that pool, one with a kernel of 1.
_SAMPLE_LAYERS = {"layer1": "front", **{f"layer{i + 2}": f"body.{i}" for i in range(9)}, "layer11": "top"}
_FCN_LAYERS = {f"layer{i + 1}": f"body.layers.{i}" for i in range(5)}
_FRONT = [f"body.front.{i}" for i in range(5)]
_MIDDLE = [f"body.middle.{i}" for i in range(3)]
_MUSICNN_LAYERS = {f"layers.{i}": our for i, our in enumerate(_FRONT)}
_MUSICNN_LAYERS |= {f"layer{i + 1}": our for i, our in enumerate(_MIDDLE)}
# Our name of a tensor in a batch normalisation, else in another module -> TensorFlow's.
_TF_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_TF_LEAF = {"weight": "kernel", "bias": "bias"}
# The two axes of an array that TensorFlow flattened in the other order than we do: pairs of maximum and mean of 753
# channels; 2 frames of 128 channels.
_PAIRS: dict[Layout, dict[str, tuple[int, int]]] = {
    "tf-musicnn": {"body.pooled_bn": (753, 2), "body.hidden.weight": (753, 2)},
    "tf-vgg": {"head.weight": (2, 128)},
}


def is_tensorflow(layout: Format) -> bool:
    """Whether its files are TensorFlow's, whose axes run the other way."""
    return layout.startswith("tf-")


def layout_config(layout: Layout, *, n_tags: int, sample_rate: int) -> Config:
    """The network that a checkpoint of `layout` holds; a ValueError if it takes another sample rate."""
    if layout in _ARCHITECTURES:
        return SpectrogramConfig(architecture=_ARCHITECTURES[layout], n_tags=n_tags, sample_rate=sample_rate)
    return ModelConfig(
        n_tags=n_tags, sample_rate=sample_rate, block=_BLOCKS[layout], front_padding=1, bn_epsilon=1e-5, bn_momentum=0.1
    )


def layout_keys(layout: Layout, ours: Iterable[str]) -> dict[str, str]:
    """Their key and ours, for each of our keys: {"dense_1/kernel": "head.weight"} of "tf-musicnn"."""
    their_modules = {our: their for their, our in _modules(layout)}
    keys = {}
    for key in ours:
        module, _, leaf = key.rpartition(".")
        their = their_modules[module]
        if is_tensorflow(layout):
            names = _TF_NORM if their.startswith("batch_normalization") else _TF_LEAF
            keys[f"{their}/{names.get(leaf, leaf)}"] = key
        else:
            keys[f"{their}.{leaf}"] = key
    return keys


def is_left_out(key: str, layout: Layout) -> bool:
    """Whether their tensor `key` is not a weight of the network: an optimiser's state, or a mel filter bank."""
    if is_tensorflow(layout):
        return key.endswith(("/Adam", "/Adam_1")) or key in ("beta1_power", "beta2_power")
    return layout in _ARCHITECTURES and key in ("spec.spectrogram.window", "spec.mel_scale.fb")


def pairs(layout: Layout, ours: str) -> tuple[int, int] | None:
    """The (outer, inner) axes that their last axis of our tensor `ours` flattens, where ours has (inner, outer)."""
    known = _PAIRS.get(layout, {})
    return known.get(ours) or known.get(ours.rpartition(".")[0])


def _modules(layout: Layout) -> Iterator[tuple[str, str]]:
    """Their module and ours, for every module that the layout may have."""
    if layout == "tf-musicnn":
        for i, our in enumerate([*_FRONT, *_MIDDLE]):
            yield from ((_tf("conv2d", i), f"{our}.conv"), (_tf("batch_normalization", i + 1), f"{our}.bn"))
        for i, our in ((9, "body.pooled_bn"), (10, "body.hidden_bn"), (0, "input_bn")):
            yield _tf("batch_normalization", i), our
        yield from (("dense", "body.hidden"), ("dense_1", "head"))
    elif layout == "tf-vgg":
        for i in range(5):
            yield f"{i + 1}CNN", f"body.layers.{i}.conv"
            yield _tf("batch_normalization", i + 1), f"body.layers.{i}.bn"
        yield from ((_tf("batch_normalization", 0), "input_bn"), ("dense", "head"))
    else:
        layers = {"sota-fcn": _FCN_LAYERS, "sota-musicnn": _MUSICNN_LAYERS}.get(layout, _SAMPLE_LAYERS)
        for their_layer, our_layer in layers.items():
            for their, our in (_SE_LAYER if layout == "sota-se" else _PLAIN_LAYER).items():
                yield f"{their_layer}.{their}", f"{our_layer}.{our}"
        if layout in _ARCHITECTURES:
            yield "spec_bn", "input_bn"
        if layout == "sota-musicnn":
            yield from (("dense1", "body.hidden"), ("bn", "body.hidden_bn"), ("dense2", "head"))
        elif layout == "sota-se":
            yield from (("dense1", "hidden.linear"), ("bn", "hidden.bn"), ("dense2", "head"))
        else:
            yield "dense", "head"


def _tf(kind: str, number: int) -> str:
    """What TensorFlow calls the layer `number` of that kind."""
    return f"{kind}_{number}" if number else kind


def install_published(path: Path, *, entry: WeightsEntry, target: Path) -> None:
    """Put the published file `path`, whose digest has been checked, at `target`, converted where it is foreign."""
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
    """Convert the checkpoint `path` and write it to `target`; `about` is the rest of its card."""
    from samptag.core.weights import save_model

    state = read_tensors(path, layout=layout)
    model = convert(state, layout=layout, n_tags=len(tags.tags), sample_rate=sample_rate, source=str(path))
    card = ModelCard(config=model.config, tags=tags.tags, tag_categories=tags.categories, **about)
    save_model(target, model, card=card)


def read_tensors(path: Path, *, layout: Layout) -> dict[str, Tensor]:
    """The tensors by name in the checkpoint `path`, as for `bundle_files`, read without running any code in it.

    Raises a WeightsError if it is damaged, of another kind, or holds anything but named tensors.
    """
    import torch

    if is_tensorflow(layout):
        from samptag.pretrained.tensor_bundle import read_bundle

        # A copy: torch takes no view of bytes that cannot be written to.
        return {name: torch.from_numpy(array.copy()) for name, array in read_bundle(path).items()}
    if kind := unexpected_kind(path):
        raise WeightsError(f"{path} is {kind}")
    try:
        with warnings.catch_warnings():
            # Torch's warnings about the age or oddity of a file are for its authors; what matters is refused below.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is damaged or not a PyTorch state_dict ({type(error).__name__})") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in state.items()
    ):
        raise WeightsError(f"{path} is not a bare state_dict: it holds more than named tensors")
    return dict(state)


def convert(state: Mapping[str, Tensor], *, layout: Layout, n_tags: int, sample_rate: int, source: str) -> Model:
    """The network that the tensors `state` of a foreign checkpoint describe, in eval mode, float32, on the CPU.

    Its keys must be exactly those of `layout`, besides any that `is_left_out` knows; counters of batches may be absent,
    since TensorFlow and PyTorch before 0.4.1 wrote none. `source` is what messages call the file.
    """
    import torch

    from samptag.core.model import build_model

    try:
        config = layout_config(layout, n_tags=n_tags, sample_rate=sample_rate)
    except ValueError as error:
        raise WeightsError(f"{source} of the layout {layout}: {error}") from error
    with torch.device("meta"):
        model = build_model(config)
    model.load_state_dict(dict(_renamed(state, model.state_dict(), layout, source)), assign=True)
    return model.eval()


def _renamed(
    state: Mapping[str, Tensor], ours: Mapping[str, Tensor], layout: Layout, source: str
) -> Iterator[tuple[str, Tensor]]:
    """Our keys with their tensors, each checked."""
    theirs = layout_keys(layout, ours)
    missing = [key for key in theirs if key not in state and not key.endswith(_COUNTER)]
    extra = [key for key in state if key not in theirs and not is_left_out(key, layout)]
    for keys, what in ((missing, "lacks"), (extra, "has an unknown")):
        if keys:
            named = first_names([repr(key) for key in keys], 1)
            raise WeightsError(f"{source} is not of the layout {layout}: it {what} key {named}")
    for their, our in theirs.items():
        tensor, counted = _checked(state.get(their), ours[our], their, layout, source), pairs(layout, our)
        if counted is not None and tensor.ndim:
            tensor = tensor.reshape(*tensor.shape[:-1], *counted).transpose(-1, -2).flatten(-2)
        yield our, tensor


def _checked(tensor: Tensor | None, like: Tensor, key: str, layout: Layout, source: str) -> Tensor:
    """`tensor` in the shape of `like`, as float32 (a counter as int64), after shape, type and values were checked."""
    import torch

    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    expected = tuple(like.shape)
    if is_tensorflow(layout):
        # Their axes run the other way; a filter over one axis keeps the other, of length 1.
        expected = expected[::-1]
        if tensor.ndim == like.ndim + 1 and tensor.shape[-2] == 1:
            expected = (*expected[:-1], 1, expected[-1])
    if tensor.shape != expected:
        raise WeightsError(f"{source}: {key!r} has the shape {tuple(tensor.shape)} instead of {expected}")
    if tensor.is_floating_point() != like.is_floating_point() or tensor.is_complex():
        raise WeightsError(f"{source}: {key!r} has the type {tensor.dtype} instead of {like.dtype}")
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{source}: {key!r} holds values that are not finite")
    if is_tensorflow(layout):
        tensor = tensor.permute(*range(tensor.ndim)[::-1]).reshape(like.shape)
    tensor = tensor.to(like.dtype, copy=True).contiguous()
    if tensor.is_floating_point():
        tensor[tensor.abs() < LEAST] = 0
    return tensor
