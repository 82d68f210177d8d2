"""Networks for inference: batch normalisation folded into the convolutions before it, which give the same numbers."""

import torch
from torch import Tensor, nn

from samptag.core.blocks import Convolution, PlainBlock, ResidualBlock, Shortcut
from samptag.core.model import HiddenLayer, Model, build_model
from samptag.engine.steps import folded

__all__ = ["fold", "folded_filters"]


def folded_filters(layer: Convolution | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of one layer that does what `layer` and `norm` in evaluation mode do, on their device.

    Parameters
    ----------
    layer : Convolution or nn.Linear
        Weights of shape (out, ...).
    norm : nn.BatchNorm1d or nn.BatchNorm2d
        What follows it.

    Returns
    -------
    tuple of Tensor
        Weights in the shape of the layer's, and bias, (out,), float32.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be folded")
    parts = (layer.weight, layer.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    weight, bias = folded(*(part.double() for part in parts), epsilon=norm.eps)
    return weight.float().detach(), bias.float().detach()


def fold(model: Model) -> Model:
    """A copy of `model` in evaluation mode whose batch normalisations are folded away; on the model's device.

    Its forward gives the same numbers up to rounding. It cannot be trained or saved.
    """
    with torch.device("meta"):
        plain = build_model(model.config)
    plain.load_state_dict({name: tensor.detach() for name, tensor in model.state_dict().items()}, assign=True)
    plain.to(model.head.weight.device)
    for module in list(plain.modules()):
        if isinstance(module, PlainBlock | Shortcut):
            _fold_pair(module, "conv", "bn")
        elif isinstance(module, ResidualBlock):
            _fold_pair(module, "conv1", "bn1")
            _fold_pair(module, "conv2", "bn2")
        elif isinstance(module, HiddenLayer):
            _fold_pair(module, "linear", "bn")
    return plain.eval().requires_grad_(False)


def _fold_pair(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer = getattr(module, layer_name)
    weight, bias = folded_filters(layer, getattr(module, norm_name))
    layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    setattr(module, norm_name, nn.Identity())
