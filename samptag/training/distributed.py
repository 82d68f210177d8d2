"""Several processes on one training, started by torchrun: what they exchange beyond `samptag.ranks`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from samptag.core.device import select_device
from samptag.ranks import Ranks

# A process that is silent for longer than any validation or checkpoint takes is considered dead.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Processes(Ranks):
    """One of the processes of a training; gradients and figures are added up over all of them."""

    def training_device(self, name: str) -> torch.device:
        """The device called `name`; CUDA without a number gives each process its own GPU."""
        device = select_device(self.device(name))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

    def training_on(self, device: torch.device) -> AbstractContextManager[None]:
        """As `joined`, with the settings for a training on `device`."""
        # Flags and figures travel between CPUs, whatever device trains.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        return self.joined(backend=backend, timeout=TIMEOUT, advice="start the training again with --resume")

    def add(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes."""
        if self.world_size > 1:
            dist.all_reduce(tensor)

    def highest(self, values: Sequence[float]) -> list[float]:
        """The largest of all processes' values in each place."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes, in one message."""
        if self.world_size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))


def synchronise_norms(model: nn.Module, processes: Processes, *, device: torch.device) -> None:
    """Give `model` batch norms with the statistics of all processes together; its state dict stays the same."""
    if processes.world_size == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, CrossProcessNorm(child, processes))


class CrossProcessNorm(nn.Module):
    """PyTorch's `SyncBatchNorm`, which exists for CUDA alone, for the CPU; it replaces `norm` and uses its tensors."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, processes: Processes) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.eps, self.momentum, self.processes = norm.eps, norm.momentum or 0.0, processes

    def forward(self, x: Tensor) -> Tensor:
        """The normalised activations; the shape, (batch, channels, ...), is kept."""
        if not self.training:
            parts = (self.running_mean, self.running_var, self.weight, self.bias)
            return nn.functional.batch_norm(x, *parts, eps=self.eps)
        result: Tensor = _CrossProcessNorm.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return result


class _CrossProcessNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, module: CrossProcessNorm) -> Tensor:
        dims = [d for d in range(x.ndim) if d != 1]
        sums = torch.stack([x.double().sum(dims), x.double().square().sum(dims)])
        sums = torch.cat([sums.flatten(), sums.new_tensor([x.numel() / x.shape[1]])])
        module.processes.add(sums)
        count = float(sums[-1])
        mean, second = (sums[:-1] / count).view(2, -1)
        variance = second - mean**2
        inverse = torch.rsqrt(variance + module.eps)
        module.running_mean.lerp_(mean.float(), module.momentum)
        module.running_var.lerp_((variance * count / max(count - 1, 1)).float(), module.momentum)
        module.num_batches_tracked += 1
        shape = [-1 if d == 1 else 1 for d in range(x.ndim)]
        normal = (x - mean.float().view(shape)) * inverse.float().view(shape)
        ctx.save_for_backward(normal, weight, inverse)
        ctx.count, ctx.processes, ctx.dims, ctx.shape = count, module.processes, dims, shape
        result: Tensor = normal * weight.view(shape) + bias.view(shape)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normal, weight, inverse = ctx.saved_tensors
        sums = torch.stack([grad.double().sum(ctx.dims), (grad * normal).double().sum(ctx.dims)])
        grad_bias, grad_weight = sums.float()
        ctx.processes.add(sums)
        mean, slope = ((sums / ctx.count).float()[i].view(ctx.shape) for i in range(2))
        grad_x = (grad - mean - normal * slope) * (weight * inverse.float()).view(ctx.shape)
        return grad_x, grad_weight, grad_bias, None
