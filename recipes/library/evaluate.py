"""What is known of every word of some weights: the figures of their card.

    python -m recipes.library.evaluate [WEIGHTS] --music DIR [DIR ...] [--teacher NAME,...] -o figures.json

Weights are judged by the library's words, which others than the recipe's merge as `vocabulary.csv` says, and by tags of
their own: MagnaTagATune's, which a student learns beside those words, or whatever they know. Without WEIGHTS the
teachers themselves are judged.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recipes.command import exit_code
from recipes.library.cutoffs import cutoffs
from recipes.library.hearing import Table, hear, teach
from recipes.library.music import GENRES, SEGMENTS_PER_CLIP, Track, read_music, truth_of
from samptag import __version__
from samptag.core.config import ModelConfig
from samptag.errors import UsageError
from samptag.evaluation import Scoring, evaluate_scores
from samptag.evaluation.metrics import interval, pr_auc, resample, roc_auc
from samptag.evaluation.perturb import parse_perturbation
from samptag.evaluation.predictions import ScoreTable, Truth
from samptag.files import atomic_write
from samptag.pretrained import load_registry
from samptag.tagging.tagger import Tagger
from samptag.text import Progress
from samptag.training.vocabulary import Vocabulary, read_vocabulary, side_by_side, teachers_called

VOCABULARY = Path(__file__).with_name("vocabulary.csv")
PERTURBATIONS = ("mp3:32k", "lowpass:8000Hz", "gain:+12dB", "gain:-12dB", "noise:20dB")
SCORING = Scoring(min_positives=4)
LISTENERS = "mtat50: "  # before the name of an output that is one of MagnaTagATune's tags, beside the library's words
_PEOPLE = "mtat50"  # the tags that people gave
_LEAST = 1e-6  # scores of exactly 0 and 1 have no logit
_AREAS = ("roc_auc", "pr_auc")
_SEGMENTS = ModelConfig(m=3, n=9)  # at which teachers are judged without a student

_TAGGED = "63 Magnatune tracks with MagnaTagATune's tags; teachers of those tags heard clips of these tracks"
_FILED = "Emotify's genre folders: the tagged tracks and ten held out"
_FIELD = "Natural History of Song, singers as documented"
_CLEAR = "Natural History of Song, singers as documented, where most listeners agree"
_VOICE = "songs of the Natural History of Song against clean instrumental mixes and game music"
_MIXED = "mixes of one group's stems with a voice against mixes without"


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Some words, and what is to be compared about them."""

    words: tuple[str, ...]
    people: Mapping[str, tuple[str, ...]]  # word -> the tags by which people mean it, where their tags can test it
    own: Table  # our scores of these words
    teachers: Table = field(default_factory=dict)  # theirs of tracks they heard; NaN where they do not know a word
    taught_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # word -> the teachers who know it
    degraded: Mapping[str, Table] = field(default_factory=dict)  # perturbation -> our scores of the valid tracks

    def truth(self, tracks: Sequence[Track]) -> Truth:
        """What people say of some tracks."""
        words = {word: self.people[word] for word in self.words if word in self.people}
        return truth_of(tracks, words=words, name="MagnaTagATune's tags of Magnatune's tracks")

    def scores(
        self, tracks: Sequence[Track], words: Sequence[str], table: Table | None = None
    ) -> npt.NDArray[np.float32]:
        """Mean scores of some tracks, (tracks, words)."""
        columns = [self.words.index(word) for word in words]
        rows = [(self.own if table is None else table)[track.key].mean(axis=0)[columns] for track in tracks]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(columns))


def measure(
    weights: str | None,
    *,
    music: Sequence[Track],
    teachers: Sequence[str] = (),
    cache: Path | None = None,
    perturbations: Sequence[str] = PERTURBATIONS,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All figures of some weights, by name or file, or of the teachers themselves, as JSON holds them.

    They are ``weights``, ``samptag`` (version), and for "words" and "tags" (see the module) what `judge` gives. Decoded
    audio and what teachers say is kept in `cache`, or the user's; `perturbations` are as `samptag eval` takes them.
    """
    vocabulary = read_vocabulary(VOCABULARY)
    tested, compared = [track for track in music if track.tested], to_compare(music)
    where: dict[str, Any] = {"cache": cache, "device": device, "progress": progress}
    if weights is None:
        said = teach(teachers, tested, model=_SEGMENTS, **where)
        words, table = _merged(said, known_to(said, vocabulary))
        judged = Judged(words=words, people=_meant(vocabulary), own=table)
        return {"weights": {"name": ", ".join(said)}, "samptag": __version__, "words": judge(judged, music)}
    tagger = Tagger.from_pretrained(weights, device=device)
    name, config = tagger.card.name, tagger.card.config
    if not isinstance(config, ModelConfig):
        raise UsageError(f"{name} is a teacher; leave WEIGHTS out and name it with --teacher")
    heard = hear(tagger, [*tested, *(track for track in compared if not track.tested)], progress=progress)
    valid = [track for track in music if track.split == "valid"]
    worse = {
        each.name: hear(tagger, valid, perturbation=each, progress=progress)
        for each in map(parse_perturbation, perturbations)
    }
    said = {}
    held_out, others = ([t for t in compared if t.held_out is which] for which in (True, False))
    # Cut-offs need tracks' means, for which a part of the segments will do; agreement needs every segment.
    for tracks, per_clip in ((held_out, None), (others, SEGMENTS_PER_CLIP)):
        for net, (tags, table) in teach(teachers, tracks, model=config, per_clip=per_clip, **where).items():
            said[net] = (tags, said[net][1] | table if net in said else table)
    figures: dict[str, Any] = {"weights": {"name": name, "sha256": tagger.weights_sha256}, "samptag": __version__}
    for kind, ours in _judged_by(tagger, vocabulary).items():
        own, *degraded = (_merged({name: (tagger.tags, each)}, ours)[1] for each in (heard, *worse.values()))
        by_word = kind == "words"
        # Tags of their own are compared with the nets that have the same list, where there are any.
        same = {} if by_word else {net: each for net, each in said.items() if set(each[0]) == set(ours.tags)}
        asked = same or said
        theirs = known_to(said, vocabulary) if by_word else side_by_side({net: asked[net][0] for net in asked})
        judged = Judged(
            words=ours.tags,
            people=_meant(vocabulary) if by_word else {tag: (tag,) for tag in ours.tags},
            own=own,
            teachers=_wanted(*_merged(asked, theirs), ours.tags),
            taught_by={
                word.word: tuple(net for net in asked if any(teachers_called(name, [net]) for name in word.sources))
                for word in theirs.words
            },
            degraded=dict(zip(worse, degraded, strict=True)),
        )
        figures[kind] = judge(judged, music)
    return figures


def judge(judged: Judged, music: Sequence[Track]) -> dict[str, Any]:
    """The figures of some words: against people's tags, folders and documents, and against the teachers.

    Returns
    -------
    dict
        ``human`` (the report of `evaluate_scores`, with ``degraded``; None where people's tags test no word),
        ``agreement`` (correlations with the teachers), ``genres``, and in the form of a card's fields ``concepts``,
        ``evidence``, ``cutoffs`` and ``cutoff_evidence``.
    """
    held_out = [track for track in music if track.held_out]
    compared = [track for track in music if track.key in judged.teachers]
    train = [track for track in music if track.split == "train"]
    human, evidence = _by_people(judged, [track for track in music if track.split == "valid"])
    agreement = _by_teachers(judged, [track for track in held_out if track in compared])
    for word, correlation in agreement.get("by_segment_of_word", {}).items():
        facts = {"correlation": correlation, "tracks": agreement["tracks"], "segments": agreement["segments"]}
        names = {"teachers": list(judged.taught_by[word]), **_published(judged.taught_by[word])}
        evidence.setdefault(word, {"kind": "teachers", **facts, **names})
    limits = cutoffs(
        judged.words,
        people=(judged.truth(train), judged.scores(train, judged.words)),
        teachers=(judged.scores(compared, judged.words), judged.scores(compared, judged.words, judged.teachers)),
    )
    return {
        "human": human,
        "agreement": agreement,
        "genres": {name: each["evidence"] for name, each in _concepts(judged, _genres(music))},
        "concepts": dict(_concepts(judged, _voices(judged, music))),
        "evidence": {word: evidence[word] for word in judged.words if word in evidence},
        "cutoffs": {word: limit.score for word, limit in limits.items()},
        "cutoff_evidence": {word: {"precision": limit.precision, "on": limit.on} for word, limit in limits.items()},
    }


def ranking(positive: npt.ArrayLike, scores: npt.ArrayLike, *, groups: Sequence[str], data: str) -> dict[str, Any]:
    """How well scores rank tracks, in the fields of an `Evidence`; with intervals where `groups`, artists, are two."""
    labels, values = np.asarray(positive, dtype=bool)[:, None], np.asarray(scores, dtype=np.float64)[:, None]
    areas = roc_auc(labels, values)[0], pr_auc(labels, values)[0]
    figures: dict[str, Any] = {"kind": "human", "n": int(labels.sum()), "of": len(labels), "data": data}
    figures |= {name: round(float(area), 4) for name, area in zip(_AREAS, areas, strict=True)}
    if len(set(groups)) > 1:
        drawn = resample(labels, values, groups=groups, resamples=SCORING.resamples, seed=SCORING.seed)
        for name, area, draws in zip(_AREAS, areas, drawn, strict=True):
            low, high = interval(draws, estimate=area)
            figures[f"{name}_interval"] = [round(max(0.0, low), 4), round(min(1.0, high), 4)]
    return figures


def _by_people(judged: Judged, valid: Sequence[Track]) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """The means over the words that people's tags can test, clean and degraded; and every such word's evidence."""
    truth = judged.truth(valid)
    counts = (truth.labels > 0).sum(axis=0)
    if not ((counts >= SCORING.min_positives) & (counts < len(valid))).any():
        return None, {}

    def table(of: Table | None = None) -> ScoreTable:
        values = judged.scores(valid, truth.tags, of)
        return ScoreTable(name="these weights", keys=truth.keys, tags=truth.tags, values=values)

    report = evaluate_scores(table(), truth=truth, scoring=SCORING)
    figures = report.to_dict() | {"degraded": {}}
    for name, heard in judged.degraded.items():
        worse = evaluate_scores(table(heard), truth=truth, against=table(), scoring=SCORING).to_dict()
        figures["degraded"][name] = {"macro": worse["macro"]} | {
            key: value for key, value in worse["against"].items() if "difference" in key
        }
    evidence = {}
    for tag in report.tags:
        labels = truth.labels[:, truth.tags.index(tag.tag)] > 0
        scores = judged.scores(valid, [tag.tag])[:, 0]
        evidence[tag.tag] = ranking(labels, scores, groups=truth.groups, data=_TAGGED)
    return figures, evidence


def _by_teachers(judged: Judged, held_out: Sequence[Track]) -> dict[str, Any]:
    """Correlations with the teachers on music that no student heard, over segments and over tracks."""
    if len(held_out) < 2:
        return {}
    # Where a track does not end with a whole segment, a tagger's last one overlaps the one before.
    pairs = [(judged.own[track.key], judged.teachers[track.key]) for track in held_out]
    sides = [[pair[side][: min(map(len, pair))] for pair in pairs] for side in (0, 1)]
    of_word = {
        "by_segment": _correlations(judged.words, *map(np.concatenate, sides)),
        "by_track": _correlations(judged.words, *(np.stack([each.mean(axis=0) for each in side]) for side in sides)),
    }
    means = {name: round(float(np.mean(list(values.values()))), 4) for name, values in of_word.items()}
    counts = {"tracks": len(held_out), "segments": sum(map(len, sides[0]))}
    return counts | means | {f"{name}_of_word": values for name, values in of_word.items()}


def _correlations(
    words: Sequence[str], ours: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]
) -> dict[str, float]:
    """Pearson's correlation of every word that both sides know and tell apart."""
    a, b = (side - side.mean(axis=0, dtype=np.float64) for side in (ours, theirs))
    spread = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return {
        word: round(float((a * b).sum(axis=0)[place] / spread[place]), 4)
        for place, word in enumerate(words)
        if spread[place] > 0
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Question:
    """What words should tell apart: the tracks with `labels` from the others."""

    name: str
    words: tuple[str, ...]
    against: tuple[str, ...] = ()
    tracks: Sequence[Track]
    labels: Sequence[bool]
    data: str


def _genres(music: Sequence[Track]) -> Iterator[_Question]:
    """Emotify's folders, on tracks that no training of a student heard."""
    filed = [track for track in music if track.genre and (track.held_out or track.split == "valid")]
    for genre in GENRES:
        labels = [track.genre == genre for track in filed]
        yield _Question(name=genre, words=(genre,), tracks=filed, labels=labels, data=_FILED)


def _voices(judged: Judged, music: Sequence[Track]) -> Iterator[_Question]:
    """Voice and the singer's sex: where people tagged it, and on recordings where it is documented."""
    meant = _meant(read_vocabulary(VOCABULARY))
    voice, female, male = (
        _meaning(judged, word, meant.get(word, ())) for word in ("vocals", "female vocals", "male vocals")
    )
    if not (voice and female and male and {*voice, *female, *male} <= set(judged.people)):
        return
    sex = {"words": female, "against": male}
    valid = [track for track in music if track.split == "valid"]
    truth = judged.truth(valid)
    sings, women, men = (
        np.any(truth.labels[:, [truth.tags.index(word) for word in words]] > 0, axis=1)
        for words in (voice, female, male)
    )
    one = np.flatnonzero(women != men)
    yield _Question(name="anyone sings", words=voice, tracks=valid, labels=sings.tolist(), data=_TAGGED)
    yield _Question(
        name="female against male", **sex, tracks=[valid[i] for i in one], labels=women[one].tolist(), data=_TAGGED
    )
    known = [track for track in music if track.sex in ("female", "male")]
    clear = [track for track in known if track.sex_heard == track.sex]
    for name, tracks, data in (("recorded in the field", known, _FIELD), ("heard so too", clear, _CLEAR)):
        labels = [track.sex == "female" for track in tracks]
        yield _Question(name=f"female against male, {name}", **sex, tracks=tracks, labels=labels, data=data)
    without = [track for track in music if track.voice is False]
    for name, singing, others, data in (
        ("field recordings of songs", [track for track in music if track.sex], without, _VOICE),
        (
            "mixes with a voice",
            [track for track in music if track.voice],
            [t for t in without if t.source == "evr"],
            _MIXED,
        ),
    ):
        labels = [True] * len(singing) + [False] * len(others)
        yield _Question(name=name, words=voice, tracks=[*singing, *others], labels=labels, data=data)


def _meaning(judged: Judged, word: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """The words by which these weights say what a word of the library says: itself, or people's `tags` for it."""
    return (word,) if judged.people.get(word) == tags else tuple(tag for tag in tags if tag in judged.words)


def _concepts(judged: Judged, questions: Iterator[_Question]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers, in the fields of a `Concept`; a question whose words or tracks are not there is left out."""
    for each in questions:
        if not {*each.words, *each.against} <= set(judged.words) or len(set(each.labels)) < 2:
            continue
        values = _logit_of_any(judged.scores(each.tracks, each.words))
        if each.against:
            values -= _logit_of_any(judged.scores(each.tracks, each.against))
        evidence = ranking(each.labels, values, groups=[track.artist for track in each.tracks], data=each.data)
        yield each.name, {"tags": list(each.words), "against": list(each.against), "evidence": evidence}


def _logit_of_any(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The logit of 1 - (1 - p)(1 - q)..., that any of the columns' words holds."""
    none = np.log1p(-np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST)).sum(axis=1)
    logits: npt.NDArray[np.float64] = np.log(-np.expm1(none)) - none
    return logits


def to_compare(music: Sequence[Track]) -> list[Track]:
    """What teachers are compared on: the held-out tracks, and for cut-offs all that nobody tagged."""
    return [track for track in music if track.held_out or not (track.tags or track.tested)]


def _judged_by(tagger: Tagger, vocabulary: Vocabulary) -> dict[str, Vocabulary]:
    """The library's words, and where a model has others its own."""
    own = side_by_side({tagger.card.name: tagger.tags})
    if set(vocabulary.tags) <= set(own.tags):
        listeners = [word for word in own.words if word.word.startswith(LISTENERS)]
        parts = {
            "words": [word for word in own.words if word not in listeners],
            "tags": [replace(word, word=word.word.removeprefix(LISTENERS)) for word in listeners],
        }
        return {kind: Vocabulary(words=tuple(words)) for kind, words in parts.items() if words}
    merged = known_to([tagger.card.name], vocabulary)
    return {"words": merged, "tags": own} if merged.words else {"tags": own}


def known_to(nets: Collection[str], vocabulary: Vocabulary) -> Vocabulary:
    """The words that have a source of these nets, with those sources alone."""
    kept = []
    for word in vocabulary.words:
        if sources := {name: tags for name, tags in word.sources.items() if teachers_called(name, nets)}:
            kept.append(replace(word, sources=sources))
    return replace(vocabulary, words=tuple(kept))


def _meant(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Word -> the tags by which people mean it."""
    return {word.word: word.sources[_PEOPLE] for word in vocabulary.words if _PEOPLE in word.sources}


def _merged(heard: Mapping[str, tuple[Sequence[str], Table]], vocabulary: Vocabulary) -> tuple[tuple[str, ...], Table]:
    """The words of a vocabulary, and the scores that models which heard the same tracks give them."""
    if not heard:
        return (), {}
    merger = vocabulary.merger({name: tags for name, (tags, _) in heard.items()})
    tables = {name: table for name, (_, table) in heard.items()}
    keys = next(iter(tables.values()))
    return vocabulary.tags, {key: merger({name: table[key] for name, table in tables.items()}) for key in keys}


def _wanted(known: Sequence[str], table: Table, words: Sequence[str]) -> Table:
    """The columns of some words; NaN for those that are not known."""
    columns = [known.index(word) if word in known else len(known) for word in words]
    return {key: np.pad(each, ((0, 0), (0, 1)), constant_values=np.nan)[:, columns] for key, each in table.items()}


def _published(names: Sequence[str]) -> dict[str, str]:
    """What the teachers' authors measured, where the registry knows it."""
    entries = load_registry().entries
    scores = {name: entries[name].scores[0] for name in names if name in entries and entries[name].scores}
    said = [f"{name} {score.roc_auc:.3f} on {score.split}" for name, score in scores.items()]
    return {"published": "; ".join(said)} if said else {}


def text(figures: Mapping[str, Any]) -> str:
    """The figures as a person reads them on a terminal."""
    lines = []
    for kind in (kind for kind in ("words", "tags") if kind in figures):
        part = figures[kind]
        if part["human"]:
            macro, tags = part["human"]["macro"], part["human"]["tags"]
            lines.append(
                f"{kind}: {macro['roc_auc']:.4f} / {macro['pr_auc']:.4f} over {len(tags)} that people can test"
            )
            for name, each in part["human"]["degraded"].items():
                gains = (f"{each[f'{area}_difference']:+.4f}" for area in _AREAS)
                lines.append(f"  {name:62s} {' / '.join(gains)}")
        if part["agreement"]:
            agreed = part["agreement"]
            where = f"{agreed['tracks']} held-out tracks, {agreed['by_segment']:.3f} on {agreed['segments']} segments"
            lines.append(f"  {'agreement with the teachers':62s} {agreed['by_track']:.3f} on {where}")
        lines += [f"  {name:62s} {_figures(each['evidence'])}" for name, each in part["concepts"].items()]
        lines += [f"  {f'in the folder {name}':62s} {_figures(each)}" for name, each in part["genres"].items()]
        for word, each in part["evidence"].items():
            limit = part["cutoff_evidence"].get(word)
            said = f"from {part['cutoffs'][word]:.3f}: {limit['precision']:.0%} by {limit['on']}" if limit else ""
            lines.append(f"  {word:20s} {_figures(each):58s} {said}")
    return "\n".join(lines)


def _figures(each: Mapping[str, Any]) -> str:
    if each["kind"] == "teachers":
        return f"correlation {each['correlation']:.3f}"
    ends = each.get("roc_auc_interval")
    around = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{each['roc_auc']:.3f}{around} / {each['pr_auc']:.3f}, {each['n']} of {each['of']}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.library.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("weights", nargs="?", help="a name or a file; the teachers themselves where left out")
    parser.add_argument("--music", type=Path, nargs="+", required=True, metavar="DIR", help="folders with tracks.csv")
    parser.add_argument("--teacher", default="", metavar="NAME,...", help="weights to compare with")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for decoded audio and what teachers say")
    parser.add_argument("--no-degraded", action="store_true", help="clean sound only")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    options = parser.parse_args()
    teachers = options.teacher.split(",") if options.teacher else []
    if not teachers and options.weights is None:
        parser.error("give WEIGHTS, --teacher, or both")

    def evaluate() -> None:
        figures = measure(
            options.weights,
            music=[track for folder in options.music for track in read_music(folder)],
            teachers=teachers,
            cache=options.cache,
            perturbations=() if options.no_degraded else PERTURBATIONS,
            device=options.device,
            progress=_progress if sys.stderr.isatty() else None,
        )
        with atomic_write(options.out) as file:
            file.write((json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())
        print(text(figures))

    return exit_code(evaluate)


def _progress(what: str, done: int, total: int | None) -> None:
    print(f"\r{what}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
