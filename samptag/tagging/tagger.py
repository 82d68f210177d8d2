"""The Tagger: the only place that joins audio, segmenter and model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO, get_args

import numpy as np
from numpy.typing import NDArray

from samptag.audio.decode import open_audio
from samptag.core.card import ModelCard
from samptag.core.device import available_cores, choose_device
from samptag.core.protocols import Tail
from samptag.core.segmenter import Segmenter
from samptag.core.weights import LoadedModel, Weights
from samptag.engine.predictor import Predictor
from samptag.errors import DeviceError, UsageError
from samptag.tagging.files import Input
from samptag.tagging.pipeline import Pipeline, Track
from samptag.tagging.result import TrackResult

Source = str | os.PathLike[str] | BinaryIO | Input
# Makes the blocks to be tagged from an input's path and its decoded blocks: as many samples, divided in any way.
Transform = Callable[[str, Iterable[NDArray[np.float32]]], Iterable[NDArray[np.float32]]]


class Tagger:
    """Tags audio of any length, one input or many, with one set of weights on one device.

    Parameters
    ----------
    loaded : Weights or LoadedModel
        What `samptag.pretrained.load_weights` or `samptag.load_model` returns.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps". "auto" takes a GPU if there is one and `expected_seconds` of music
        make it worth starting; without a GPU, torch is not imported.
    hop_seconds : float, optional
        Distance between the starts of segments, seconds; None for segments end to end.
    tail : {"overlap", "pad", "drop"}
        What becomes of the samples after the last whole segment: a further segment that ends at the last sample, one
        filled up with zeros, or nothing. An input shorter than one segment is always padded.
    batch_size : int, optional
        Segments in one pass of a GPU; None for what suits it. On a CPU, each core computes one segment at a time.
    jobs : int, optional
        Inputs decoded at the same time; None for what suits the device and the cores.
    expected_seconds : float, optional
        Length of the music that will be tagged, if it is known.

    Raises
    ------
    DeviceError
        When the device is missing or cannot be used, or has no memory left for the model.
    UsageError
        When a number is out of range.

    Examples
    --------
    >>> tagger = Tagger.from_pretrained(device="cpu")
    >>> result = tagger.tag("tests/media/eastern-dreams.mp3")
    >>> result.top(1)[0].tag
    'indian'
    """

    def __init__(
        self,
        loaded: Weights | LoadedModel,
        *,
        device: str = "auto",
        hop_seconds: float | None = None,
        tail: Tail = "overlap",
        batch_size: int | None = None,
        jobs: int | None = None,
        expected_seconds: float | None = None,
    ) -> None:
        self.card: ModelCard = loaded.card
        self.weights_sha256 = loaded.sha256 if isinstance(loaded, Weights) else None
        config = loaded.card.config
        self.length = config.input_length
        self.sample_rate = config.sample_rate
        self.hop = self.length
        if hop_seconds is not None:
            self.hop = round(hop_seconds * self.sample_rate) if math.isfinite(hop_seconds) else 0
            if self.hop < 1:
                raise UsageError(f"the hop must be at least one sample, 1/{self.sample_rate} s, not {hop_seconds} s")
        if tail not in get_args(Tail):
            raise UsageError(f"unknown tail {tail!r}; choose {', '.join(get_args(Tail))}")
        self.tail: Tail = tail
        for name, number in (("batch size", batch_size), ("jobs", jobs)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}")
        self.device = choose_device(device, seconds=expected_seconds)
        model = loaded if isinstance(loaded, Weights) else loaded.model
        expected = None if expected_seconds is None else expected_seconds * self.sample_rate / self.hop
        with _memory_of(self.device):
            self._predictor = Predictor(model, device=self.device, batch_size=batch_size, expected_segments=expected)
        self.jobs = jobs or _default_jobs(self.device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "samplecnn-3-9-library",
        *,
        device: str = "auto",
        hop_seconds: float | None = None,
        tail: Tail = "overlap",
        batch_size: int | None = None,
        jobs: int | None = None,
        expected_seconds: float | None = None,
    ) -> Tagger:
        """A Tagger with weights by name, from the registry or the user's imports, or from the path of a file.

        The other parameters and errors are those of the class.

        Raises
        ------
        WeightsError
            When there are no such weights, or they cannot be used.
        """
        from samptag.pretrained import load_weights

        return cls(
            load_weights(name_or_path),
            device=device,
            hop_seconds=hop_seconds,
            tail=tail,
            batch_size=batch_size,
            jobs=jobs,
            expected_seconds=expected_seconds,
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """The model's tags, in the order of its outputs."""
        return self.card.tags

    def tag(self, source: Source) -> TrackResult:
        """The tags of one input, with its taggram and its mean embedding.

        Parameters
        ----------
        source : str, path or binary file object
            The audio, in any format, with any rate and number of channels, that can be decoded.

        Raises
        ------
        AudioError
            When it cannot be decoded or holds no sound.
        """
        (track,) = self._pipeline([source], taggram=True, jobs=1).tracks()
        result = track.result(card=self.card, weights_sha256=self.weights_sha256)
        if track.error is not None:
            raise track.error
        return result

    def tag_many(
        self,
        sources: Iterable[Source],
        *,
        taggram: bool = True,
        on_seconds: Callable[[float], None] | None = None,
        transform: Transform | None = None,
    ) -> Generator[TrackResult, None, None]:
        """The results of many inputs, in order, each as soon as it is ready; a bad input never ends the run.

        Peak memory depends neither on the number nor on the length of inputs, except for the taggrams of those in
        progress: 200 bytes a segment with 50 tags. Closing the iterator ends the workers.

        Parameters
        ----------
        sources : iterable
            As for `tag`; taken one at a time, in other threads, as they are needed.
        taggram : bool
            Whether results keep the scores of every segment.
        on_seconds : callable, optional
            Called, from other threads, with the seconds of audio that have been decoded since the last call. There
            is no total: the length of an input is known only at its end.
        transform : callable, optional
            Changes an input's mono waveform, at the model's rate, before it is tagged: called, in other threads, with
            the input's path and an iterable of blocks, it returns an iterable of blocks.

        Yields
        ------
        TrackResult
            With `error` set if the input could not be tagged.

        Raises
        ------
        DeviceError
            When the device runs out of memory.
        """
        pipeline = self._pipeline(sources, taggram=taggram, jobs=self.jobs, on_seconds=on_seconds, transform=transform)
        with closing(pipeline.tracks()) as tracks:
            for track in tracks:
                yield track.result(card=self.card, weights_sha256=self.weights_sha256)

    def _pipeline(
        self,
        sources: Iterable[Source],
        *,
        taggram: bool,
        jobs: int,
        on_seconds: Callable[[float], None] | None = None,
        transform: Transform | None = None,
    ) -> Pipeline:
        return Pipeline(
            map(_as_input, sources),
            decode=lambda track: self._segments(track, on_seconds, transform),
            predict=self._predict,
            jobs=jobs,
            batch_size=self._predictor.batch_size,
            fill_batches=self.device != "cpu",
            keep_taggram=taggram,
        )

    def _segments(
        self, track: Track, on_seconds: Callable[[float], None] | None, transform: Transform | None
    ) -> Generator[NDArray[np.float32], None, None]:
        """The segments of a track's input, a few at a time; fills in the track's fields on the way."""
        segmenter = Segmenter(self.length, hop=self.hop, tail=self.tail)
        # With a short hop, one block of samples makes many segments; a step makes at most a batch of them.
        step = self.hop * self._predictor.batch_size
        track.warnings = []
        with open_audio(track.input.source, sample_rate=self.sample_rate) as stream:
            try:
                for block in stream if transform is None else transform(track.input.path, stream):
                    for start in range(0, len(block), step):
                        yield segmenter.push(block[start : start + step])
                    if on_seconds is not None:
                        on_seconds(stream.duration - track.duration)
                    track.duration = stream.duration
            finally:
                track.sample_rate = stream.native_rate
                track.duration = stream.duration
                track.warnings = list(stream.warnings)
        last = segmenter.finish()
        track.padded = segmenter.padded
        if track.keep_taggram:
            track.starts = segmenter.starts() / self.sample_rate
        yield last

    def _predict(self, segments: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with _memory_of(self.device):
            return self._predictor(segments)


@contextmanager
def _memory_of(device: str) -> Iterator[None]:
    """Turn a MemoryError on `device` into a DeviceError with advice."""
    try:
        yield
    except MemoryError as error:
        advice = "use a smaller --batch-size" if device != "cpu" else "set OMP_NUM_THREADS=1 to need less"
        raise DeviceError(f"out of memory on {device}; {advice}") from error


def _as_input(source: Source) -> Input:
    if isinstance(source, Input):
        return source
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return Input(path=path, source=path)
    name = getattr(source, "name", None)
    return Input(path=name if isinstance(name, str) else "-", source=source)


def _default_jobs(device: str) -> int:
    # Decoding took 0.11 of the CPU time that the 3^9 model takes for the same music (44.1 kHz stereo MP3), so workers
    # for half the cores never keep it waiting; two of them keep a slow file from holding up the rest.
    cores = available_cores()
    return max(2, cores // 2 if device == "cpu" else cores)
