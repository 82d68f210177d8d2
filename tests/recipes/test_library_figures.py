"""The figures of the library's words, from music to cut-offs, on the clips in tests/media and random networks."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.library.cutoffs import cutoffs
from recipes.library.evaluate import VOCABULARY, Judged, judge, measure, ranking, text
from recipes.library.hearing import hear
from recipes.library.music import Track, read_music, truth_of
from samptag.core.card import ModelCard
from samptag.core.model import ModelConfig, SampleCNN
from samptag.core.weights import save_model
from samptag.pretrained import load_registry
from samptag.tagging.tagger import Tagger
from samptag.training.vocabulary import read_vocabulary

MEDIA = Path(__file__).resolve().parents[1] / "media"
CLIPS = ("eastern-dreams.mp3", "lava.opus", "void-sensor.ogg", "bay.wav", "calm-before-the-storm.flac")
SUNG, WORDLESS = {"female": 1.0, "rock": 0.5}, {"slow": 1.0}


def random_weights(folder: Path, name: str, tags: tuple[str, ...], seed: int) -> str:
    torch.manual_seed(seed)
    config = ModelConfig(m=3, n=5, first_filter=27, first_stride=27, n_tags=len(tags))
    model = SampleCNN(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(2)
    path = folder / f"{name}.safetensors"
    save_model(
        path, model, card=ModelCard(name=name, config=config, tags=tags, licence="CC0-1.0", training_data="none")
    )
    return str(path)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    lists = load_registry().tag_lists
    named = {"mtat50": "mtat50-won", "msd50": "msd50", "jamendo50": "jamendo50"}
    return [
        random_weights(folder, f"net-{name}", lists[known].tags, seed)
        for seed, (name, known) in enumerate(named.items())
    ]


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Ten tagged tracks, two held out, two others, two field recordings and two mixes."""
    folder = tmp_path_factory.mktemp("music")
    held_out = Path(VOCABULARY).with_name("held_out.txt").read_text().split("\n")[:2]
    rows = [(f"{i}.{split}", "emotify", split, "rock" if i else "pop", SUNG if i < 4 else WORDLESS, "")
            for split in ("valid", "train") for i in range(5)]  # fmt: skip
    rows += [(path, "emotify", "unlabelled", "rock", {}, "") for path in held_out]
    rows += [(f"{i}.other", "orois", "unlabelled", "", {}, "") for i in range(2)]
    rows += [(f"nhs/{sex}", "nhs", "test", "", {}, "") for sex in ("female", "male")]
    rows += [(f"{note}.mix", "evr", "unlabelled", "", {}, note) for note in ("vox", "inst")]
    with (folder / "tracks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "artist", "title", "genre", "split", "tags", "note"])
        for place, (path, source, split, genre, tags, note) in enumerate(rows):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MEDIA / CLIPS[place % len(CLIPS)], folder / path)
            writer.writerow([path, source, f"artist {place}", "", genre, split, json.dumps(tags) if tags else "", note])
    with (folder / "nhs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["path", "singers_sex", "sex_heard"], ["nhs/female", "female", "male"], ["nhs/male", "male", "male"]]
        )
    return read_music(folder)


@pytest.fixture(scope="module")
def figures(teachers, music, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    student = random_weights(folder, "student-library", read_vocabulary(VOCABULARY).tags, seed=7)
    return measure(student, music=music, teachers=teachers, cache=folder / "cache", perturbations=("gain:-12dB",))


def test_people_test_the_words_that_their_tags_mean(figures, music):
    words = figures["words"]
    assert "tags" not in figures
    assert {tag["tag"] for tag in words["human"]["tags"]} == {"rock", "vocals", "female vocals"}
    assert words["evidence"]["rock"]["kind"] == "human"
    assert (words["evidence"]["rock"]["n"], words["evidence"]["rock"]["of"]) == (4, 5)
    assert "gain:-12dB" in words["human"]["degraded"]
    assert set(words["concepts"]) >= {"anyone sings", "field recordings of songs", "mixes with a voice"}


def test_other_words_are_compared_with_their_teachers(figures):
    jazz = figures["words"]["evidence"]["jazz"]
    assert jazz["kind"] == "teachers"
    assert jazz["teachers"] == ["net-msd50", "net-jamendo50"]  # MagnaTagATune has no such tag
    assert jazz["tracks"] == 2
    assert -1 <= jazz["correlation"] <= 1


def test_the_text_names_every_word_with_evidence(figures):
    shown = text(figures)
    assert all(word in shown for word in figures["words"]["evidence"])
    json.dumps(figures, allow_nan=False)


def test_teachers_alone(teachers, music, tmp_path):
    words = measure(None, music=music, teachers=teachers, cache=tmp_path)["words"]
    assert words["evidence"]["rock"]["n"] == 4
    assert words["agreement"] == {}


def test_a_model_of_peoples_tags_is_judged_by_tags_and_by_words(teachers, music, tmp_path):
    figures = measure(teachers[0], music=music, teachers=teachers[:1], cache=tmp_path, perturbations=())
    assert figures["tags"]["agreement"]["by_segment"] > 0.99  # it is its own teacher
    assert {tag["tag"] for tag in figures["tags"]["human"]["tags"]} == {"rock", "female"}
    by_tag, by_word = figures["tags"]["evidence"]["rock"], figures["words"]["evidence"]["rock"]
    assert by_tag == by_word
    table = hear(Tagger.from_pretrained(teachers[0]), [track for track in music if track.split == "valid"])
    rock = [
        float(scores[:, load_registry().tag_lists["mtat50-won"].tags.index("rock")].mean()) for scores in table.values()
    ]
    assert by_tag["roc_auc"] == pytest.approx(np.mean(np.array(rock[:4]) > rock[4]), abs=1e-6)


def made(tracks: int, **fields) -> list[Track]:
    return [
        Track(key=f"{i}", path=Path(f"{i}"), artist=f"{i}", source="emotify", split="unlabelled", **fields)
        for i in range(tracks)
    ]


def test_agreement_is_pearsons_correlation():
    rng = np.random.default_rng(0)
    tracks = made(3, held_out=True)
    own, theirs = ({t.key: rng.random((4, 2)).astype(np.float32) for t in tracks} for _ in range(2))
    theirs["0"] = np.concatenate([theirs["0"], [[9, 9]]])  # a segment that only they have
    judged = Judged(words=("a", "b"), people={}, own=own, teachers=theirs, taught_by={"a": (), "b": ()})
    found = judge(judged, tracks)["agreement"]
    ours, reference = np.concatenate(list(own.values())), np.concatenate([theirs[t.key][:4] for t in tracks])
    assert found["by_segment_of_word"]["b"] == pytest.approx(np.corrcoef(ours[:, 1], reference[:, 1])[0, 1], abs=1e-4)
    assert (found["tracks"], found["segments"]) == (3, 12)


def test_instrumental_is_where_nobody_wrote_a_voice():
    tracks = [replace(track, tags=tags) for track, tags in zip(made(2), (SUNG, WORDLESS), strict=True)]
    truth = truth_of(tracks, words={"vocals": ("female",), "instrumental": ("no vocals",)}, name="t")
    assert truth.labels.tolist() == [[1, 0], [0, 1]]


def test_intervals_need_two_artists():
    labels, scores = [True, False, True, False], [0.9, 0.8, 0.7, 0.1]
    assert ranking(labels, scores, groups=["a"] * 4, data="d") == {
        "kind": "human", "n": 2, "of": 4, "data": "d", "roc_auc": 0.75, "pr_auc": 0.8333,
    }  # fmt: skip
    low, high = ranking(labels, scores, groups=list("abcd"), data="d")["roc_auc_interval"]
    assert low <= 0.75 <= high


def test_the_lowest_score_that_is_right_often_enough():
    """By people, who have the word for all their tracks, and by the teachers: the higher where both suffice."""
    truth = truth_of(made(9, tags=SUNG), words={"a": ("female",)}, name="t")
    people = truth, np.full((9, 1), 0.1, np.float32)

    def limit(positive, scores):
        return cutoffs(["a"], people=people, teachers=(scores[:, None], positive[:, None].astype(np.float32)))["a"]

    positive = np.array([True] * 8 + [False, True, True, False, False, False])
    scores = np.linspace(0.9, 0.25, len(positive))
    found = limit(positive, scores)
    assert found.on == "teachers"
    past = scores >= found.score
    assert positive[past].mean() == pytest.approx(found.precision, abs=1e-3)
    assert past.sum() == 12  # ten of twelve are right, ten of thirteen are not
    assert limit(positive[::-1], scores).on == "human"
    assert limit(positive[5:], scores[5:]).on == "human"
