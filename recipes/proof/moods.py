"""Words of mood against what people felt: ``python -m recipes.proof.moods --music DIR --ratings CSV WEIGHTS ...``.

Emotify (Aljanaki, Wiering, Veltkamp, "Studying emotion induced by music through a crowdsourcing game", 2015) played 400
one-minute excerpts to 11 to 59 listeners each, who named up to three of nine emotions that the music made them feel.
The table with its votes, ``data.csv``, goes in as it was published; the music is a collection as the library's recipe
describes it. For each pair of a word and an emotion the command prints Spearman's rank correlation, over tracks, of the
word's mean score with the share of listeners who felt the emotion, with a 95 % interval (artists drawn again); the same
within the genres alone, by ranks inside each; and the highest correlation to be expected of anything, since listeners
differ.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recipes.command import exit_code
from recipes.library.evaluate import VOCABULARY
from recipes.library.hearing import hear, teach
from recipes.library.music import SEGMENTS_PER_CLIP, Track, read_music
from samptag.core.config import ModelConfig
from samptag.data.listing import read_rows
from samptag.errors import DatasetError, UsageError
from samptag.evaluation.metrics import FloatArray
from samptag.tagging.tagger import Tagger
from samptag.training.vocabulary import read_vocabulary

PAIRS = (
    ("happy", "joyful_activation"),
    ("party", "joyful_activation"),
    ("energetic", "power"),
    ("loud", "power"),
    ("sad", "sadness"),
    ("emotional", "tenderness"),
    ("soft", "tenderness"),
    ("relaxing", "calmness"),
    ("chill", "calmness"),
    ("mellow", "calmness"),
    ("quiet", "calmness"),
)
# How the table numbers the tracks: each genre's hundred files one after another.
GENRES = ("classical", "rock", "electronic", "pop")
TRACK = re.compile(rf"(?:^|/)({'|'.join(GENRES)})[-/]([1-9]\d?|100)\.\w+$")
DRAWS = 1000

# Track's number -> whether each listener felt each emotion, (listeners, emotions).
Votes = dict[int, npt.NDArray[np.bool_]]


def read_votes(path: Path) -> tuple[tuple[str, ...], Votes]:
    """The emotions, and the votes of each track.

    Raises
    ------
    DatasetError
        The table cannot be read, or lacks an emotion.
    """
    emotions = tuple(dict.fromkeys(emotion for _, emotion in PAIRS))
    (_, head), *rows = [
        (line, [field.strip() for field in fields]) for line, fields in read_rows(path, delimiter=",")
    ] or [(1, [])]
    for name in ("track id", *emotions):
        if name not in head:
            raise DatasetError(f"{path}: no column {name!r}; it must be Emotify's table of votes")
    votes: dict[int, list[list[bool]]] = {}
    for line, fields in rows:
        row = dict(zip(head, fields, strict=False))
        if len(fields) < len(head) or not row["track id"].isdecimal():
            raise DatasetError(f"{path}, line {line}: not a track's number and a listener's votes")
        votes.setdefault(int(row["track id"]), []).append([row[emotion] == "1" for emotion in emotions])
    return emotions, {number: np.array(each) for number, each in votes.items()}


def number_of(track: Track) -> int | None:
    """The track's number in the table; None where it is not one of Emotify's."""
    found = TRACK.search(track.key)
    return None if found is None else 100 * GENRES.index(found[1]) + int(found[2])


def ranks(values: FloatArray) -> FloatArray:
    """Places in ascending order, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return found


def spearman(one: FloatArray, other: FloatArray, blocks: npt.NDArray[np.int64] | None = None) -> float:
    """Spearman's correlation, NaN where all are alike; with `blocks`, of ranks inside each, as shares of its size."""
    if blocks is None:
        blocks = np.zeros(len(one), dtype=np.int64)
    inside = np.zeros((2, len(one)))
    for block in np.unique(blocks):
        rows = blocks == block
        for row, values in enumerate((one, other)):
            inside[row, rows] = ranks(values[rows]) / rows.sum() - (1 + 1 / rows.sum()) / 2
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(inside)[0, 1])


def with_interval(one: FloatArray, other: FloatArray, artists: Sequence[str]) -> str:
    """The correlation and its 95 % interval, artists drawn again."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(np.array(artists) == artist) for artist in sorted(set(artists))]
    drawn = []
    for _ in range(DRAWS):
        chosen = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        drawn.append(spearman(one[chosen], other[chosen]))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return f"{spearman(one, other):.2f} ({low:.2f} to {high:.2f})"


def ceiling(votes: Sequence[npt.NDArray[np.bool_]], emotion: int) -> float:
    """The highest correlation with the shares to be expected of anything, by how well listeners agree.

    From r, the correlation of two halves of the listeners (the mean over a hundred ways to halve them), it is the root
    of the reliability of all of them, 2 r / (1 + r) (Spearman 1910, Brown 1910).
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        mixed = [rng.permutation(each[:, emotion]) for each in votes]
        halves = [[half.mean() for half in np.array_split(each, 2)] for each in mixed]
        found.append(spearman(*np.array(halves).T))
    r = max(0.0, float(np.mean(found)))
    return float(np.sqrt(2 * r / (1 + r)))


def teachers_scores(
    names: Sequence[str], tracks: Sequence[Track], *, cache: Path | None
) -> tuple[Sequence[str], FloatArray]:
    """The library's words, and what the teachers say of them, (tracks, words), at a student's consecutive segments."""
    words = read_vocabulary(VOCABULARY)
    told = teach(names, tracks, model=ModelConfig(), per_clip=SEGMENTS_PER_CLIP, cache=cache, device="auto")
    merge = words.merger({name: tags for name, (tags, _) in told.items()})
    means = [merge({name: table[track.key] for name, (_, table) in told.items()}).mean(axis=0) for track in tracks]
    return words.tags, np.array(means)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.proof.moods", description=__doc__.split("\n")[0])
    parser.add_argument("weights", nargs="+", help="names or files of weights with the library's words")
    parser.add_argument("--music", type=Path, required=True, metavar="DIR", help="a collection with tracks.csv")
    parser.add_argument("--ratings", type=Path, required=True, metavar="CSV", help="Emotify's data.csv")
    parser.add_argument("--teacher", default="", metavar="NAME,...", help="weights to compare with")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for decoded audio and what teachers say")
    options = parser.parse_args()

    def compare() -> None:
        emotions, votes = read_votes(options.ratings)
        numbered = {number_of(track): track for track in read_music(options.music)}
        numbers = [number for number in numbered if number in votes]
        tracks = [numbered[number] for number in numbers]
        if not tracks:
            raise UsageError(f"{options.music}: none of its tracks is one of Emotify's, such as classical/1.mp3")
        judged: dict[str, tuple[Sequence[str], FloatArray]] = {}
        taggers = {name: Tagger.from_pretrained(name) for name in options.weights}
        for name, tagger in taggers.items():
            if unknown := [word for word, _ in PAIRS if word not in tagger.tags]:
                raise UsageError(f"{name} has no word {unknown[0]!r}; name weights with the library's words")
        for name, tagger in taggers.items():
            table = hear(tagger, tracks)
            judged[name] = tagger.tags, np.array([table[track.key].mean(axis=0) for track in tracks])
        if options.teacher:
            judged["the teachers"] = teachers_scores(options.teacher.split(","), tracks, cache=options.cache)
        felt = [votes[number] for number in numbers]
        genres = (np.array(numbers) - 1) // 100
        artists = [track.artist for track in tracks]
        print(f"{len(tracks)} tracks by {len(set(artists))} artists, {len(np.concatenate(felt))} listenings\n")
        head = ["word", "emotion", *(f"{name}{kind}" for name in judged for kind in ("", ", within genres"))]
        print(f"| {' | '.join(head)} | at best |\n|{' --- |' * (len(head) + 1)}")
        for word, emotion in PAIRS:
            place = emotions.index(emotion)
            shares = np.array([each[:, place].mean() for each in felt])
            cells = [word, emotion.replace("_", " ")]
            for tags, means in judged.values():
                scores = means[:, list(tags).index(word)].astype(np.float64)
                cells += [with_interval(scores, shares, artists), f"{spearman(scores, shares, genres):.2f}"]
            print(f"| {' | '.join(cells)} | {ceiling(felt, place):.2f} |")

    return exit_code(compare)


if __name__ == "__main__":
    sys.exit(main())
