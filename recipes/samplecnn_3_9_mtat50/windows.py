"""What the student hears: segments of all music with the teacher's logits, varied in ways that keep their tags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE, SCALE, SEGMENT, MixtureFiles, Store

__all__ = ["MIXTURE", "Crops", "Windows", "augment"]

MIXTURE = 66_326  # samples of a mixture: the 3.008 s that the teacher hears

_LOGIT_LIMIT = 9.2  # a score of 1e-4: beyond, float16 scores of the teacher mean nothing
# How often a track of each source is heard, compared with others: the tagged styles more, single notes less.
_WEIGHTS = {"emotify": 1.6, "instruments": 0.8, "solfege": 0.8}
_GAMES = 0.6
_FAR_BELOW_DB = (12, 26)
_LEAST_LEVEL = 1e-4  # silence is not blown up
_RESPED = 0.25  # share of segments played faster or slower


@dataclass(frozen=True)
class _Row:
    audio: int
    start: int  # of the sound it may be taken from, in the audio
    stop: int
    middle: int
    weight: float


class Windows:
    """Random segments of labelled tracks and mixtures.

    Parameters
    ----------
    store : Store
    tracks : sequence of Track
        Those to learn from, or those held out.
    games : frozenset of str
        Sources that are heard less often: many hours of few styles.
    mixtures : sequence of MixtureFiles
    share : float
        How much of what is drawn are mixtures, in [0, 1).

    Attributes
    ----------
    chances : ndarray of float64, (segments,)
        How likely each is drawn.
    logits : ndarray of float32, (segments, networks, tags)
    embeddings : ndarray of float16, (segments, 456)
        The teacher's.
    """

    def __init__(
        self,
        store: Store,
        tracks: Sequence[Track],
        *,
        games: frozenset[str] = frozenset(),
        mixtures: Sequence[MixtureFiles] = (),
        share: float = 0.0,
    ) -> None:
        self._audio = [store.audio(track) for track in tracks]
        rows, logits, embeddings = [], [], []
        for number, track in enumerate(tracks):
            labels = np.load(store.logits_file(track)).astype(np.float32)
            weight = _GAMES if track.source in games else _WEIGHTS.get(track.source, 1.0)
            stop = len(self._audio[number])
            rows += [_Row(number, 0, stop, (i + 1) * SEGMENT // 2, weight) for i in range(len(labels))]
            logits.append(labels)
            embeddings.append(np.load(store.embeddings_file(track)))
        if mixtures:
            n = sum(len(np.load(files.logits, mmap_mode="r")) for files in mixtures)
            weight = share / (1 - share) * sum(row.weight for row in rows) / n
            for files in mixtures:
                sounds = np.load(files.audio, mmap_mode="r")
                starts = [i * MIXTURE for i in range(len(sounds))]
                number = len(self._audio)
                rows += [_Row(number, start, start + MIXTURE, start + MIXTURE // 2, weight) for start in starts]
                self._audio.append(sounds.reshape(-1))
                logits.append(np.load(files.logits).astype(np.float32))
                embeddings.append(np.load(files.embeddings))
        self._rows = rows
        self.logits = np.clip(np.concatenate(logits), -_LOGIT_LIMIT, _LOGIT_LIMIT)
        self.embeddings = np.concatenate(embeddings)
        weights = np.array([row.weight for row in rows])
        self.chances = weights / weights.sum()

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._rows)

    def draw(
        self, n: int, rng: np.random.Generator, *, jitter: float, speed: float, mixed: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Varied segments and which they are.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        jitter : float
            Seconds that a segment may lie off the middle of what the teacher heard.
        speed : float
            Share by which it may be faster or slower.
        mixed : float
            Share of segments with other music far below them.

        Returns
        -------
        ndarray of float32, (n, 59 049)
        ndarray of int64, (n,)
            Their numbers, for `logits` and `embeddings`.
        """
        chosen = rng.choice(len(self._rows), n, p=self.chances)
        segments = []
        for i in chosen:
            pace = rng.uniform(1 - speed, 1 + speed) if rng.random() < _RESPED else 1.0
            shift = int(rng.uniform(-jitter, jitter) * SAMPLE_RATE)
            segment = self._take(i, shift, pace)
            if rng.random() < mixed:
                segment = segment + self._far_below(segment, rng)
            segments.append(augment(segment, rng))
        return np.stack(segments), chosen

    def plain(self, chosen: np.ndarray) -> np.ndarray:
        """Segments as the teacher heard them, float32 (k, 59 049); `chosen`: (k,) numbers."""
        return np.stack([self._take(i, 0, 1.0) for i in chosen])

    def scores(self, chosen: np.ndarray) -> np.ndarray:
        """The teacher's, the mean of its networks', float32 (k, tags); `chosen`: (k,) numbers."""
        scores: np.ndarray = (1 / (1 + np.exp(-self.logits[chosen]))).mean(axis=1)
        return scores

    def around(self, segment: int, length: int, shift: int) -> np.ndarray:
        """The sound around a segment.

        Parameters
        ----------
        segment : int
            Its number.
        length : int
            In samples.
        shift : int
            How far the middle may lie from the segment's, in samples; less where the sound ends.

        Returns
        -------
        ndarray of float32, (length,)
            Zeros follow where the whole sound is shorter.
        """
        row = self._rows[segment]
        start = max(row.start, min(row.middle - length // 2 + shift, row.stop - length))
        samples = np.asarray(self._audio[row.audio][start : min(start + length, row.stop)], dtype=np.float32)
        whole: np.ndarray = np.pad(samples / SCALE, (0, length - len(samples)))
        return whole

    def _far_below(self, segment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A segment of any track, so soft beside `segment` that the tags stay."""
        other = self._take(int(rng.integers(len(self._rows))), 0, 1.0)
        wanted = segment.std() * 10 ** (-rng.uniform(*_FAR_BELOW_DB) / 20)
        soft: np.ndarray = other * np.float32(min(1.0, wanted / (other.std() + _LEAST_LEVEL)))
        return soft

    def _take(self, segment: int, shift: int, speed: float) -> np.ndarray:
        """A segment, `shift` samples off its place and played at `speed`."""
        if speed == 1.0:
            return self.around(segment, SEGMENT, shift)
        samples = self.around(segment, int(SEGMENT * speed) + 2, shift)
        # Linear interpolation: at 5 % what it adds lies far below the music.
        at = np.arange(SEGMENT) * speed
        before = at.astype(np.int64)
        share = (at - before).astype(np.float32)
        return samples[before] * (1 - share) + samples[before + 1] * share


class Crops:
    """Short random pieces of tracks, without labels.

    Parameters
    ----------
    store : Store
    tracks : sequence of Track
    """

    def __init__(self, store: Store, tracks: Sequence[Track]) -> None:
        self._audio = [store.audio(track) for track in tracks]
        # Long tracks repeat themselves, so they count for less than their length.
        weights = np.array([len(audio) for audio in self._audio], dtype=float) ** 0.7
        self._chances = weights / weights.sum()

    def draw(self, n: int, length: int, rng: np.random.Generator) -> np.ndarray:
        """Varied crops, float32 (n, length)."""
        crops = []
        for i in rng.choice(len(self._audio), n, p=self._chances):
            audio = self._audio[i]
            start = int(rng.integers(0, max(1, len(audio) - length)))
            samples = np.asarray(audio[start : start + length], dtype=np.float32) / SCALE
            crops.append(augment(np.pad(samples, (0, length - len(samples))), rng))
        return np.stack(crops)


def augment(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another equaliser, treble, level, polarity, noise: nothing that changes a tag.

    Parameters
    ----------
    samples : ndarray of float32, (samples,)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, (samples,)
        In [-1, 1].
    """
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(samples)
        place = np.linspace(0, 1, len(spectrum))
        # Nine bands, narrower towards the bass, of 3.5 dB standard deviation.
        gain_db = np.interp(place, np.linspace(0, 1, 9) ** 1.6, rng.normal(0, 3.5, 9))
        if rng.random() < 0.35:
            gain_db -= np.clip((place - rng.uniform(0.15, 0.9)) * 400, 0, 80)
        samples = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(samples)).astype(np.float32)
    if rng.random() < 0.6:
        samples = samples * np.float32(10 ** (rng.uniform(-14, 6) / 20))
    if rng.random() < 0.5:
        samples = -samples
    if rng.random() < 0.15:
        level = samples.std() * 10 ** (-rng.uniform(14, 40) / 20)
        samples = samples + rng.standard_normal(len(samples)).astype(np.float32) * np.float32(level)
    clipped: np.ndarray = np.clip(samples, -1, 1).astype(np.float32)
    return clipped
