"""Words of mood against listeners' feelings: the ranks, the votes and the whole command on a few real clips."""

import csv
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from recipes.library.music import Track
from recipes.proof.moods import PAIRS, ceiling, main, number_of, read_votes, spearman
from samptag.errors import DatasetError

EMOTIONS = ("joyful_activation", "power", "sadness", "tenderness", "calmness")
# As the published table has it, with blanks in its first line.
HEAD = "track id, genre, amazement, joyful_activation, power, sadness, tenderness, calmness, mood"


def test_spearman_is_that_of_scipy_ties_and_all():
    one, other = np.array([0.1, 0.5, 0.5, 0.9, 0.2]), np.array([1.0, 2.0, 2.0, 2.0, 0.0])
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_within_genres_only_the_order_inside_each_counts():
    genres = np.array([0, 0, 0, 1, 1, 1])
    one, other = np.array([1.0, 2, 3, 11, 12, 13]), np.array([0.3, 0.2, 0.1, 0.9, 0.8, 0.7])
    assert spearman(one, other) > 0
    assert spearman(one, other, genres) == pytest.approx(-1)


def test_votes_are_read_from_the_table_as_published(tmp_path):
    (tmp_path / "data.csv").write_text(f"{HEAD}\n1,classical,1,0,1,0,0,0,3\n1,classical,0,1,0,0,0,0,2\n", "utf-8")
    emotions, votes = read_votes(tmp_path / "data.csv")
    assert emotions == EMOTIONS
    assert votes[1].tolist() == [[False, True, False, False, False], [True, False, False, False, False]]
    (tmp_path / "data.csv").write_text("track id,genre\n1,pop\n", "utf-8")
    with pytest.raises(DatasetError, match="no column 'joyful_activation'"):
        read_votes(tmp_path / "data.csv")
    (tmp_path / "data.csv").write_text(f"{HEAD}\n1,classical,1\n", "utf-8")
    with pytest.raises(DatasetError, match=r"data.csv, line 2: not a track's number and a listener's votes"):
        read_votes(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("classical/20.mp3", 20),
        ("audio/emotify/rock-7.opus", 107),
        ("pop/100.mp3", 400),
        ("songs/pop.mp3", None),
        ("hip-pop/12.mp3", None),
        ("pop/101.mp3", None),
    ],
)
def test_files_are_numbered_genre_by_genre(tmp_path, key, number):
    assert number_of(Track(key=key, path=tmp_path, artist="", source="", split="")) == number


def test_only_listeners_of_one_mind_can_be_foretold():
    votes = [np.full((10, 1), share) for share in (False, True, False, True)]
    assert ceiling(votes, 0) == pytest.approx(1)
    rng = np.random.default_rng(0)
    assert ceiling([rng.random((12, 1)) < 0.5 for _ in range(50)], 0) < 0.5


def test_the_command_prints_a_row_a_pair(tmp_path, media, monkeypatch, capsys):
    clips = {"classical/1.mp3": "eastern-dreams.mp3", "rock/2.ogg": "void-sensor.ogg", "pop/3.wav": "bay.wav"}
    for key, clip in clips.items():
        (tmp_path / key).parent.mkdir()
        (tmp_path / key).write_bytes((media / clip).read_bytes())
    with open(tmp_path / "tracks.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "artist", "source", "split"))
        rows.writerows((key, key, "emotify", "unlabelled") for key in clips)
    rng = np.random.default_rng(0)
    lines = [
        f"{number},genre,{','.join(map(str, rng.integers(0, 2, 6)))},3" for number in (1, 102, 303) for _ in range(9)
    ]
    (tmp_path / "data.csv").write_text("\n".join([HEAD, *lines, ""]), "utf-8")
    options = ["mel", "--music", str(tmp_path), "--ratings", str(tmp_path / "data.csv")]
    monkeypatch.setattr(sys, "argv", ["moods", *options])
    assert main() == 0
    said, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert said == "3 tracks by 3 artists, 27 listenings"
    assert head.startswith("| word | emotion | mel | mel, within genres |")
    assert [tuple(row.split(" | ")[:2]) for row in rows] == [(f"| {word}", e.replace("_", " ")) for word, e in PAIRS]
