"""A person's own words, learned from labelled songs: one logistic regression per word on the embeddings in the index.

Nothing is decoded again. Every word is examined on artists that its classifier has not seen, and refused if it was not
learned. The result is an ordinary weights file: the same body with another classifier.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samptag.core.card import CutoffEvidence, Evidence, ModelCard
from samptag.core.weights import save_model
from samptag.errors import LibraryError
from samptag.library.database import Database
from samptag.library.indexing import head_bytes, head_scores, remember_weights
from samptag.library.labels import Labels
from samptag.library.similar import all_embeddings, packed_embeddings, unpacked
from samptag.library.songs import Weights
from samptag.library.words import fold
from samptag.pretrained import load_weights
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.evaluation.metrics import FloatArray

# The fewest songs with and without a word, and artists of these, for its figures to mean anything.
MIN_SONGS, MIN_ARTISTS = 10, 3

_FOLDS = 5
_RESAMPLES = 1000
# Of the regression on standardised embeddings. Mean ROC-AUC and average precision, two draws of folds by artist:
#            123 songs, 32 listeners' words     265 songs, 4 genres
#     .003   .830   .600                        .913   .746
#     .01    .828   .602                        .919   .770
#     .03    .821   .597                        .917   .772
#     .1     .812   .587                        .911   .761
_STRENGTH = 0.01
_WRONG = 5

# The most songs with and without a word to learn from, drawn at random; all are examined. In 512 dimensions twice 4 000
# songs determine the boundary well enough, and 100 000 would take minutes and a gigabyte.
_MOST = 4000
_ROWS = 4096  # songs that are scored at once


@dataclass(frozen=True, kw_only=True)
class LearnedWord:
    """One word and how well it was learned."""

    word: str
    songs: int  # labelled with it
    artists: int  # of these songs; folders count where songs name no artist
    refused: str | None = None  # why it was not learned; the figures below are then NaN or the reason
    # ROC-AUC and average precision on songs by artists that the classifier had not seen, with 95 % bootstrap intervals
    # that resample artists.
    roc_auc: float = math.nan
    pr_auc: float = math.nan
    roc_interval: tuple[float, float] = (math.nan, math.nan)
    pr_interval: tuple[float, float] = (math.nan, math.nan)
    # Score from which the word is decided: the lowest at which the examination found a precision of four in five, or if
    # there is none the one with the best F1; and the precision there.
    cutoff: float = 0.5
    precision: float = math.nan
    wrong: tuple[tuple[str, bool, float], ...] = ()  # the worst mistakes: path, whether it has the word, score


@dataclass(frozen=True, kw_only=True)
class LearnResult:
    """What was learned."""

    words: tuple[LearnedWord, ...]  # all words of the labels, in alphabetical order
    songs: int  # that were learned from
    not_in_index: tuple[str, ...]  # labelled entries that name no song of the index
    category: str | None  # of the words
    # The classifier of the words that were not refused: (learned words, embedding size) and (learned words,).
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    path: Path | None = None  # where the weights were installed

    @property
    def learned(self) -> tuple[LearnedWord, ...]:
        """The words that were not refused, in the order of the classifier's rows."""
        return tuple(word for word in self.words if word.refused is None)


@dataclass(frozen=True)
class _Songs:
    paths: list[str]
    groups: NDArray[np.intp]  # the number of each song's artist, or of its folder if it names none
    packed: NDArray[np.int16]  # embeddings as they are stored, a quarter of what float64 takes
    mean: FloatArray
    scale: FloatArray

    def vectors(self, rows: NDArray[np.intp]) -> FloatArray:
        """The standardised embeddings of these songs."""
        vectors = unpacked(self.packed[rows], len(rows)).astype(np.float64)
        vectors -= self.mean
        vectors /= self.scale
        return vectors

    def scores(self, model: Any, rows: NDArray[np.intp]) -> FloatArray:
        """The probabilities that a regression gives these songs."""
        parts = np.array_split(rows, max(1, len(rows) // _ROWS))
        return np.concatenate([model.predict_proba(self.vectors(part))[:, 1] for part in parts])


def learn_words(database: Database, weights: Weights, labels: Labels, *, seed: int = 0) -> LearnResult:
    """Learn and examine the words of `labels` on the embeddings of `weights`; `seed` is that of folds and intervals.

    A labelled song counts as a "no" for every word that it does not have. If there is only one word, all other songs of
    the index are its "no". A LibraryError says that there are no labels, or that no labelled song is in the index.
    """
    if not labels.songs and not labels.not_in_index:
        raise LibraryError("there are no labels to learn from: no song is labelled")
    wanted = set().union(*labels.songs.values()) if labels.songs else set()
    songs = _songs(database, weights, None if len(labels.songs) == 1 else wanted)
    if songs is None or not wanted & set(songs.paths):
        example = f" ({labels.not_in_index[0]!r} is not in the index)" if labels.not_in_index else ""
        raise LibraryError(f"none of the labelled songs was heard with {weights.name}: index them first{example}")
    examined = [_examine(word, labels.songs[word], songs, seed) for word in sorted(labels.songs, key=fold)]
    learned = [item.word for item in examined if item.refused is None]
    size = songs.packed.shape[1]
    weight, bias = np.zeros((len(learned), size)), np.zeros(len(learned))
    for row, word in enumerate(learned):
        positive = np.array([path in labels.songs[word] for path in songs.paths])
        model = _fit(songs, positive, np.arange(len(positive)), seed)
        weight[row] = model.coef_[0] / songs.scale
        bias[row] = model.intercept_[0] - weight[row] @ songs.mean
    return LearnResult(
        words=tuple(examined),
        songs=len(songs.paths),
        not_in_index=labels.not_in_index,
        category=labels.category,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def _songs(database: Database, weights: Weights, wanted: set[str] | None) -> _Songs | None:
    """The songs to learn from, those with these paths or all, with their groups; of songs that play the same, one."""
    question = "SELECT s.audio, s.path, s.artist FROM songs s JOIN embeddings e ON e.audio = s.audio AND e.space = ?"
    chosen: dict[int, tuple[str, str]] = {}
    for audio, path, artist in database.connection.execute(f"{question} ORDER BY s.path", (weights.space,)):
        name = os.fsdecode(path)
        if wanted is None or name in wanted:
            chosen.setdefault(audio, (name, fold(artist) or f"folder {os.path.dirname(name)}"))
    if not chosen:
        return None
    places = {audio: place for place, audio in enumerate(chosen)}
    table = np.empty((len(places), 0), "<i2")
    total = squares = np.zeros(1)
    for numbers, packed in packed_embeddings(database, weights.space):
        known = [i for i, audio in enumerate(numbers.tolist()) if audio in places]
        bits = np.frombuffer(packed, "<i2").reshape(len(numbers), -1)[known]
        if not table.size:
            table = np.empty((len(places), bits.shape[1]), "<i2")
        table[[places[int(numbers[i])] for i in known]] = bits
        vectors = unpacked(bits, len(bits)).astype(np.float64)
        total, squares = total + vectors.sum(axis=0), squares + np.square(vectors).sum(axis=0)
    mean = total / len(table)
    scale = np.maximum(np.sqrt(np.maximum(squares / len(table) - mean**2, 0)), 1e-3)
    paths, groups = zip(*chosen.values(), strict=True)
    return _Songs(list(paths), np.unique(np.array(groups), return_inverse=True)[1].ravel(), table, mean, scale)


def _fit(songs: _Songs, positive: NDArray[np.bool_], rows: NDArray[np.intp], seed: int) -> Any:
    """The logistic regression of `positive`, of all songs, on the embeddings of those in `rows`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    drawn = np.random.default_rng(seed).permutation(rows)
    rows = np.concatenate([drawn[positive[drawn]][:_MOST], drawn[~positive[drawn]][:_MOST]])
    rows.sort()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a score are not worth the time
        # Balanced: however rare the word is, a score of .5 lies between the songs with and without it.
        model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=200)
        return model.fit(songs.vectors(rows), positive[rows])


def _examine(word: str, labelled: set[str], songs: _Songs, seed: int) -> LearnedWord:
    from sklearn.metrics import average_precision_score, roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    from samptag.evaluation.metrics import cutoff, interval, resample

    positive = np.array([path in labelled for path in songs.paths])
    groups = songs.groups
    n_songs, n_artists = int(positive.sum()), len(set(groups[positive]))
    n_others, n_other_artists = int((~positive).sum()), len(set(groups[~positive]))
    fact: dict[str, Any] = {"word": word, "songs": n_songs, "artists": n_artists}
    if n_songs < MIN_SONGS or n_artists < MIN_ARTISTS:
        return LearnedWord(**fact, refused=_too_few(n_songs, n_artists, "with it"))
    if n_others < MIN_SONGS or n_other_artists < MIN_ARTISTS:
        return LearnedWord(**fact, refused=_too_few(n_others, n_other_artists, "without it"))
    folds = StratifiedGroupKFold(min(_FOLDS, n_artists, n_other_artists), shuffle=True, random_state=seed)
    scores = np.full(len(positive), np.nan)
    for train, test in folds.split(positive, positive, groups):
        if 0 < positive[train].sum() < len(train):
            scores[test] = songs.scores(_fit(songs, positive, train, seed), test)
    rows = np.flatnonzero(~np.isnan(scores))
    scores, positive, groups = scores[rows], positive[rows], groups[rows]
    roc, pr = float(roc_auc_score(positive, scores)), float(average_precision_score(positive, scores))
    drawn = resample(positive[:, None], scores[:, None], groups=list(groups), resamples=_RESAMPLES, seed=seed)
    low, high = interval(drawn[0], estimate=roc)
    decided = cutoff(positive, scores, or_best=True)
    assert decided is not None  # there are songs
    mistaken = (scores > 0.5) != positive
    worst = np.argsort(-np.abs(positive - scores), kind="stable")[:_WRONG]
    wrong = [(songs.paths[rows[i]], bool(positive[i]), float(scores[i])) for i in worst if mistaken[i]]
    return LearnedWord(
        **fact,
        refused=None if low > 0.5 else f"not told from other songs (ROC-AUC {roc:.2f}, {low:.2f} to {high:.2f})",
        roc_auc=roc,
        pr_auc=pr,
        roc_interval=(low, high),
        pr_interval=interval(drawn[1], estimate=pr),
        cutoff=decided[0],
        precision=decided[1],
        wrong=tuple(wrong),
    )


def _too_few(songs: int, artists: int, which: str) -> str:
    found = f"{counted(songs, 'song')} {which}, by {counted(artists, 'artist')}"
    return f"{found} (at least {MIN_SONGS} by {MIN_ARTISTS} are needed)"


def save_learned(result: LearnResult, *, base: str | os.PathLike[str], name: str, source: str, path: Path) -> ModelCard:
    """Write the weights file of the learned words, of which there is at least one, and return its card.

    `base` names the weights whose body it has; the card names `source` as the origin of the labels.
    """
    body, learned = load_weights(base), result.learned
    card = ModelCard(
        name=name,
        config=dataclasses.replace(body.card.config, n_tags=len(learned)),
        tags=tuple(word.word for word in learned),
        licence=body.card.licence,
        training_data=f"{result.songs} songs labelled by {source}; body of {body.card.name}: {body.card.training_data}",
        description=f"{len(learned)} words learned by samptag learn on {body.card.name}",
        source="samptag learn",
        tag_categories=None if result.category is None else (result.category,) * len(learned),
        cutoffs={word.word: round(word.cutoff, 4) for word in learned},
        cutoff_evidence={w.word: CutoffEvidence(precision=round(w.precision, 3), on="human") for w in learned},
        evidence={word.word: _evidence(word, result.songs, source) for word in learned},
    )
    # In float32, which represents whatever the body is stored in exactly: its embeddings must not change by a bit.
    save_model(path, {**body.tensors, "head.weight": result.weight, "head.bias": result.bias}, card=card)
    return card


def _evidence(word: LearnedWord, songs: int, source: str) -> Evidence:
    return Evidence(
        kind="human",
        n=word.songs,
        of=songs,
        roc_auc=round(word.roc_auc, 4),
        roc_auc_interval=_within(word.roc_interval),
        pr_auc=round(word.pr_auc, 4),
        pr_auc_interval=_within(word.pr_interval),
        data=f"songs labelled by {source}, each scored by what was learned from other artists alone",
    )


def _within(interval: tuple[float, float]) -> tuple[float, float]:
    """The part of the interval between 0 and 1, beyond which centring it on the estimate may have moved it."""
    low, high = np.clip(np.round(interval, 4), 0, 1).tolist()
    return low, high


def remember_learned(database: Database, weights: Weights, result: LearnResult, card: ModelCard, digest: str) -> None:
    """Score every song of the index with the learned words, and forget older learned weights of the same name."""
    head = head_bytes(result.weight, result.bias)
    with database.transaction() as connection:
        older, names = "FROM weights WHERE name = ? AND head NOT NULL AND digest != ?", (card.name, digest)
        connection.execute(f"DELETE FROM heard WHERE weights IN (SELECT id {older})", names)
        connection.execute(f"DELETE {older}", names)
        number = remember_weights(database, digest, card, space=weights.space, head=head)
        for numbers, vectors in all_embeddings(database, weights.space):
            scores = head_scores(head, vectors)
            rows = [(number, int(audio), row.tobytes()) for audio, row in zip(numbers, scores, strict=True)]
            connection.executemany("INSERT OR REPLACE INTO heard VALUES (?, ?, ?)", rows)


def songs_to_label(
    database: Database, weights: Weights, result: LearnResult, labels: Labels, *, n: int = 5
) -> Mapping[str, list[tuple[str, float]]]:
    """For each learned word, the `n` unlabelled songs whose scores are nearest to .5, with these scores."""
    labelled = set().union(*labels.songs.values())
    paths: dict[int, str] = {}
    for audio, path in database.rows("SELECT audio, path FROM songs WHERE audio NOT NULL AND NOT missing"):
        paths.setdefault(audio, os.fsdecode(path))
    paths = {audio: path for audio, path in paths.items() if path not in labelled}
    best: dict[str, list[tuple[str, float]]] = {word.word: [] for word in result.learned}
    head = head_bytes(result.weight, result.bias)
    for numbers, vectors in all_embeddings(database, weights.space):
        scores = head_scores(head, vectors).astype(np.float64)
        for column, word in enumerate(result.learned):
            pairs = zip(numbers.tolist(), scores[:, column].tolist(), strict=True)
            new = [(paths[audio], score) for audio, score in pairs if audio in paths]
            best[word.word] = sorted(best[word.word] + new, key=lambda item: abs(item[1] - 0.5))[:n]
    return best
