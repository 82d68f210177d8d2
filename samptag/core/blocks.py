"""The layers of the m^n family: convolutions over time, the paper's module, and those of Kim 2018 and Won 2020.

Between layers, activations have shape (batch, channels, 1, time): pictures of height one. Kept channels-last in memory
they are (batch, time, channels), which is what CPU and CUDA convolve fastest, and what the front end's matrix product
makes without a transposition. Weights keep the shape of a 1-D convolution, (out, in, kernel).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samptag.core.config import ModelConfig

__all__ = ["BatchNorm", "Convolution", "FrameConvolution", "PlainBlock", "ResidualBlock", "SqueezeExcitation"]

# Kim 2018: the excitation's hidden layer is 16 times as wide as its input.
KIM_EXCITATION_RATIO = 16
# Kim 2018: dropout between the two convolutions of a residual block.
KIM_BLOCK_DROPOUT = 0.2


class Convolution(nn.Module):
    """Convolution over time that keeps the length; (batch, in, 1, time) -> (batch, out, 1, time).

    Parameters
    ----------
    n_in, n_out : int
        Number of channels.
    kernel : int
        Filter length in frames.
    pads : tuple of int
        Zeros before and after the input; see `ModelConfig.same_pads`.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, pads: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in, kernel))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.pads = pads
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as Kim 2018 does: he_uniform, biases zero."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The convolved activations, as many frames as came in."""
        left, right = self.pads
        if left != right:
            x = F.pad(x, (left, right))
            left = 0
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=(0, left))


class FrameConvolution(Convolution):
    """The strided convolution over the waveform; (batch, samples) -> (batch, out, 1, frames).

    It is computed as a matrix product of the frames, (batch, frames, kernel), with the filters.

    Parameters
    ----------
    n_out : int
        Number of filters.
    kernel, stride : int
        Filter length and distance in samples.
    pads : tuple of int
        Zeros before and after the waveform.
    """

    def __init__(self, n_out: int, kernel: int, *, stride: int, pads: tuple[int, int]) -> None:
        super().__init__(1, n_out, kernel, pads=pads)
        self.kernel, self.stride = kernel, stride

    def forward(self, waveforms: Tensor) -> Tensor:
        """The filtered frames of the waveforms."""
        if any(self.pads):
            waveforms = F.pad(waveforms, self.pads)
        frames = waveforms.unfold(1, self.kernel, self.stride)
        x = F.linear(frames, self.weight.squeeze(1), self.bias)  # (batch, frames, out)
        return x.transpose(1, 2).unsqueeze(2)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the config's momentum and epsilon."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__(channels, eps=config.bn_epsilon, momentum=config.bn_momentum)


def pool(x: Tensor, length: int) -> Tensor:
    """The maximum of every `length` frames; (batch, channels, 1, time) -> (batch, channels, 1, time / length)."""
    return F.max_pool2d(x, (1, length)) if length > 1 else x


class SqueezeExcitation(nn.Module):
    """Weights in (0, 1) for each channel from the channels' means over time, multiplied in; shape is kept.

    Parameters
    ----------
    channels : int
        Number of channels.
    ratio : int
        Width of the hidden layer in multiples of `channels`: 16 in Kim 2018, 1 in Won 2020.
    """

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(channels, channels * ratio)
        self.dense2 = nn.Linear(channels * ratio, channels)
        for dense in (self.dense1, self.dense2):
            nn.init.xavier_uniform_(dense.weight)  # glorot_uniform in the authors' code
            nn.init.zeros_(dense.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x` with its channels weighted."""
        weights = torch.sigmoid(self.dense2(F.relu(self.dense1(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


class PlainBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, max-pooling; then squeeze and excitation where asked for.

    Parameters
    ----------
    convolution : Convolution
        The convolution.
    n_out : int
        Its number of output channels.
    config : ModelConfig
        Settings of batch normalisation.
    pool_length : int
        Frames to a maximum; 1 does not pool.
    excite : bool
        Whether Kim 2018's squeeze and excitation follows.
    """

    def __init__(
        self, convolution: Convolution, n_out: int, *, config: ModelConfig, pool_length: int = 1, excite: bool = False
    ) -> None:
        super().__init__()
        self.conv = convolution
        self.bn = BatchNorm(n_out, config)
        self.se = SqueezeExcitation(n_out, ratio=KIM_EXCITATION_RATIO) if excite else None
        self.pool_length = pool_length

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        # ReLU never changes which of several values is the largest, so it may follow the pooling: the same result for
        # a third of the work at m = 3.
        x = F.relu(pool(self.bn(self.conv(x)), self.pool_length))
        return x if self.se is None else self.se(x)


class Shortcut(nn.Module):
    """Convolution and batch normalisation beside a residual block whose input has another shape than its output."""

    def __init__(self, convolution: Convolution, n_out: int, *, config: ModelConfig) -> None:
        super().__init__()
        self.conv = convolution
        self.bn = BatchNorm(n_out, config)

    def forward(self, x: Tensor) -> Tensor:
        """`x` in the shape of the block's output."""
        x = self.bn(self.conv(x))
        return x


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, then ReLU and max-pooling.

    Parameters
    ----------
    first, second : Convolution
        The two convolutions.
    n_out : int
        Their number of output channels.
    config : ModelConfig
        Settings of batch normalisation.
    shortcut : Convolution or None
        The shortcut's convolution; None where the input has the output's shape and is added as it is.
    pool_length : int
        Frames to a maximum; 1 does not pool.
    excitation_ratio : int or None
        Width of the squeeze and excitation before the addition; None leaves it out.
    dropout : float
        Share dropped between the two convolutions in training.
    """

    def __init__(
        self,
        first: Convolution,
        second: Convolution,
        n_out: int,
        *,
        config: ModelConfig,
        shortcut: Convolution | None,
        pool_length: int,
        excitation_ratio: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv1 = first
        self.bn1 = BatchNorm(n_out, config)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = second
        self.bn2 = BatchNorm(n_out, config)
        self.se = None if excitation_ratio is None else SqueezeExcitation(n_out, ratio=excitation_ratio)
        self.shortcut = None if shortcut is None else Shortcut(shortcut, n_out, config=config)
        self.pool_length = pool_length

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block, with `pool_length` times fewer frames."""
        beside = x if self.shortcut is None else self.shortcut(x)
        x = self.dropout(F.relu(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        if self.se is not None:
            x = self.se(x)
        return F.relu(pool(x + beside, self.pool_length))
