"""The library's recipe at the size of a test, from music to a published file: all its steps on clips of tests/media."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.library import __main__ as recipe
from recipes.library import evaluate, excerpts, vary
from recipes.library.publish import publish
from samptag.core.weights import read_weights
from samptag.data.formats import mtat
from samptag.errors import UsageError
from samptag.pretrained import load_registry
from samptag.tagging.tagger import Tagger
from samptag.training.vocabulary import read_vocabulary

ROOT = Path(__file__).resolve().parents[2]
MEDIA = ROOT / "tests" / "media"
CLIPS = ("lava.opus", "void-sensor.ogg", "bay.wav", "calm-before-the-storm.flac")
HELD_OUT = ("lava.opus", "set/calm-01-honor-bound.opus")
NET = "samplecnn-3-9"
NAME = f"{NET}-library"
TEACHER = "samplecnn-3-9-mtat50"
WORDS = """word,category,sources,note
rock,genre,mtat50:rock,
vocals,voice,mtat50:vocal; mtat50:vocals; mtat50:female; mtat50:male,
female vocals,voice,mtat50:female,
male vocals,voice,mtat50:male,
slow,pace,mtat50:slow,
"""
LONG, SHORT = 3 * 22_050, 22_050
SUNG, WORDLESS = {"female": 1.0, "rock": 0.5}, {"slow": 1.0}


def write_music(folder: Path) -> None:
    """Five valid tracks, nine for training and cut-offs, two held out; all but one of each part are rock."""
    held_out = evaluate.VOCABULARY.with_name("held_out.txt").read_text(encoding="utf-8").splitlines()[:2]
    tagged = [(part, i) for part, n in (("valid", 5), ("train", 9)) for i in range(n)]
    rows = [(f"{part}/{i}-{CLIPS[i % 4]}", CLIPS[i % 4], part, SUNG if i else WORDLESS) for part, i in tagged]
    rows += [(path, clip, "unlabelled", {}) for path, clip in zip(held_out, HELD_OUT, strict=True)]
    with (folder / "tracks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "artist", "title", "split", "tags"])
        for place, (path, clip, split, tags) in enumerate(rows):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MEDIA / clip, folder / path)
            writer.writerow([path, "emotify", f"artist {place}", "", split, json.dumps(tags) if tags else ""])


@pytest.fixture(scope="module")
def made(tmp_path_factory, forking):
    """The folder of a run of all steps, with what it published in weights/."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "words.csv").write_text(WORDS)
    for name in ("music", "weights"):
        (folder / name).mkdir()
    write_music(folder / "music")
    shutil.copy(ROOT / "weights" / "registry.json", folder / "weights")
    (folder / "game").mkdir()
    for clip in (*CLIPS, "eastern-dreams.mp3"):
        shutil.copy(MEDIA / clip, folder / "game")
    shutil.copy(MEDIA / "eastern-dreams.mp3", folder / "game" / "again.mp3")
    (folder / "game" / "broken.ogg").write_bytes(b"no music")
    (folder / "excerpts").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["excerpts", str(folder / "excerpts"), f"game={folder / 'game'}"])
        assert excerpts.main() == 0
    arguments = {
        "--music": "music",
        "--excerpts": "excerpts",
        "--work": "work",
        "--cache": "cache",
        "--publish-to": "weights",
    }
    command = [text for option, name in arguments.items() for text in (option, str(folder / name))]
    tiny = recipe.Student(NET, f"--model {NET} --batch-size 4 --max-steps 3")
    with pytest.MonkeyPatch.context() as patch:
        forking(patch, recipe)
        patch.setattr(recipe, "STUDENTS", (tiny,))
        patch.setattr(recipe, "TEACHERS", (TEACHER,))
        patch.setattr(recipe, "VALID_SHARE", 3)
        patch.setattr(vary, "LONG", LONG)
        patch.setattr(vary, "SHORT", SHORT)
        patch.setattr(recipe, "PERTURBATIONS", ("gain:-12dB",))
        for module in (recipe, evaluate):
            patch.setattr(module, "VOCABULARY", folder / "words.csv")
        patch.setattr(
            sys,
            "argv",
            ["recipes.library", *command, "--versions", "2", "--parts", "library", "mtat50", "--", *recipe.STEPS],
        )
        assert recipe.main() == 0
    return folder


def test_students_learn_from_nothing_that_is_measured(made):
    with (made / "work" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(Path(row["path"]).relative_to((made / "music").resolve()).parts[0] for row in rows) == ["train"] * 9
    assert {row["split"] for row in rows} == {"train", "valid"}


def test_all_that_is_learned_from_has_versions_that_are_made_anew_as_they_were(made, monkeypatch):
    monkeypatch.setattr(vary, "LONG", LONG)
    monkeypatch.setattr(vary, "SHORT", SHORT)
    tables = {}
    for name in ("manifest", "varied"):
        with (made / "work" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    excerpt, *versions = tables["varied"][len(tables["manifest"]) :]
    assert excerpt["group"] == "game"  # of the one song there that is long enough, and is there twice
    assert soundfile.info(excerpt["path"]).frames == 6 * 59_049
    originals = [row for row in tables["manifest"] if row["split"] == "train"] + [excerpt]
    assert {row["split"] for row in versions} == {"train"}
    assert sorted(row["group"] for row in versions) == sorted(2 * [row["group"] for row in originals])
    files = [Path(row["path"]) for row in versions]
    before = [file.read_bytes() for file in files]
    sounds = [soundfile.read(file)[0] for file in files]
    seconds = [soundfile.info(row["path"]).duration for row in originals]
    lengths = 2 * [LONG if each >= LONG / 22_050 else SHORT for each in seconds]
    assert sorted(len(sound) for sound in sounds) == sorted(lengths)
    assert len({sound.tobytes() for sound in sounds}) == 2 * len(originals)
    files[0].unlink()
    lists = made / "work" / "manifest.csv", made / "work" / "varied.csv"
    vary.vary(*lists, excerpts=made / "excerpts", versions=2, cache=made / "cache")
    assert [file.read_bytes() for file in files] == before


def test_the_published_file_says_what_is_known_of_its_words(made):
    target = made / "weights" / f"{NAME}.safetensors"
    card = read_weights(target).card
    assert dict(zip(card.tags, card.tag_categories, strict=True))["female vocals"] == "voice"
    assert (card.evidence["rock"].kind, card.evidence["rock"].n, card.evidence["rock"].of) == ("human", 4, 5)
    assert (card.evidence["slow"].kind, card.evidence["slow"].teachers) == ("teachers", (TEACHER,))
    assert card.concepts["anyone sings"].evidence.n == 4
    assert card.cutoff_evidence["rock"].on == "human"
    assert card.cutoffs["rock"] > 0
    assert card.training_data.endswith(f" tracks, versions of tracks and excerpts, taught by {TEACHER}")
    result = Tagger.from_pretrained(target).tag(MEDIA / "bay.wav")
    assert {score.tag for score in result.scores} == set(card.tags)


@pytest.mark.parametrize("name", [NAME, "frame-mel-729-243-library"])
def test_the_teachers_of_a_bundled_word_know_it(name):
    sources = {word.word: word.sources for word in read_vocabulary(evaluate.VOCABULARY).words}
    for word, evidence in read_weights(ROOT / "weights" / f"{name}.safetensors").card.evidence.items():
        if evidence.kind == "teachers":
            assert {teacher.split("-")[-1] for teacher in evidence.teachers} == set(sources[word]), word


def test_tags_of_listeners_become_weights_of_their_own_on_the_same_network(made):
    words, tags = (read_weights(made / "weights" / f"{NET}-{part}.safetensors") for part in ("library", "mtat50"))
    assert tags.card.tags == mtat.TAGS
    assert tags.card.tag_categories is None
    assert tags.card.evidence["rock"].n == 4
    assert tags.card.evidence["slow"].teachers == (TEACHER,)
    assert tags.card.concepts["anyone sings"].tags[:2] == ("vocal", "vocals")
    both = read_weights(made / "work" / f"{NET}.safetensors")
    assert both.card.tags == (*words.card.tags, *(f"mtat50: {tag}" for tag in tags.card.tags))
    heads = [each.tensors["head.weight"] for each in (words, tags)]
    assert np.array_equal(np.concatenate(heads), both.tensors["head.weight"])
    assert np.array_equal(words.tensors["body.8.conv.weight"], tags.tensors["body.8.conv.weight"])


def test_registry_and_page_are_of_the_published_file(made):
    entry = load_registry(made / "weights" / "registry.json").entries[NAME]
    assert entry.checksums.problem(made / "weights" / f"{NAME}.safetensors") is None
    figures = json.loads((made / "work" / f"{NET}.json").read_text(encoding="utf-8"))
    page = (made / "weights" / f"{NAME}.md").read_text(encoding="utf-8")
    assert f"sha256 `{entry.checksums.sha256}`" in page
    assert f"macro ROC-AUC {figures['words']['human']['macro']['roc_auc']:.3f}" in page
    assert "| slow | pace | its teachers: correlation" in page
    (score,) = load_registry().entries[TEACHER].scores
    assert page.count(f"{TEACHER} {score.roc_auc:.3f} on") == 1
    assert "$" not in page
    assert str(made) not in page


def test_figures_of_other_weights_or_too_few_are_refused(made):
    weights = made / "work" / f"{NET}.safetensors"
    figures = json.loads((made / "work" / f"{NET}.json").read_text(encoding="utf-8"))
    others = figures | {"weights": {"name": NET, "sha256": "0" * 64}}
    with pytest.raises(UsageError, match="the figures are of other weights; evaluate these first"):
        publish(weights, "library", figures=others, folder=made / "weights")
    without = figures | {"words": figures["words"] | {"agreement": {}}}
    with pytest.raises(UsageError, match="its figures lack tagged or held-out tracks"):
        publish(weights, "library", figures=without, folder=made / "weights")
