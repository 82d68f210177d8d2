"""What a data set holds and what is wrong with it, clip by clip."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from samptag.audio.decode import open_audio
from samptag.core.device import available_cores
from samptag.data.dataset import PARTS, Clip, Dataset, Problem
from samptag.data.measure import header_seconds, in_threads
from samptag.errors import AudioError
from samptag.text import Progress

# The kinds of problem that leave a data set incomplete; the others are for information.
BAD = frozenset({"missing", "unreadable", "damaged"})
# Nothing is resampled to read a header, and decoding only looks for damage: any rate will do.
_RATE = 22_050


@dataclass(frozen=True)
class PartSummary:
    """One part: its clips, the groups they come from, and their hours (without clips whose header gives no length)."""

    name: str
    clips: int
    groups: int
    hours: float


@dataclass(frozen=True)
class Survey:
    """What a look at a data set found."""

    dataset: Dataset
    parts: tuple[PartSummary, ...]
    problems: tuple[Problem, ...]  # the data set's own and those found in the audio

    @property
    def tags(self) -> list[tuple[str, str | None, list[int]]]:
        """Every tag with its category, and the numbers of clips that carry it, in the order of `PARTS`."""
        tags, positives = self.dataset.tags, self.dataset.positives().T.tolist()
        return list(zip(tags, self.dataset.tag_categories or (None,) * len(tags), positives, strict=True))

    @property
    def ok(self) -> bool:
        """Whether no clip is missing, unreadable or damaged."""
        return not any(problem.kind in BAD for problem in self.problems)

    def to_record(self) -> dict[str, Any]:
        """The JSON document of `samptag data check --json`."""
        dataset = self.dataset
        return {
            "schema": "samptag.data/1",
            "data": str(dataset.root),
            "format": dataset.format,
            "split": {"name": dataset.split_name, "hash": dataset.split_hash},
            "clips": len(dataset.clips),
            "hours": round(sum(part.hours for part in self.parts), 3),
            "splits": [{**vars(part), "hours": round(part.hours, 3)} for part in self.parts],
            "tags": [
                {"tag": tag, "category": category, **dict(zip(PARTS, positives, strict=True))}
                for tag, category, positives in self.tags
            ],
            "ok": self.ok,
            "problems": [vars(problem) for problem in self.problems],
        }


def survey(
    dataset: Dataset,
    *,
    decode: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Survey:
    """What `dataset` holds, by the headers of its clips or, with `decode`, by decoding every clip to its end.

    The work is done in `jobs` threads (None: one per core); `progress` counts clips.
    """
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    problems = list(dataset.problems)
    clips = dataset.clips
    look, jobs = partial(_look, decode=decode), jobs or available_cores()
    looked = in_threads(look, clips, jobs=jobs, what="reading clips", progress=progress)
    for clip, (length, problem) in zip(clips, looked, strict=True):
        seconds[clip.part] += length
        groups[clip.part].add(clip.group)
        problems += [problem] if problem else []
    parts = tuple(
        PartSummary(part, count, len(groups[part]), seconds[part] / 3600) for part, count in dataset.counts().items()
    )
    return Survey(dataset, parts, tuple(problems))


def _look(clip: Clip, *, decode: bool) -> tuple[float, Problem | None]:
    """The clip's length in seconds, and what is wrong with it."""
    try:
        with open_audio(clip.path, sample_rate=_RATE) as stream:
            if not decode:
                return header_seconds(clip.path) or 0.0, None
            for _ in stream:
                pass
    except AudioError as error:
        return 0.0, Problem.of("unreadable", clip.key, str(error).removeprefix(f"{clip.path}: "))
    return stream.duration, Problem.of("damaged", clip.key, "; ".join(stream.warnings)) if stream.warnings else None
