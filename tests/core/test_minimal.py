"""The convolution with 5 products for 9 against the convolution itself."""

import pytest
import torch
import torch.nn.functional as F

from samptag.core.blocks import BatchNorm, Convolution
from samptag.core.config import ModelConfig
from samptag.core.minimal import MinimalConvolution
from samptag.core.steps import MAX_ROWS, Filters, Frames, PooledConvolution

SHAPES = [(27, 128, 128), (81, 256, 512), (243, 128, 256), (2 * MAX_ROWS + 5, 128, 128), (300, 256, 256)]


def layer(n_in: int, n_out: int, kernel: int) -> tuple[Convolution, BatchNorm]:
    torch.manual_seed(n_in + n_out)
    norm = BatchNorm(n_out, ModelConfig()).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return Convolution(n_in, n_out, kernel), norm


@pytest.mark.parametrize(("rows", "n_in", "n_out"), SHAPES)
def test_both_ways_give_the_pooled_convolution(rows: int, n_in: int, n_out: int):
    convolution, norm = layer(n_in, n_out, 3)
    with torch.inference_mode():
        source = Frames(3 * rows, n_in, kernel=3)
        source.inside.copy_(torch.rand(3 * rows, n_in))
        x = source.inside.t()[None, :, None]
        expected = F.relu(norm(convolution(x))).view(n_out, rows, 3).amax(2).t()
        scratch = torch.empty(2 * MAX_ROWS * 512)
        for kind in (MinimalConvolution, PooledConvolution):
            target = torch.full((rows, n_out), torch.nan)
            kind(source, Filters(convolution, norm), target, scratch=scratch)()
            torch.testing.assert_close(target, expected, rtol=1e-5, atol=1e-5)


def test_it_is_taken_where_it_fits():
    three = Filters(*layer(128, 128, 3))
    assert MinimalConvolution.supports(three, torch.empty(27, 128))
    assert not MinimalConvolution.supports(three, torch.empty(9, 128))
    assert not MinimalConvolution.supports(Filters(*layer(128, 128, 2)), torch.empty(512, 128))
