"""The machine's own limits: float32 matrix products for the network's multiply-adds, decoding, resampling.

Nothing that tags music on this machine can be faster than the sum of the three; ``bench tag`` divides by it.
Every figure is for all cores together and is the best of several tries, because a limit is what can be reached.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import machine
from bench.library import make_library, sources
from samptag.core.device import available_cores

MEDIA = Path(__file__).resolve().parents[1] / "tests" / "media"
# Square products, and the shape of the third body module of 3^9: (frames, 3 x 128) x (3 x 128, 256).
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (2187, 384, 256))


@dataclass(frozen=True)
class Limits:
    """What the machine can do with all its cores, in seconds of sound a second where not said otherwise."""

    flops: float  # float32 multiply-adds count twice
    segment_flops: float
    segment_seconds: float
    decode: float
    resample: float

    @property
    def net(self) -> float:
        """Real-time factor of the network at the matrix-product peak."""
        return self.flops / self.segment_flops * self.segment_seconds

    def seconds(self, durations: list[float]) -> float:
        """The least time in which tracks of `durations` seconds can be decoded, resampled and computed."""
        segments = sum(math.ceil(duration / self.segment_seconds) for duration in durations)
        return segments * self.segment_flops / self.flops + sum(durations) * (1 / self.decode + 1 / self.resample)


def best_seconds(work: Callable[[], object], *, tries: int = 5, at_least: float = 0.2) -> float:
    """Least seconds of one `work`, each try repeating it for `at_least` seconds."""
    work()
    best = float("inf")
    for _ in range(tries):
        count, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < at_least or count == 0:
            work()
            count += 1
        best = min(best, passed / count)
    return best


def matrix_peak() -> float:
    """Float32 FLOP/s of the fastest of a few matrix products with all threads."""
    import torch

    torch.set_num_threads(available_cores())
    peak = 0.0
    for rows, inner, columns in SHAPES:
        a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
        seconds = best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        peak = max(peak, 2 * rows * inner * columns / seconds)
    return peak


def segment_flops(name: str = "samplecnn-3-9") -> tuple[float, float]:
    """FLOP of one forward pass of the named network, and the seconds of sound it sees."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from samptag.core.model import SampleCNN, config_from_name

    config = config_from_name(name)
    model = SampleCNN(config).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, config.input_length))
    return float(counter.get_total_flops()), config.input_length / config.sample_rate


def on_all_cores(work: Callable[[], float]) -> float:
    """Sound seconds a second when every core runs `work`, which returns the sound seconds it went through."""
    with ThreadPoolExecutor(available_cores()) as pool:
        rates = []
        for _ in range(3):
            started = time.perf_counter()
            sound = sum(future.result() for future in [pool.submit(work) for _ in range(available_cores())])
            rates.append(sound / (time.perf_counter() - started))
    return max(rates)


def decode_rate(paths: list[Path]) -> float:
    """Real-time factor of libsndfile over `paths` into float32 blocks, nothing else done with them."""
    import soundfile as sf

    def work() -> float:
        sound = 0.0
        for path in paths:
            with sf.SoundFile(path) as file:
                block = np.empty((65_536, file.channels), np.float32)
                while len(read := file.read(out=block)):
                    sound += len(read) / file.samplerate
        return sound

    return on_all_cores(work)


def resample_rate(native_rate: int, sample_rate: int) -> float:
    """Real-time factor of samptag's resampler, fed blocks of 65 536 samples of noise."""
    from samptag.audio.resample import Resampler

    block = np.random.default_rng(0).standard_normal(65_536).astype(np.float32)

    def work() -> float:
        resampler = Resampler(native_rate, sample_rate)
        for _ in range(200):
            resampler.push(block)
        return 200 * len(block) / native_rate

    work()
    return on_all_cores(work)


def measure(paths: list[Path], *, native_rate: int = 44_100, model: str = "samplecnn-3-9") -> Limits:
    """All limits for a library like `paths` at `native_rate`."""
    flops, seconds = segment_flops(model)
    return Limits(
        flops=matrix_peak(),
        segment_flops=flops,
        segment_seconds=seconds,
        decode=decode_rate(paths),
        resample=resample_rate(native_rate, 22_050),
    )


def main(arguments: list[str]) -> None:
    """Print what this machine can do."""
    parser = argparse.ArgumentParser(prog="bench limits", description=__doc__)
    parser.add_argument("--music", type=Path, default=MEDIA, help="folder of music the test files are made from")
    options = parser.parse_args(arguments)
    print(machine.header())
    pool = sources(options.music)
    print(f"{'':14}{'net':>9}{'decode':>9}{'resample':>9}{'all three':>10}   times real time, all cores")
    for suffix in (".mp3", ".flac", ".ogg"):
        with tempfile.TemporaryDirectory() as folder:
            make_library(Path(folder), pool, suffix=suffix, hours=0.1, track_seconds=120)
            limits = measure(sorted(Path(folder).iterdir()))
        rates = (limits.net, limits.decode, limits.resample, 3600 / limits.seconds([3600.0]))
        print(f"44.1 kHz {suffix[1:]:5}" + "".join(f"{rate:9.0f}" for rate in rates))
    for rate in (16_000, 32_000, 44_100, 48_000, 96_000):
        print(f"resample {rate:6d} -> 22050: {resample_rate(rate, 22_050):6.0f} times real time")
