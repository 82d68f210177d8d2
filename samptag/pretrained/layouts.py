"""Whose checkpoints are known: which network each layout is, and what its tensors are called there; no torch.

Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020
(github.com/minzwon/sota-music-tagging-models) wrote bare PyTorch state_dicts: ``sota-sample`` is their SampleCNN,
``sota-se`` the one with residual blocks and squeeze-and-excitation, ``sota-fcn`` and ``sota-musicnn`` hear log-mel
bands. The package musicnn (Pons, Serra 2019) wrote TensorFlow checkpoints: ``tf-musicnn`` and ``tf-vgg``.
"""

from collections.abc import Iterable, Iterator

from samptag.core.config import Architecture, Block, Config, ModelConfig, SpectrogramConfig
from samptag.pretrained.entries import Layout

__all__ = ["is_left_out", "is_tensorflow", "layout_config", "layout_keys", "pairs"]

_BLOCKS: dict[Layout, Block] = {"sota-sample": "plain", "sota-se": "won-rese"}
_ARCHITECTURES: dict[Layout, Architecture] = {
    "sota-fcn": "won-fcn",
    "sota-musicnn": "won-musicnn",
    "tf-musicnn": "musicnn",
    "tf-vgg": "vgg",
}
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
_SAMPLE_LAYERS = {"layer1": "front", **{f"layer{i + 2}": f"body.{i}" for i in range(9)}, "layer11": "top"}
_FCN_LAYERS = {f"layer{i + 1}": f"body.layers.{i}" for i in range(5)}
_FRONT = [f"body.front.{i}" for i in range(5)]
_MIDDLE = [f"body.middle.{i}" for i in range(3)]
_MUSICNN_LAYERS = {f"layers.{i}": our for i, our in enumerate(_FRONT)} | {
    f"layer{i + 1}": our for i, our in enumerate(_MIDDLE)
}
# Our name of a tensor in a batch normalisation, else in another module -> TensorFlow's.
_TF_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_TF_LEAF = {"weight": "kernel", "bias": "bias"}
# The two numbers that a flattened array counts in TensorFlow, where ours counts them the other way round: pairs of
# maximum and mean of 753 channels; 2 frames of 128 channels.
_PAIRS: dict[Layout, dict[str, tuple[int, int]]] = {
    "tf-musicnn": {"body.pooled_bn": (753, 2), "body.hidden.weight": (753, 2)},
    "tf-vgg": {"head.weight": (2, 128)},
}


def is_tensorflow(layout: Layout) -> bool:
    """Whether its files are TensorFlow's, whose axes run the other way."""
    return layout.startswith("tf-")


def layout_config(layout: Layout, *, n_tags: int, sample_rate: int) -> Config:
    """The network that a checkpoint of `layout` holds.

    Raises
    ------
    ValueError
        It hears another sample rate.
    """
    if layout in _ARCHITECTURES:
        return SpectrogramConfig(architecture=_ARCHITECTURES[layout], n_tags=n_tags, sample_rate=sample_rate)
    return ModelConfig(
        n_tags=n_tags,
        sample_rate=sample_rate,
        block=_BLOCKS[layout],
        front_padding=1,
        bn_epsilon=1e-5,
        bn_momentum=0.1,
    )


def layout_keys(layout: Layout, ours: Iterable[str]) -> dict[str, str]:
    """Their key and ours, for each of our keys.

    Examples
    --------
    >>> layout_keys("tf-musicnn", ["head.weight"])
    {'dense_1/kernel': 'head.weight'}
    """
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
    """Whether their tensor `key` is none of the network's weights: what an optimiser keeps, or a mel filter bank."""
    if is_tensorflow(layout):
        return key.endswith(("/Adam", "/Adam_1")) or key in ("beta1_power", "beta2_power")
    return layout in _ARCHITECTURES and key in ("spec.spectrogram.window", "spec.mel_scale.fb")


def pairs(layout: Layout, ours: str) -> tuple[int, int] | None:
    """How their last axis of our tensor `ours` counts pairs, (outer, inner), where ours counts (inner, outer)."""
    known = _PAIRS.get(layout, {})
    return known.get(ours) or known.get(ours.rpartition(".")[0])


def _modules(layout: Layout) -> Iterator[tuple[str, str]]:
    """Their module and ours, for every module that the layout may have."""
    if layout == "tf-musicnn":
        for i, our in enumerate([*_FRONT, *_MIDDLE]):
            yield from ((_tf("conv2d", i), f"{our}.conv"), (_tf("batch_normalization", i + 1), f"{our}.bn"))
        yield from (
            (_tf("batch_normalization", 9), "body.pooled_bn"),
            (_tf("batch_normalization", 10), "body.hidden_bn"),
        )
        yield from ((_tf("batch_normalization", 0), "input_bn"), ("dense", "body.hidden"), ("dense_1", "head"))
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
