"""Everything the recipe makes of a track, a file each, so that a stopped run goes on where it was."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipes.samplecnn_3_9_mtat50.collection import Track
from samptag.audio.decode import SCALE, int16_blocks, open_audio
from samptag.errors import AudioError
from samptag.files import atomic_write

__all__ = ["SAMPLE_RATE", "SCALE", "SEGMENT", "MixtureFiles", "Store", "write_array", "write_labels"]

SAMPLE_RATE = 22_050
SEGMENT = 59_049  # samples the student hears: 3^9 frames of 3
# Tracks of folders without a table are whole albums' worth of one game; the first minutes of each say most of it.
_LONGEST_SECONDS = 240


class MixtureFiles(NamedTuple):
    """Where some mixtures are; see `mixtures`.

    Attributes
    ----------
    audio : Path
        int16, (mixtures, samples), at 22 050 Hz.
    logits, embeddings : Path
        As `Store` keeps them for segments, one a mixture.
    """

    audio: Path
    logits: Path
    embeddings: Path


@dataclass(frozen=True)
class Store:
    """The work folder.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def audio_file(self, track: Track) -> Path:
        """Its samples: int16, (samples,), at 22 050 Hz."""
        return self._file("audio", track)

    def logits_file(self, track: Track) -> Path:
        """The teacher's logits of its segments, each half over the next: float16, (segments, networks, tags)."""
        return self._file("logits", track)

    def embeddings_file(self, track: Track) -> Path:
        """The teacher's embeddings of the same segments: float16, (segments, 456)."""
        return self._file("embeddings", track)

    def mixture_files(self, number: int) -> MixtureFiles:
        """The files of one batch of mixtures."""
        kinds = (self.folder / "mixtures" / f"{number:05d}.{kind}.npy" for kind in MixtureFiles._fields)
        return MixtureFiles(*kinds)

    def mixtures(self) -> Sequence[MixtureFiles]:
        """All that are labelled, in their order."""
        labelled = sorted((self.folder / "mixtures").glob("*.logits.npy"))
        return [self.mixture_files(int(file.name.split(".")[0])) for file in labelled]

    def audio(self, track: Track) -> np.ndarray:
        """The samples as a map of the file, read as they are used."""
        samples: np.ndarray = np.load(self.audio_file(track), mmap_mode="r")
        return samples

    def decode(self, tracks: Iterable[Track], *, whole: bool, jobs: int | None = None) -> Iterable[tuple[Track, str]]:
        """Fill in the audio that is missing.

        Parameters
        ----------
        tracks : iterable of Track
        whole : bool
            Keep tracks whole, instead of at most their first four minutes.
        jobs : int or None
            Processes.

        Yields
        ------
        tuple of Track and str
            Each new one, with what is wrong with it ("" for nothing). What cannot be read becomes an empty file.
        """
        missing = [track for track in tracks if not self.audio_file(track).is_file()]
        self.folder.joinpath("audio").mkdir(parents=True, exist_ok=True)
        limit = None if whole else _LONGEST_SECONDS * SAMPLE_RATE
        with ProcessPoolExecutor(jobs) as pool:
            targets = [self.audio_file(track) for track in missing]
            yield from zip(
                missing,
                pool.map(_decode, [track.path for track in missing], targets, [limit] * len(missing)),
                strict=True,
            )

    def _file(self, kind: str, track: Track) -> Path:
        name = hashlib.sha256(str(track.path.resolve()).encode()).hexdigest()[:20]
        return self.folder / kind / f"{name}.npy"


def write_array(target: Path, values: np.ndarray) -> None:
    """Write a .npy file that is whole or not there.

    Parameters
    ----------
    target : Path
    values : ndarray
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        np.save(file, values)


def write_labels(logits_file: Path, embeddings_file: Path, *, logits: np.ndarray, embeddings: np.ndarray) -> None:
    """Write the teacher's labels; the logits last: where they are, the rest is there too."""
    write_array(embeddings_file, embeddings)
    write_array(logits_file, logits)


def _decode(source: Path, target: Path, limit: int | None) -> str:
    """Decode one file; what is wrong with it."""
    try:
        with open_audio(source, sample_rate=SAMPLE_RATE) as stream:
            samples = np.concatenate(list(int16_blocks(stream, longest=limit)))
        problem = "; ".join(stream.warnings)
    except AudioError as error:
        samples, problem = np.zeros(0, "<i2"), str(error)
    write_array(target, samples)
    return problem
