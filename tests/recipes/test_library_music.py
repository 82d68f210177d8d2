"""The tables of the music: who was tagged and on which side, and where everything comes from."""

import csv
import json
import shutil
from pathlib import Path

from recipes.library.music import read_music
from samptag.data.formats import open_dataset
from samptag.data.formats.mtat import TAGS

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "library"
MEDIA = Path(__file__).resolve().parents[1] / "media"


def table(name: str) -> list[dict[str, str]]:
    with (RECIPE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_sources_name_origin_and_licence():
    sources = table("sources.csv")
    assert len({each["source"] for each in sources}) == len(sources)
    assert all(each["origin"] and each["licence"] and each["what"] for each in sources)
    assert {each["kind"] for each in sources} == {"repository", "debian", "pypi"}


def test_the_table_of_tagged_tracks_is_what_the_cards_say_of_it(tmp_path):
    """123 public tracks, no artist on both sides, all of them in the folders the teachers were trained on."""
    rows = table("tracks.csv")
    sides = {side: [row for row in rows if row["split"] == side] for side in ("train", "valid")}
    assert {side: len(found) for side, found in sides.items()} == {"train": 60, "valid": 63}
    artists = {side: {row["artist"] for row in found} for side, found in sides.items()}
    assert len(artists["valid"]) == 31
    assert not artists["train"] & artists["valid"]
    assert all(row["mtat_folders"] and set(row["mtat_folders"].split()) <= set("0123456789ab") for row in rows)
    shares = [(tag, share) for row in rows for tag, share in json.loads(row["tags"]).items()]
    assert all(tag in TAGS and 0 < share <= 1 for tag, share in shares)
    positives = [sum(tag in json.loads(row["tags"]) for row in sides["valid"]) for tag in TAGS]
    assert sum(count >= 4 for count in positives) == 36

    shutil.copy(RECIPE / "tracks.csv", tmp_path)
    for row in rows:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        shutil.copy(MEDIA / "set" / "calm-01-honor-bound.opus", tmp_path / row["path"])
    dataset = open_dataset(tmp_path / "tracks.csv")
    assert len({clip.group for clip in dataset.select("valid")}) == 31
    music = read_music(tmp_path)
    assert [(track.key, track.split) for track in music] == [(row["path"], row["split"]) for row in rows]
    assert all(track.genre == track.path.parent.name for track in music)
