"""Whether 8-bit arithmetic pays on the CPU: the network's convolutions quantised by PyTorch against samptag's own path.

Static quantisation, calibrated on real music: the front end stays float32 (three multiply-adds a channel), every
convolution after it takes and gives 8 bits, pooling and ReLU stay between them, the classifier is float32 again. One
thread, processor time, the two in turn; printed are the ratio and by how much scores differ, and for a data set
(``--data``) what becomes of ROC-AUC and PR-AUC.

PyTorch's quantised tensors are deprecated since 2.13, so this is a measurement and not a path of samptag's.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import machine
from bench.limits import MEDIA
from samptag.audio.decode import open_audio
from samptag.core.model import SampleCNN
from samptag.engine.predictor import Predictor
from samptag.engine.torch_model import fold
from samptag.evaluation import Scoring, evaluate
from samptag.evaluation.report import Macro
from samptag.pretrained import load_model
from samptag.tagging.files import expand_inputs
from samptag.tagging.tagger import Tagger

_LEVELS = 255


def segments(music: Path, *, length: int, sample_rate: int) -> Tensor:
    """The whole segments of every readable file under `music`, (k, length)."""
    found = []
    for item in expand_inputs([music]):
        with open_audio(item.path, sample_rate=sample_rate) as stream:
            samples = np.concatenate([np.zeros(0, np.float32), *stream])
        found.append(samples[: len(samples) // length * length].reshape(-1, length))
    return torch.from_numpy(np.concatenate(found))


class Quantised:
    """3^9 in 8 bits between its front end and its classifier.

    Parameters
    ----------
    model : SampleCNN
        A network of plain blocks.
    music : Tensor
        Segments whose largest activations set the scales.
    """

    def __init__(self, model: SampleCNN, music: Tensor) -> None:
        self.net = fold(model)
        self.blocks = [*self.net.body, self.net.top]
        peaks = [0.0] * (len(self.blocks) + 1)
        for segment in music:
            x = self.net.front(segment[None])
            for i, block in enumerate(self.blocks):
                peaks[i] = max(peaks[i], float(x.max()))
                x = block(x)
            peaks[-1] = max(peaks[-1], float(x.max()))
        self.scales = [max(peak, 1e-6) / _LEVELS for peak in peaks]
        self.layers = [
            self._layer(block.conv, scale) for block, scale in zip(self.blocks, self.scales[1:], strict=True)
        ]

    @staticmethod
    def _layer(conv: torch.nn.Module, scale: float) -> torch.ao.nn.quantized.Conv1d:
        weight = conv.weight.detach().reshape(*conv.weight.shape[:2], -1)
        steps = weight.abs().amax((1, 2)).clamp_min(1e-8) / 127
        zeros = torch.zeros(len(steps), dtype=torch.long)
        n_out, n_in, kernel = weight.shape
        layer = torch.ao.nn.quantized.Conv1d(n_in, n_out, kernel, padding=(kernel - 1) // 2)
        layer.set_weight_bias(torch.quantize_per_channel(weight, steps, zeros, 0, torch.qint8), conv.bias.detach())
        # With a zero point of 0 negative results are cut off: the ReLU costs nothing.
        layer.scale, layer.zero_point = scale, 0
        return layer

    def __call__(self, segment: Tensor) -> Tensor:
        """Scores of one segment, (length,) -> (tags,)."""
        x = self.net.front(segment[None]).reshape(1, -1, len(segment) // self.net.config.first_stride)
        x = torch.quantize_per_tensor(x, self.scales[0], 0, torch.quint8)
        for layer, block in zip(self.layers, self.blocks, strict=True):
            x = layer(x)
            if block.pool_length > 1:
                x = F.max_pool1d(x, block.pool_length)
        return torch.sigmoid(self.net.head(x.dequantize()[0, :, 0]))


class QuantisedPredictor:
    """The predictor's interface over a quantised network, so that everything around it stays samptag's own."""

    batch_size = 24

    def __init__(self, quantised: Quantised) -> None:
        self.quantised = quantised

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of (k, length) segments; embeddings of no width."""
        with torch.inference_mode():
            scores = torch.stack([self.quantised(segment) for segment in torch.from_numpy(batch)])
        return scores.numpy(), np.empty((len(batch), 0), np.float32)


def macro(tagger: Tagger, options: argparse.Namespace) -> Macro:
    """How well the tagger ranks the tags of the data set that the command line names."""
    scoring = Scoring(min_positives=options.min_positives, resamples=1)
    return evaluate(options.data, model=tagger, part=options.part, scoring=scoring).macro


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


@torch.inference_mode()
def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench int8", description=__doc__.splitlines()[0])
    parser.add_argument("--music", type=Path, default=MEDIA, help="folder of real music")
    parser.add_argument("--model", default="samplecnn-3-9-mtat50", help="weights, by name or path")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="a data set to rank tags on, as `samptag eval` takes it")
    parser.add_argument("--part", default="test", help="train, valid or test")
    parser.add_argument("--min-positives", type=int, default=4, help="tags with fewer positive clips do not count")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    config = loaded.card.config
    music = segments(options.music, length=config.input_length, sample_rate=config.sample_rate)
    ours = Predictor(loaded.model, threads=1)
    quantised = Quantised(loaded.model, music[::2])
    unseen = music[1::2]
    expected, _ = ours(unseen.numpy())
    found = torch.stack([quantised(segment) for segment in unseen]).numpy()
    rounds = [
        (cpu_seconds(lambda: ours(unseen.numpy())), cpu_seconds(lambda: [quantised(segment) for segment in unseen]))
        for _ in range(options.rounds)
    ]
    float32, int8 = (1e3 * statistics.median(column) / len(unseen) for column in zip(*rounds, strict=True))
    print(machine.header())
    print(f"a segment of {config.name}, 1 thread, processor time: float32 {float32:.1f} ms, int8 {int8:.1f} ms")
    print(f"int8 is {float32 / int8:.2f} times as fast (in turn, {options.rounds} rounds of {len(unseen)} segments)")
    apart = np.abs(found - expected)
    print(f"scores differ by {apart.mean():.4f} on average, {apart.max():.3f} at most")
    if options.data:
        tagger = Tagger(loaded, device="cpu")
        before = macro(tagger, options)
        tagger._predictor = QuantisedPredictor(quantised)
        after = macro(tagger, options)
        print(f"macro ROC-AUC {before.roc_auc:.4f}, int8 {after.roc_auc - before.roc_auc:+.4f}")
        print(f"macro PR-AUC {before.pr_auc:.4f}, int8 {after.pr_auc - before.pr_auc:+.4f}")
