"""Every figure of the model card, measured on any weights file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recipes.samplecnn_3_9_mtat50.collection import TABLE, Track, public_sources, read_music, read_teacher_scores
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from samptag import __version__
from samptag.core.weights import load_model_file
from samptag.data import open_dataset
from samptag.errors import DatasetError
from samptag.evaluation import EvaluationReport, Scoring, evaluate
from samptag.evaluation.metrics import agreement
from samptag.evaluation.predictions import ScoreTable
from samptag.fetch import file_sha256
from samptag.tagging.tagger import Tagger

__all__ = ["MIN_POSITIVES", "PERTURBATIONS", "measure", "reusable"]

PERTURBATIONS = ("mp3:32k", "lowpass:8000Hz", "gain:+12dB", "gain:-12dB", "noise:20dB")
MIN_POSITIVES = 4
CLIPS = 20
TOP = 5

Progress = Callable[[str, int, int], None]


def measure(
    weights: Path,
    *,
    collection: Path,
    teacher_scores: Path,
    perturbations: Sequence[str] = PERTURBATIONS,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All figures of the card, as JSON holds them.

    Parameters
    ----------
    weights : Path
        A weights file that samptag can load.
    collection : Path
        A folder of music with a table; see `collection.read_music`.
    teacher_scores : Path
        See `collection.read_teacher_scores`.
    perturbations : sequence of str
        Degradations of the valid tracks, as `samptag eval --perturb` takes them.
    device : str
        As for `Tagger`.
    progress : callable or None
        Called with what is being heard, how much of it is done, and how much there is.

    Returns
    -------
    dict
        ``weights`` (name, sha256), ``samptag`` (version), ``valid`` (the report of `samptag eval`, against the
        teacher), ``held_out`` (agreement with the teacher; None where the collection has no held-out music) and
        ``clips`` (real tracks and the tags they were given).

    Raises
    ------
    DatasetError
        The collection lacks what is needed.
    WeightsError
        The weights cannot be loaded.
    """
    tracks = read_music(collection)
    tagger = Tagger(load_model_file(weights), device=device)
    teacher, segments = read_teacher_scores(teacher_scores, tracks=tracks, tags=TAGS)
    heard = None if progress is None else lambda done, total: progress("valid tracks", done, total)
    report = evaluate(
        _by_artist(collection, tracks),
        model=tagger,
        part="valid",
        against=teacher,
        perturbations=perturbations,
        scoring=Scoring(min_positives=MIN_POSITIVES),
        progress=heard,
    )
    held_out = [track for track in tracks if track.held_out]
    agreed: dict[str, Any] | None = None
    own: dict[str, np.ndarray] = {}
    if held_out:
        by_track = _segments_of(tracks, segments, teacher_scores)
        agreed, own = _hear_held_out(tagger, held_out, teacher, by_track, progress)
    return {
        "weights": {"name": tagger.card.name, "sha256": file_sha256(weights)},
        "samptag": __version__,
        "valid": report.to_dict(),
        "held_out": agreed,
        "clips": _clips(tracks, report, own),
    }


def reusable(figures: Path, weights: Path, *, perturbations: Sequence[str]) -> dict[str, Any] | None:
    """The figures on file, if they are of these very weights and conditions; otherwise None."""
    if not figures.is_file():
        return None
    known: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    conditions = [each["perturbation"] for each in known["valid"]["perturbations"]]
    same = known["weights"]["sha256"] == file_sha256(weights) and known["samptag"] == __version__
    return known if same and conditions == list(perturbations) else None


def _by_artist(collection: Path, tracks: Sequence[Track]) -> Any:
    """The tagged tracks as a data set whose groups are artists: tracks of one artist are not independent."""
    dataset = open_dataset(collection / TABLE)
    artist_of = {track.key: track.artist for track in tracks}
    clips = tuple(replace(clip, group=artist_of[clip.key] or clip.key) for clip in dataset.clips)
    return replace(dataset, clips=clips)


def _segments_of(tracks: Sequence[Track], segments: np.ndarray, file: Path) -> dict[str, np.ndarray]:
    """Key -> (segments, tags) of the teacher."""
    with np.load(file) as content:
        ends = np.cumsum(content["segments_per_track"])
    return {track.key: part for track, part in zip(tracks, np.split(segments, ends[:-1]), strict=True)}


def _hear_held_out(
    tagger: Tagger,
    tracks: Sequence[Track],
    teacher: ScoreTable,
    teacher_segments: dict[str, np.ndarray],
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Agreement with the teacher on music that neither was trained on here; the tracks' own scores."""
    present = [track for track in tracks if track.path.is_file() and track.key in teacher.keys]
    if len(present) < 2:
        raise DatasetError(f"{len(present)} of {len(tracks)} held-out tracks are there and scored by the teacher")
    columns = [TAGS.index(tag) for tag in tagger.tags]
    ours, theirs, own = [], [], {}
    for done, (track, result) in enumerate(
        zip(present, tagger.tag_many(track.path for track in present), strict=True), start=1
    ):
        if result.error is not None or result.taggram is None:
            raise DatasetError(f"{track.path}: {result.error.message if result.error else 'no scores'}")
        expected = teacher_segments[track.key][:, columns]
        both = min(len(expected), len(result.taggram))  # the tagger's last segment overlaps the one before
        ours.append(result.taggram[:both])
        theirs.append(expected[:both])
        own[track.key] = np.array([score.score for score in result.scores], dtype=np.float32)
        if progress is not None:
            progress("held-out tracks", done, len(present))
    rows = [teacher.keys.index(track.key) for track in present]
    by_track = agreement(np.stack(list(own.values())), reference=teacher.values[np.ix_(rows, columns)], top=TOP)
    by_segment = agreement(np.concatenate(ours), reference=np.concatenate(theirs), top=TOP)
    figures = {
        name: {"n": n, "correlation": round(found.correlation, 4), "top_overlap": round(found.top_overlap, 4)}
        for name, n, found in (
            ("tracks", len(present), by_track),
            ("segments", sum(map(len, ours)), by_segment),
        )
    }
    return figures, own


def _clips(tracks: Sequence[Track], report: EvaluationReport, own: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """`CLIPS` of the tracks heard, evenly spaced in the collection's order, with the best tags of each."""
    scores = dict(zip(report.scores.keys, report.scores.values, strict=True)) | own
    heard = [track for track in tracks if track.key in scores]
    licence_of = {source.source: source.licence for source in public_sources()}
    n = min(CLIPS, len(heard))
    chosen = [heard[i * len(heard) // n] for i in range(n)]
    return [
        {
            "title": track.title or Path(track.key).stem,
            "artist": track.artist or track.source,
            "licence": licence_of.get(track.source, ""),
            "tags": _best(report.scores.tags, scores[track.key]),
            "listeners": _best_of_listeners(track),
        }
        for track in chosen
    ]


def _best(tags: Sequence[str], scores: np.ndarray) -> list[str]:
    return [tags[i] for i in np.argsort(-scores, kind="stable")[:TOP]]


def _best_of_listeners(track: Track) -> list[str]:
    given: dict[str, float] = json.loads(track.tags) if track.tags else {}
    known = [(tag, share) for tag, share in given.items() if tag in TAGS and share > 0]
    return [tag for tag, _ in sorted(known, key=lambda pair: -pair[1])]
