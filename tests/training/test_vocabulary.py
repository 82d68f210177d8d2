"""Vocabulary files, and what teachers' scores say about their words."""

from pathlib import Path

import numpy as np
import pytest

from recipes.library.evaluate import known_to
from samptag.errors import DatasetError
from samptag.pretrained import load_registry
from samptag.training.vocabulary import read_vocabulary, side_by_side

TAGS = {
    "musicnn-mtat50": ("rock", "female", "woman"),
    "vgg-mtat50": ("woman", "female", "rock"),
    "musicnn-msd50": ("rock", "female vocalists"),
}
ROWS = "rock,genre,mtat50:rock; msd50:rock\nfemale vocals,voice,mtat50:female; mtat50:woman; msd50:female vocalists\n"


def written(folder: Path, rows: str, header: str = "word,category,sources\n") -> Path:
    path = folder / "words.csv"
    path.write_text(header + rows, encoding="utf-8")
    return path


def logit(p):
    return np.log(p / (1 - p))


def test_synonyms_add_up_and_opinions_are_averaged_as_logits(tmp_path):
    vocabulary = read_vocabulary(written(tmp_path, ROWS))
    assert vocabulary.tags == ("rock", "female vocals")
    assert vocabulary.categories == ("genre", "voice")
    scores = {
        "musicnn-mtat50": np.array([[0.2, 0.5, 0.1]]),
        "vgg-mtat50": np.array([[0.3, 0.7, 0.4]]),
        "musicnn-msd50": np.array([[0.8, 0.9]]),
    }
    merged = vocabulary.merger(TAGS)(scores)
    # the pair's means: rock (.2 + .4) / 2, female (.5 + .7) / 2, woman (.1 + .3) / 2
    any_woman = 1 - (1 - 0.6) * (1 - 0.2)
    expected = [(logit(0.3) + logit(0.8)) / 2, (logit(any_woman) + logit(0.9)) / 2]
    np.testing.assert_allclose(logit(merged[0].astype(float)), expected, rtol=1e-4)
    assert merged.dtype == np.float32


def test_certain_scores_stay_finite(tmp_path):
    vocabulary = read_vocabulary(written(tmp_path, ROWS))
    scores = {name: np.tile([[0.0], [1.0]], len(tags)).astype(np.float16) for name, tags in TAGS.items()}
    merged = vocabulary.merger(TAGS)(scores)
    assert (merged[0] < 0.01).all()
    assert (merged[1] > 0.99).all()


def test_only_the_words_that_a_model_knows(tmp_path):
    vocabulary = read_vocabulary(written(tmp_path, ROWS + "happy,mood,jamendo50:happy\n"))
    known = known_to(["student-mtat50"], vocabulary)
    assert known.tags == ("rock", "female vocals")
    scores = {"student-mtat50": np.array([[0.25, 0.5, 0.5]])}
    merged = known.merger({"student-mtat50": TAGS["musicnn-mtat50"]})(scores)
    np.testing.assert_allclose(merged, [[0.25, 0.75]], rtol=1e-5)


def test_side_by_side():
    vocabulary = side_by_side(TAGS)
    assert vocabulary.tags == ("rock", "female", "woman", "female vocalists")
    assert vocabulary.categories is None
    scores = {name: np.full((3, len(tags)), 0.5, dtype=np.float32) for name, tags in TAGS.items()}
    scores["vgg-mtat50"][:, 1] = 0.1  # female
    merged = vocabulary.merger(TAGS)(scores)
    np.testing.assert_allclose(merged, np.tile([0.5, 0.3, 0.5, 0.5], (3, 1)), rtol=1e-5)


def test_one_teacher_keeps_its_scores():
    scores = np.random.default_rng(0).uniform(0.001, 0.999, (50, 3)).astype(np.float32)
    tags = {"musicnn-mtat50": TAGS["musicnn-mtat50"]}
    merged = side_by_side(tags).merger(tags)({"musicnn-mtat50": scores})
    np.testing.assert_allclose(merged, scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no words below the header"),
        (",genre,mtat50:rock\n", "line 2: the word is empty"),
        ("rock,genre\n", "line 2: 2 columns instead of 3"),
        ("rock,genre,\n", "line 2: '' is not a source; write TEACHER:tag"),
        ("rock,genre,rock\n", "line 2: 'rock' is not a source; write TEACHER:tag"),
        ("rock,genre,mtat50:rock; mtat50:rock\n", "line 2: the source mtat50:rock appears twice"),
        ("rock,genre,a:rock\nRock,genre,b:rock\n", "line 3: 'Rock' appears in line 2 already"),
        ("rock,genre,a:rock\npop,,b:pop\n", "line 3: give every word a category, or none of them"),
    ],
)
def test_a_row_that_is_no_word(tmp_path, rows, message):
    with pytest.raises(DatasetError, match=message):
        read_vocabulary(written(tmp_path, rows))


def test_a_file_that_is_no_vocabulary(tmp_path):
    with pytest.raises(DatasetError, match=r"words\.csv: column 'category', 'sources' is missing; found word, tags"):
        read_vocabulary(written(tmp_path, "rock,rock\n", header="word,tags\n"))
    with pytest.raises(DatasetError, match=r"words\.csv: the file is empty"):
        read_vocabulary(written(tmp_path, "", header=""))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("msd50:rok", r"line 2: musicnn-msd50 has no tag 'rok'; did you mean 'rock'\?"),
        ("mtat:rock", "line 2: no teacher's name is 'mtat' or ends in '-mtat'; the teachers are musicnn-mtat50,"),
        ("mtat50:rock", "no word has musicnn-msd50 as a source; leave that teacher out"),
    ],
)
def test_teachers_that_do_not_fit(tmp_path, source, message):
    vocabulary = read_vocabulary(written(tmp_path, f"rock,genre,{source}\n"))
    with pytest.raises(DatasetError, match=message):
        vocabulary.merger(TAGS)


def test_the_library_vocabulary_names_tags_that_its_teachers_have():
    vocabulary = read_vocabulary(Path(__file__).parents[2] / "recipes" / "library" / "vocabulary.csv")
    lists = load_registry().tag_lists
    named = (("mtat50", "mtat50-won"), ("msd50", "msd50"), ("jamendo50", "jamendo50"))
    tags = {f"net-{name}": lists[known].tags for name, known in named}
    scores = {name: np.full((1, len(known)), 0.5, dtype=np.float32) for name, known in tags.items()}
    assert vocabulary.merger(tags)(scores).shape == (1, len(vocabulary.tags))
    assert 80 <= len(vocabulary.tags) <= 120
    assert set(vocabulary.categories or ()) == {"genre", "mood", "instrument", "voice", "pace"}
