"""A network as its torch module, in batches: on GPUs, and on the CPU where there is no NumPy form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from samptag.core.model import SampleCNN
from samptag.engine.folding import fold

__all__ = ["BATCH", "TorchModel"]

# Segments in one pass. On the CPU one is best, because its activations stay in the cache (Conv2d of height one,
# channels-last, 2 cores: 71 segments/s at 1, 49 at 8). On CUDA 64 segments of half precision take about 1 GB in the
# widest layer, which small cards still have. Not measured on a GPU.
BATCH = {"cpu": 1, "cuda": 64, "mps": 16}

Floats = NDArray[np.float32]


class TorchModel:
    """The module with its batch normalisations folded in, ready to score batches on one device.

    Parameters
    ----------
    model : SampleCNN
        The network; it is left as it is, and later changes to it do not reach this copy.
    device : str
        Where to compute.
    batch_size : int or None
        Segments in one pass; None for what suits the device.
    dtype : torch.dtype or None
        Precision; None for the one that keeps scores within 1e-3 of float32 at the device's best speed: float16 on
        CUDA (its 11 significant bits keep the scores, bfloat16's 8 do not), float32 elsewhere (on the CPU bfloat16
        measured slower even with AVX-512, and MPS gains little).
    """

    def __init__(
        self, model: SampleCNN, device: str, *, batch_size: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self._device = torch.device(device)
        self._on_cuda = self._device.type == "cuda"
        self._dtype = dtype or (torch.float16 if self._on_cuda else torch.float32)
        self._model = fold(model).to(self._device, self._dtype)
        self.batch_size = batch_size or BATCH[self._device.type]

    def embed(self, segments: Floats) -> Floats:
        """The embeddings, (k, embedding_size) float32, of segments, (k, input_length) float32; k at least 1.

        Raises
        ------
        MemoryError
            The device is out of memory.
        """
        try:
            with torch.inference_mode():
                waveforms = torch.from_numpy(np.require(segments, requirements=["C", "W"]))
                parts = [self._embed(batch) for batch in torch.split(waveforms, self.batch_size)]
                embeddings: Floats = torch.cat(parts).float().cpu().numpy()
                return embeddings
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        except RuntimeError as error:
            # PyTorch's CPU allocator has no exception of its own.
            if "allocate memory" in str(error) or "not enough memory" in str(error):
                raise MemoryError(str(error)) from error
            raise

    def _embed(self, batch: torch.Tensor) -> torch.Tensor:
        # A copy from pinned memory is queued behind the batch before, and this thread goes on to the next.
        batch = batch.pin_memory() if self._on_cuda else batch
        embeddings: torch.Tensor = self._model.embed(batch.to(self._device, self._dtype, non_blocking=self._on_cuda))
        return embeddings
