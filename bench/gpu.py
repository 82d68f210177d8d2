"""What a GPU makes of samptag, in at most six minutes: ``python -m bench gpu --json gpu.json``.

Four parts, one table:

- ``scores``: half precision on the device against the CPU's float32, for music as it is and far beyond full scale;
- ``model``: the model alone, beside what the device's measured memory and matrix speeds allow it;
- ``library``: MP3s end to end, beside the same pipeline without a model, which shows whether decoding is the limit;
- ``training``: whole `samptag train` commands, then steps eager, compiled and as CUDA graphs.

A speed that misses its goal is a finding; scores that differ, or a part that fails, end the command with exit code 1.
Every figure is in the file as soon as it is known. ``--device cpu`` runs all of it but the CUDA graphs, to no purpose
but a test of this program.
"""

import argparse
import csv
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench import machine
from bench.library import make_library, sources
from bench.limits import MEDIA
from bench.process import timed
from samptag.audio.resample import resample
from samptag.core.device import select_device
from samptag.core.model import SampleCNN
from samptag.core.weights import Weights
from samptag.engine.predictor import Predictor
from samptag.engine.torch_model import BATCH, TorchModel, fold
from samptag.errors import SamptagError
from samptag.files import atomic_write
from samptag.pretrained import load_weights
from samptag.tagging.tagger import Tagger

Work = Callable[[], object]
Floats = np.ndarray

TOLERANCE = 1e-3
MODEL_GOAL = 20_000.0  # segments a second on an H100
TRAINING_GOAL = 5_000.0
BEYOND_FULL_SCALE = 10_000.0
LIBRARY_RATE = 44_100


@dataclass
class Row:
    """One line of the table; `value` is None where something failed, and `note` says what."""

    part: str
    name: str
    value: float | None
    unit: str
    goal: float | None = None
    note: str = ""


@dataclass
class Run:
    """What all parts share: the options, the weights, the device, some music, and the table."""

    options: argparse.Namespace
    device: torch.device
    weights: Weights
    pool: list[Floats]
    segments: Floats
    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def half(self) -> torch.dtype:
        """The precision of tagging on CUDA; the CPU's float16 has no speed to measure."""
        return torch.float16 if self.device.type == "cuda" else torch.float32

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Take in a `Row`, write the file, and tell it on standard error."""
        row = Row(*args, **kwargs)
        self.rows.append(row)
        self.write()
        sys.stderr.write(line(row) + "\n")

    @contextmanager
    def noting_failure(self, *place: str) -> Iterator[None]:
        """A figure that cannot be had, by whatever error, costs no other figure."""
        try:
            yield
        except (Exception, SystemExit) as error:  # a command that failed is told as SystemExit
            told = (str(error).strip() or repr(error)).splitlines()
            self.add(*place, None, "", note=" ... ".join(["failed", told[0][:200], told[-1][:200]]))

    def value(self, part: str, name: str) -> float | None:
        """A figure that was found before."""
        return next((row.value for row in self.rows if (row.part, row.name) == (part, name)), None)

    def write(self) -> None:
        """Bring the file up to date."""
        if self.options.json is not None:
            found = {"machine": machine.describe(), "device": str(self.device), "seconds": self.seconds}
            text = json.dumps(found | {"rows": [asdict(row) for row in self.rows]}, indent=2)
            with atomic_write(self.options.json) as file:
                file.write((text + "\n").encode())


def line(row: Row) -> str:
    """A row for people."""
    value = "-" if row.value is None else f"{row.value:.2g}" if row.value < 1 else f"{row.value:,.1f}"
    goal = "" if row.goal is None else f"goal {row.goal:,g}"
    return f"{row.part:9} {row.name:38} {value:>12} {row.unit:11} {goal:12} {row.note}".rstrip()


# ---- measuring


def seconds_each(work: Work, run: Run) -> float:
    """Least seconds of one `work` of many that are queued one behind the other and waited for together."""

    def passed(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            work()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        return time.perf_counter() - started

    passed(2)
    count = 1
    while (seconds := passed(count)) < run.options.seconds:
        count *= 2
    return min(seconds, passed(count), passed(count)) / count


def graphed(work: Work) -> Work:
    """`work` recorded once and played back: the device computes the same, the host launches one thing."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def compare_ways(
    run: Run,
    part: str,
    forward: Callable[[Tensor], Tensor],
    work_of: Callable[[Callable[[Tensor], Tensor]], Work],
    *,
    batch: int,
    goal: float,
) -> None:
    """Segments a second of the work made of `forward`, in each of the ways that PyTorch has to run it."""
    ways: dict[str, Callable[[], Work]] = {
        "eager": lambda: work_of(forward),
        "CUDA graph": lambda: graphed(work_of(forward)),
        "compiled": lambda: work_of(torch.compile(forward, dynamic=False)),
        "compiled, CUDA graph": lambda: graphed(work_of(torch.compile(forward, dynamic=False))),
    }
    for way, make in ways.items():
        if way in run.options.ways and (run.device.type == "cuda" or "graph" not in way):
            name = f"{way}, batch {batch}"
            with run.noting_failure(part, name):
                run.add(part, name, batch / seconds_each(make(), run), "segments/s", goal)


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, each tensor once an operation; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        return result


# ---- the parts


def scores(run: Run) -> None:
    """Half precision on the device, through all that a Predictor does there, against the CPU."""
    module = run.weights.to_module()
    on_cpu = Predictor(run.weights)
    on_device = TorchModel(module, str(run.device), batch_size=run.options.batch, dtype=torch.float16)
    for name, scale in (("largest difference", 1.0), ("the same, music 10 000 times as loud", BEYOND_FULL_SCALE)):
        segments = run.segments * np.float32(scale)
        with run.noting_failure("scores", name), torch.inference_mode():
            found = module.classify(torch.from_numpy(on_device.embed(segments))).sigmoid().numpy()
            if not np.isfinite(found).all():
                raise ArithmeticError("the device gives scores that are no numbers")
            difference = float(np.abs(found - on_cpu(segments)[0]).max())
            run.add("scores", name, difference, "", TOLERANCE, note=f"{len(segments)} segments of real music")


def model(run: Run) -> None:
    """The model alone on batches that are on the device already, then with their way there."""
    batch, device = run.options.batch, run.device
    module = fold(run.weights.to_module()).to(device, run.half)
    with torch.inference_mode():
        memory, matrix = memory_speed(run), matrix_speed(run)
        run.add("model", "memory, copying", memory / 1e9, "GB/s", note="read and written")
        run.add("model", "matrix products", matrix / 1e12, "TFLOP/s", note=str(run.half))
        waveforms = torch.from_numpy(np.resize(run.segments, (batch, run.segments.shape[1]))).to(device, run.half)
        with (
            torch.inference_mode(False),  # in it, PyTorch 2.4 counts nothing
            torch.no_grad(),
            FlopCounterMode(display=False) as flops,
            Traffic() as traffic,
        ):
            module.embed(waveforms)
        moved, computed = traffic.bytes / batch, flops.get_total_flops() / batch
        note = f"{moved / 1e6:.1f} MB a segment, operation by operation"
        run.add("model", "what memory allows", memory / moved, "segments/s", note=note)
        note = f"{computed / 1e9:.2f} GFLOP a segment"
        run.add("model", "what matrix products allow", matrix / computed, "segments/s", note=note)
        for size in (max(1, batch // 4), batch * 4):
            x = waveforms.repeat(-(-size // batch), 1)[:size]
            with run.noting_failure("model", f"eager, batch {size}"):
                each = seconds_each(lambda x=x: module.embed(x), run) / size
                run.add("model", f"eager, batch {size}", 1 / each, "segments/s", MODEL_GOAL)
        compare_ways(
            run, "model", module.embed, lambda forward: lambda: forward(waveforms), batch=batch, goal=MODEL_GOAL
        )
    whole = TorchModel(run.weights.to_module(), str(device), batch_size=batch)
    segments = np.resize(run.segments, (4 * batch, run.segments.shape[1]))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    each = seconds_each(lambda: whole.embed(segments), run) / len(segments)
    run.add("model", "with copies, as the Tagger runs it", 1 / each, "segments/s", MODEL_GOAL)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e9
        run.add("model", f"peak memory, batch {batch}", peak, "GB", note="with the weights, and those above")


def memory_speed(run: Run) -> float:
    """Bytes a second that a copy within the device's memory reads and writes, counted together."""
    source = torch.zeros(2**28 if run.device.type == "cuda" else 2**22, device=run.device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / seconds_each(lambda: target.copy_(source), run)


def matrix_speed(run: Run) -> float:
    """FLOP/s of a large square product in the model's precision."""
    size = 8192 if run.device.type == "cuda" else 512
    a, b, out = (torch.randn(size, size, device=run.device).to(run.half) for _ in range(3))
    return 2 * size**3 / seconds_each(lambda: torch.mm(a, b, out=out), run)


class DecodeOnly(Tagger):
    """A Tagger whose pipeline does all but compute the model."""

    def _predict(self, segments: Floats) -> tuple[Floats, Floats]:
        k = len(segments)
        return np.zeros((k, len(self.tags)), np.float32), np.zeros((k, self.card.config.embedding_size), np.float32)


def library(run: Run) -> None:
    """MP3s end to end, beside decoding alone with all threads and with one."""
    options = run.options
    with tempfile.TemporaryDirectory() as scratch:
        paths = linked_library(Path(scratch), run)
        one = paths[: max(1, len(paths) // options.links)]

        def rate(tagger: Tagger, paths: list[Path]) -> float:
            """Segments a second, the second time over the first file: nothing of the start-up is in it."""
            list(tagger.tag_many(paths[:1], taggram=False))
            started = time.perf_counter()
            found = list(tagger.tag_many(paths, taggram=False))
            if failed := [result.error for result in found if result.error is not None]:
                raise RuntimeError(f"{len(failed)} inputs failed, the first with {failed[0]}")
            return sum(result.segments for result in found) / (time.perf_counter() - started)

        whole = Tagger(run.weights, device=str(run.device))
        end_to_end = rate(whole, paths)
        decoding = rate(DecodeOnly(run.weights, device=str(run.device)), paths)
        single = rate(DecodeOnly(run.weights, device=str(run.device), jobs=1), one)
    alone = run.value("model", "with copies, as the Tagger runs it")
    share = "" if alone is None else f", {end_to_end / alone:.0%} of the model with copies"
    run.add("library", "end to end", end_to_end, "segments/s", note=f"{end_to_end / decoding:.0%} of decoding{share}")
    run.add("library", f"decoding alone, {whole.jobs} threads", decoding, "segments/s")
    run.add("library", "decoding alone, 1 thread", single, "segments/s")
    scaling = decoding / (single * min(whole.jobs, machine.available_cores()))
    run.add("library", "decoding threads, of perfect scaling", scaling, "", note="well below 1: processes would pay")


def linked_library(folder: Path, run: Run) -> list[Path]:
    """Tracks of `--hours` of music, each under `--links` names: encoding takes longer than all that reads it."""
    made, linked = folder / "made", folder / "linked"
    make_library(made, run.pool, suffix=".mp3", hours=run.options.hours, track_seconds=run.options.track_seconds)
    linked.mkdir()
    for number in range(run.options.links):
        for path in made.iterdir():
            (linked / f"{number:03d}-{path.name}").hardlink_to(path)
    return sorted(linked.iterdir())


def training(run: Run) -> None:
    """Whole commands, then steps of forward, loss, backward and SGD on a batch that stays on the device."""
    with tempfile.TemporaryDirectory() as scratch:
        data = training_set(Path(scratch), run)
        for way, option in (("eager", []), ("compiled", ["--compile"])):
            if way in run.options.ways:
                name = f"samptag train, {way}, batch {run.options.train_batches[-1]}"
                with run.noting_failure("training", name):
                    run.add("training", name, trained(data, run, option), "segments/s", TRAINING_GOAL)
    config = run.weights.card.config
    for batch in run.options.train_batches:
        net = SampleCNN(config).to(run.device).train()
        optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True)
        waveforms = torch.from_numpy(np.resize(run.segments, (batch, config.input_length))).to(run.device)
        labels = torch.rand(batch, config.n_tags, device=run.device).round()

        def step_of(
            forward: Callable[[Tensor], Tensor],
            optimiser: torch.optim.Optimizer = optimiser,
            waveforms: Tensor = waveforms,
            labels: Tensor = labels,
        ) -> Work:
            def step() -> None:
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda"):
                    logits = forward(waveforms)
                F.binary_cross_entropy_with_logits(logits.float(), labels).backward()
                optimiser.step()

            return step

        compare_ways(run, "training", net, step_of, batch=batch, goal=TRAINING_GOAL)


def training_set(folder: Path, run: Run) -> Path:
    """A manifest of the linked library, a tenth of it for validation, with tags drawn at random."""
    manifest, generator = folder / "manifest.csv", np.random.default_rng(0)
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", "tags"))
        for number, path in enumerate(linked_library(folder, run)):
            drawn = [tag for tag in ("a", "b", "c") if generator.random() < 0.5]
            writer.writerow((path, "train" if number % 10 else "valid", json.dumps(drawn)))
    return manifest


def trained(data: Path, run: Run, more: list[str]) -> float:
    """Segments a second in the last epoch of a `samptag train` command: compilation is over by then."""
    options = run.options
    out = data.parent / "-".join(["run", *more])
    timed([
        sys.executable, "-m", "samptag", "train", "--data", data, "--out", out, "--cache", data.parent / "cache",
        "--model", run.weights.card.config.name, "--device", str(run.device), "--epochs", str(options.epochs),
        "--batch-size", str(options.train_batches[-1]), "--no-progress", *more,
    ])  # fmt: skip
    records = [json.loads(text) for text in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return float(records[-1]["segments_per_second"])


PARTS = {"scores": scores, "model": model, "library": library, "training": training}
WAYS = ("eager", "CUDA graph", "compiled", "compiled, CUDA graph")


# ---- the command


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or mps")
    parser.add_argument("--weights", default="samplecnn-3-9-mtat50", help="by name or path")
    parser.add_argument("--music", type=Path, default=MEDIA, help="folder of music that everything is made from")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--minutes", type=float, default=6.0, help="stop after so long, with what there is")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts by name")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of running the model")
    parser.add_argument("--batch", type=int, default=BATCH["cuda"], help="segments in one pass of the model")
    parser.add_argument("--segments", type=int, default=96, help="how many are scored on the CPU, too")
    parser.add_argument("--seconds", type=float, default=0.5, help="a speed is measured for at least so long")
    parser.add_argument("--hours", type=float, default=0.5, help="of different music in the library")
    parser.add_argument("--links", type=int, default=20, help="how often each of its tracks is in it")
    parser.add_argument("--track-seconds", type=float, default=220.0, help="average length of its tracks")
    parser.add_argument("--train-batches", type=int, nargs="+", default=[32, 256], help="segments a step")
    parser.add_argument("--epochs", type=int, default=4, help="of whole training commands, which use the last batch")
    return parser.parse_args(arguments)


def excerpts(pool: list[Floats], weights: Weights, count: int) -> Floats:
    """`count` different segments of the music, (count, input_length) float32, mono at the model's rate."""
    config = weights.card.config
    mono = np.concatenate([resample(piece.mean(axis=1), LIBRARY_RATE, config.sample_rate) for piece in pool])
    starts = np.linspace(0, len(mono) - config.input_length, count).astype(int)
    return np.stack([mono[start : start + config.input_length] for start in starts])


def out_of_time(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> None:
    """Run the parts and print the table."""
    given = options(arguments)
    try:
        weights, pool, device = load_weights(given.weights), sources(given.music), select_device(given.device)
    except SamptagError as error:
        sys.exit(str(error))
    run = Run(given, device, weights, pool, excerpts(pool, weights, given.segments))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    before = {number: signal.signal(number, out_of_time) for number in (signal.SIGALRM, signal.SIGTERM)}
    signal.setitimer(signal.ITIMER_REAL, given.minutes * 60)
    stopped = False
    try:
        for name in given.only:
            started = time.perf_counter()
            with run.noting_failure(name, "the whole part"):
                PARTS[name](run)
            run.seconds[name] = time.perf_counter() - started
            run.write()
    except KeyboardInterrupt:
        stopped = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in run.seconds.items())
    print("\n".join([machine.header(), *map(line, run.rows), took]), flush=True)
    if stopped:
        sys.exit("stopped early: the table holds what was finished, --only NAME and --minutes N do the rest")
    wrong = [row for row in run.rows if row.value is None or (row.part == "scores" and not row.value <= TOLERANCE)]
    if wrong:
        sys.exit("\n".join(["not as it should be:", *map(line, wrong)]))
