"""The figures of the model card, from weights to card, on the clips in tests/media."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.samplecnn_3_9_mtat50.card import figures_text, model_card
from recipes.samplecnn_3_9_mtat50.collection import held_out_paths, public_sources, read_music, read_teacher_scores
from recipes.samplecnn_3_9_mtat50.evaluate import measure, reusable
from recipes.samplecnn_3_9_mtat50.export import NAME, export, publish, student
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from samptag.core.weights import load_model_file
from samptag.data import open_dataset
from samptag.errors import DatasetError
from samptag.fetch import file_sha256
from samptag.pretrained.registry import load_registry
from samptag.tagging.tagger import Tagger

ROOT = Path(__file__).resolve().parents[2]
MEDIA = ROOT / "tests" / "media"
CLIPS = ("eastern-dreams.mp3", "lava.opus", "void-sensor.ogg", "bay.wav", "calm-before-the-storm.flac")
SEGMENTS = 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "any.safetensors"
    export(path, student().state_dict())
    return path


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Five tracks that listeners tagged, two held out, one for training; the first four are rock."""
    folder = tmp_path_factory.mktemp("collection")
    held_out = sorted(held_out_paths())[:2]
    rows = [(f"{i}-{clip}", clip, "valid", {"rock": 0.5} if i < 4 else {"slow": 1.0}) for i, clip in enumerate(CLIPS)]
    rows += [(path, clip, "unlabelled", {}) for path, clip in zip(held_out, CLIPS, strict=False)]
    rows.append(("train.ogg", "void-sensor.ogg", "train", {"rock": 1.0}))
    with (folder / "tracks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "artist", "title", "split", "tags"])
        for path, clip, split, tags in rows:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MEDIA / clip, target)
            writer.writerow([path, "orois", f"artist of {path}", "", split, json.dumps(tags) if tags else ""])
    rng = np.random.default_rng(0)
    scores = rng.random((SEGMENTS * len(rows), 2, len(TAGS))).astype(np.float16)
    np.savez(folder / "teacher.npz", scores=scores, segments_per_track=np.full(len(rows), SEGMENTS))
    return folder


@pytest.fixture(scope="module")
def figures(weights, collection):
    return measure(
        weights, collection=collection, teacher_scores=collection / "teacher.npz", perturbations=("gain:-12dB",)
    )


def test_tagged_tracks_are_scored_with_the_teacher_beside(figures, weights):
    valid = figures["valid"]
    assert (valid["clips"], valid["groups"]) == (5, 5)
    assert [tag["tag"] for tag in valid["tags"]] == ["rock"]
    assert valid["against"]["model"] == "teacher"
    tagger = Tagger(load_model_file(weights))
    rock = [next(s.score for s in tagger.tag(MEDIA / clip).scores if s.tag == "rock") for clip in CLIPS]
    assert valid["macro"]["roc_auc"] == pytest.approx(np.mean(np.array(rock[:4]) > rock[4]), abs=1e-6)


def test_held_out_music_is_compared_with_the_teacher_by_track_and_segment(figures, weights, collection):
    tracks = read_music(collection)
    _, segments = read_teacher_scores(collection / "teacher.npz", tracks=tracks, tags=TAGS)
    tagger = Tagger(load_model_file(weights))
    ours, theirs = [], []
    for number, track in enumerate(tracks):
        if track.held_out:
            taggram = tagger.tag(track.path).taggram[:SEGMENTS]
            ours.append(taggram)
            theirs.append(segments[number * SEGMENTS :][: len(taggram)])
    ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    expected = np.mean([np.corrcoef(ours[:, tag], theirs[:, tag])[0, 1] for tag in range(len(TAGS))])
    assert figures["held_out"]["segments"]["n"] == len(ours)
    assert figures["held_out"]["segments"]["correlation"] == pytest.approx(expected, abs=2e-3)
    assert figures["held_out"]["tracks"]["n"] == 2


def test_clips_are_those_heard_in_the_collections_order(figures):
    names = [clip["title"] for clip in figures["clips"]]
    assert names[:5] == [Path(f"{i}-{clip}").stem for i, clip in enumerate(CLIPS)]
    assert len(names) == 7
    assert "train" not in names
    assert figures["clips"][0]["listeners"] == ["rock"]
    assert all(len(clip["tags"]) == 5 and clip["licence"] for clip in figures["clips"])


def test_figures_on_file_are_used_for_the_very_same_weights_only(figures, weights, tmp_path):
    file = tmp_path / "figures.json"
    assert reusable(file, weights, perturbations=("gain:-12dB",)) is None
    file.write_text(json.dumps(figures))
    assert reusable(file, weights, perturbations=("gain:-12dB",)) == figures
    assert reusable(file, weights, perturbations=()) is None
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    export(other, student().state_dict())
    assert reusable(file, other, perturbations=("gain:-12dB",)) is None


def test_the_card_holds_every_figure_and_names_no_slot(figures):
    text = model_card(figures)
    assert figures_text(figures) in text
    assert f"{figures['valid']['macro']['roc_auc']:.4f}" in text
    assert "gain:-12dB" in text
    assert not any(f"${word}" in text for word in ("figures", "runs", "sources", "sha256", "version"))


def test_published_weights_are_registered_and_score_the_same(figures, weights, tmp_path):
    shutil.copy(ROOT / "weights" / "registry.json", tmp_path)
    target = publish(weights, figures=figures, folder=tmp_path)
    entry = load_registry(tmp_path / "registry.json").entries[NAME]
    assert entry.licence == "CC-BY-NC-SA-4.0"
    published, before = load_model_file(target), load_model_file(weights)
    assert published.card.metrics["roc_auc"] == figures["valid"]["macro"]["roc_auc"]
    assert load_registry(tmp_path / "registry.json").entries[NAME].scores[0].protocol == "all"
    for name, tensor in published.model.state_dict().items():
        assert torch.equal(tensor, before.model.state_dict()[name]), name
    assert file_sha256(target) in (tmp_path / f"{NAME}.md").read_text(encoding="utf-8")


def test_scores_of_another_collection_are_refused(collection):
    tracks = read_music(collection)
    with pytest.raises(DatasetError, match=r"scores 8 tracks .* the collection has 7"):
        read_teacher_scores(collection / "teacher.npz", tracks=tracks[1:], tags=TAGS)


def test_only_unlabelled_tracks_are_held_out_and_valid_ones_never_trained_on(collection):
    tracks = read_music(collection)
    assert [track.split for track in tracks if track.trainable] == ["train"]
    assert sum(track.held_out for track in tracks) == 2
    assert not replace(tracks[0], split="valid").trainable


def test_a_folder_without_a_table_is_all_its_music_once(tmp_path):
    (tmp_path / "game" / "music").mkdir(parents=True)
    for name in ("a.mp3", "again.mp3"):
        shutil.copy(MEDIA / "eastern-dreams.mp3", tmp_path / "game" / "music" / name)
    (track,) = read_music(tmp_path)
    assert (track.key, track.source, track.split) == ("game/music/a.mp3", "game", "unlabelled")


def test_sources_name_origin_and_licence():
    sources = public_sources()
    assert len({source.source for source in sources}) == len(sources)
    assert all(source.origin and source.licence and source.what for source in sources)
    assert {source.kind for source in sources} == {"repository", "debian", "pypi"}


def test_the_table_of_tagged_tracks_is_what_the_card_says_of_it(tmp_path):
    """123 public tracks, no artist on both sides, all of them in the folders the teacher was trained on."""
    table = ROOT / "recipes" / "samplecnn_3_9_mtat50" / "tracks.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
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

    shutil.copy(table, tmp_path)
    for row in rows:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        shutil.copy(MEDIA / "set" / "calm-01-honor-bound.opus", tmp_path / row["path"])
    dataset = open_dataset(tmp_path / "tracks.csv")
    assert len({clip.group for clip in dataset.select("valid")}) == 31
    assert [(track.key, track.split) for track in read_music(tmp_path)] == [(row["path"], row["split"]) for row in rows]


def test_a_collection_without_held_out_music_is_measured_all_the_same(weights, collection, tmp_path):
    shutil.copytree(collection, tmp_path / "tagged")
    table = tmp_path / "tagged" / "tracks.csv"
    kept = [number for number, track in enumerate(read_music(collection)) if track.split == "valid"]
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join([lines[0], *(lines[1 + number] for number in kept)]), encoding="utf-8")
    with np.load(collection / "teacher.npz") as content:
        scores = content["scores"].reshape(-1, SEGMENTS, *content["scores"].shape[1:])[kept]
    teacher = tmp_path / "teacher.npz"
    np.savez(teacher, scores=scores.reshape(-1, *scores.shape[2:]), segments_per_track=np.full(len(kept), SEGMENTS))
    found = measure(weights, collection=tmp_path / "tagged", teacher_scores=teacher, perturbations=())
    assert found["held_out"] is None
    assert "the tagged tracks" in figures_text(found)
