"""Fixtures every test may use: real music (tests/media, see SOURCES.md there) and files broken in known ways."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The suite runs as one process a core: one thread in each, and no busy waiting where a test asks for more. Said before
# anything that reads it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a shell starts in the background ignores Ctrl-C, and hands that down to every process that the tests send it to.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from launch import run_ranks as run_ranks_from
from short_music import cut
from warm import SHARED, Command, WarmProcess, WarmProcesses

from samptag.ranks import VARIABLES

MEDIA = Path(__file__).parent / "media"
FORKED = pytest.StashKey[str]()  # what is called for a Python that is forked


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep the garbage collector from looking again and again at what is imported while the tests are collected.

    Where the tests are given to several workers, make one process for all to fork from, before they start.
    """
    gc.disable()
    if session.config.pluginmanager.hasplugin("dsession") and sys.platform == "linux":
        folder = TemporaryDirectory()
        os.environ[SHARED] = folder.name
        process = WarmProcess(folder.name, {**os.environ, "PYTHONWARNINGS": "error"})
        session.config.stash[FORKED] = process.python
        session.config.add_cleanup(folder.cleanup)
        session.config.add_cleanup(process.close)  # the last is the first that is called


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Fork the workers themselves from it: together they would import for longer than what it takes to wait for it."""
    if FORKED in config.stash:
        specs[:] = [type(spec)(f"{spec}//python={config.stash[FORKED]}") for spec in specs]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Let it look at what the tests make."""
    gc.freeze()
    gc.enable()


# The same examples every time, however long each takes: a machine that is busy with other things fails no test.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


@dataclass(frozen=True)
class Music:
    """Samples float32 (frames, channels) and their rate in Hz."""

    samples: np.ndarray
    rate: int

    def part(self, seconds: float) -> np.ndarray:
        """The first seconds, all channels."""
        return self.samples[: int(seconds * self.rate)]


@cache
def _demo_music() -> Music:
    samples, rate = soundfile.read(MEDIA / "eastern-dreams.mp3", dtype="float32", always_2d=True)
    samples.setflags(write=False)
    return Music(samples, rate)


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips: eastern-dreams.mp3 (30 s), one short file of each other format, set/ (24 excerpts)."""
    return MEDIA


@pytest.fixture(scope="session")
def short_set(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first second of each of the 24 excerpts, FLAC, 24 kHz, mono."""
    folder = tmp_path_factory.mktemp("short")
    for clip in (media / "set").iterdir():
        (folder / clip.with_suffix(".flac").name).write_bytes(cut(clip, ".flac"))
    return folder


@pytest.fixture(scope="session")
def demo_clip(media: Path) -> Path:
    """30 s of music, MP3, 44.1 kHz, stereo."""
    return media / "eastern-dreams.mp3"


@pytest.fixture(scope="session")
def music() -> Music:
    """The samples of the demo clip, read-only."""
    return _demo_music()


@pytest.fixture(scope="session")
def warm_processes() -> Iterator[WarmProcesses]:
    """What starts Python processes without the imports of a cold start."""
    processes = WarmProcesses()
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def warm_environment() -> dict[str, str]:
    """Variables with which the process that commands are forked from serves other tests too."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "PYTHONWARNINGS": "error"}


StartPython = Callable[..., "Command | subprocess.Popen[bytes]"]


@pytest.fixture
def start_python(warm_processes: WarmProcesses, warm_environment: dict[str, str]) -> StartPython:
    """``start_python("-c", code, ..., env={}, cwd=)``: a running process with these arguments of Python."""

    def start(*arguments: Any, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        environment = {**warm_environment, **(env or {})}
        return warm_processes.start([*map(str, arguments)], env=environment, **options)

    return start


RunRanks = Callable[..., "list[subprocess.CompletedProcess[str]]"]


@pytest.fixture
def run_ranks(warm_processes: WarmProcesses) -> RunRanks:
    """``run_ranks(arguments, env=, world_size=2)``: see launch.py."""
    return partial(run_ranks_from, warm_processes)


WriteSound = Callable[..., Path]


@pytest.fixture
def write_sound(tmp_path: Path) -> WriteSound:
    """``write_sound("x.flac", samples=None, rate=None, **soundfile_options) -> Path`` in tmp_path.

    Without samples: the first 10 s of the demo clip. Format and coding by the suffix, as soundfile does it.
    """

    def write(name: str, samples: np.ndarray | None = None, rate: int | None = None, **options: Any) -> Path:
        demo = _demo_music()
        data = demo.part(10) if samples is None else samples
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".opus":
            options = {"format": "OGG", "subtype": "OPUS"} | options
            rate = rate or 48_000
        with path.open("wb") as file:
            options = {"format": path.suffix[1:].upper()} | options
            soundfile.write(file, data, rate or demo.rate, **options)
        return path

    return write


@pytest.fixture
def broken_file(write_sound: WriteSound, tmp_path: Path) -> Callable[[str], Path]:
    """``broken_file(name) -> Path`` of one of the broken or odd files below, made in tmp_path.

    Fail: empty.wav, text.mp3, header-only.wav, nan.wav (all samples), cut.m4a (its index is lost).
    Give sound and a warning: truncated.mp3, truncated.flac, truncated.ogg, truncated.opus, truncated.wav,
    hole.flac and hole.mp3 (garbage in the middle), some-nan.wav.
    Give sound: zeros.wav, one-sample.wav.
    """

    def make(name: str) -> Path:
        path = tmp_path / name
        stem = path.stem
        if stem == "truncated":
            data = write_sound(name).read_bytes()
            path.write_bytes(data[: len(data) // 2])
        elif stem == "hole":
            data = bytearray(write_sound(name).read_bytes())
            middle = len(data) // 2
            data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
            path.write_bytes(data)
        elif name in _WRITTEN:
            write_sound(name, samples=_WRITTEN[name](), rate=22_050, subtype="FLOAT")
        elif name in _BYTES:
            path.write_bytes(_BYTES[name]())
        else:
            raise ValueError(f"no broken file is called {name}")
        return path

    return make


def _nan_here_and_there() -> np.ndarray:
    samples = _demo_music().part(5).copy()
    samples[1000:1100, 0] = np.nan
    samples[5000, 1] = np.inf
    samples[6000] = -np.inf
    return samples


_WRITTEN: dict[str, Callable[[], np.ndarray]] = {
    "header-only.wav": lambda: np.zeros((0, 2), dtype=np.float32),
    "one-sample.wav": lambda: np.full((1, 1), 0.5, dtype=np.float32),
    "zeros.wav": lambda: np.zeros((22_050 * 4, 2), dtype=np.float32),
    "nan.wav": lambda: np.full((22_050, 2), np.nan, dtype=np.float32),
    "some-nan.wav": _nan_here_and_there,
}
_BYTES: dict[str, Callable[[], bytes]] = {
    "empty.wav": lambda: b"",
    "text.mp3": lambda: b"This is a text about music, not music.\n" * 200,
    "cut.m4a": lambda: (MEDIA / "honor-bound.m4a").read_bytes()[:12_000],
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that give up after 3 attempts and pause for no time worth mention."""
    monkeypatch.setattr("samptag.fetch.ATTEMPTS", 3)
    monkeypatch.setattr("samptag.fetch.BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr("samptag.fetch.TIMEOUT_SECONDS", 60)
