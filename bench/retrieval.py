"""Whether `similar` is worth having: same-artist and same-genre retrieval by several descriptions of the same songs.

::

    python -m bench.retrieval --db library.db --tracks tracks.csv [--also NAME=VECTORS.npz ...]

``tracks.csv`` has the columns path, artist and genre; the index was made of the files it lists. An ``--also`` archive
holds one vector a file under the file's name. Every song is asked for its ten nearest; measured are

- same-artist@10: of the songs by its artist (at most ten), the share among the ten; songs by artists of one song are
  neighbours, but ask nothing;
- same-genre@10: the share of its genre among the ten nearest by other artists, for an artist's songs are of one genre.

Chance is the mean over random orders. Intervals: 95 %, by bootstrap over artists.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from samptag import Library
from samptag.library.similar import all_embeddings

NEAREST = 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", required=True)
    parser.add_argument("--tracks", required=True)
    parser.add_argument("--also", action="append", default=[])
    options = parser.parse_args()
    with open(options.tracks, newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file) if row["artist"] and row["genre"]}
    with Library(options.db) as library:
        found = {Path(song.path).name: song for song in library.find()}
        weights = library.weights()
        vectors: dict[int, np.ndarray] = {}
        with library._reading() as database:
            for numbers, block in all_embeddings(database, weights.space):
                vectors.update(zip(numbers.tolist(), block.copy(), strict=True))
    also = dict(text.split("=", 1) for text in options.also)
    archives = {name: np.load(path) for name, path in also.items()}
    names = sorted(name for name in rows if name in found and all(name in archive for archive in archives.values()))
    scores = np.array([list(found[name].scores.values()) for name in names])
    embeddings = np.stack([vectors[found[name].audio] for name in names])
    artists = np.array([rows[name]["artist"] for name in names])
    genres = np.array([rows[name]["genre"] for name in names])
    print(f"{len(names)} songs, {len(set(artists))} artists, {len(set(genres))} genres")
    described = {
        "embedding, centred cosine (`similar`)": embeddings - embeddings.mean(axis=0),
        "embedding, cosine": embeddings,
        "tag scores, centred cosine": scores - scores.mean(axis=0),
    }
    for name, archive in archives.items():
        table = np.stack([archive[key] for key in names])
        described[f"{name}, centred cosine"] = table - table.mean(axis=0)
        described[f"{name}, cosine"] = table
    generator = np.random.default_rng(0)
    noise = [measures(generator.random((len(names), len(names))), artists, genres) for _ in range(20)]
    report("chance", *(np.mean([pair[i] for pair in noise], axis=0) for i in (0, 1)), artists)
    for name, table in described.items():
        unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        report(name, *measures(unit @ unit.T, artists, genres), artists)


def measures(alike: np.ndarray, artists: np.ndarray, genres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Same-artist@10 and same-genre@10 of every song, (songs,) each; NaN for a song that asks nothing."""
    same_artist = np.full(len(alike), np.nan)
    same_genre = np.full(len(alike), np.nan)
    for i, row in enumerate(alike):
        others = np.flatnonzero(np.arange(len(row)) != i)
        order = others[np.argsort(-row[others], kind="stable")]
        siblings = (artists[others] == artists[i]).sum()
        if siblings:
            same_artist[i] = (artists[order[:NEAREST]] == artists[i]).sum() / min(siblings, NEAREST)
        strangers = order[artists[order] != artists[i]][:NEAREST]
        same_genre[i] = (genres[strangers] == genres[i]).mean()
    return same_artist, same_genre


def report(name: str, same_artist: np.ndarray, same_genre: np.ndarray, artists: np.ndarray) -> None:
    """Print one row."""
    cells = [
        f"{np.nanmean(v):.3f} ({low:.3f} to {high:.3f})"
        for v in (same_artist, same_genre)
        for low, high in [interval(v, artists)]
    ]
    print("| " + " | ".join([name, *cells]) + " |")


def interval(values: np.ndarray, artists: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """The central 95 % of the mean when artists are drawn again."""
    names, group = np.unique(artists, return_inverse=True)
    asked = ~np.isnan(values)
    sums = np.bincount(group[asked], values[asked], len(names))
    counts = np.bincount(group[asked], minlength=len(names))
    drawn = np.random.default_rng(1).integers(len(names), size=(draws, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
