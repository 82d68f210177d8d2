import sqlite3
import struct

import pytest

from samptag.errors import UsageError
from samptag.library.query import parse
from samptag.library.words import DEFAULT_CUTOFF, Vocabulary, Word, fold

WORDS = Vocabulary(
    [
        Word(tag="piano", cutoff=0.3),
        Word(tag="female vocal", cutoff=0.5),
        Word(tag="60s", cutoff=0.5),
        Word(tag="drums, loud", cutoff=0.5),
        Word(tag="Flöte", cutoff=0.5),
        Word(tag="title", cutoff=0.5),
    ]
)
SONGS = {
    "a": ((0.9, 0.1, 0.2, 0.0, 0.0, 0.0), "AC/DC", "/m/live/x.mp3", 100.0),
    "b": ((0.35, 0.8, 0.7, 0.0, 0.9, 0.4), "Björk", "/m/b.mp3", 400.0),
    "c": ((0.1, 0.6, 0.7, 0.9, 0.0, 0.0), None, "/m/Live at home.mp3", None),
}


def found(expression: str) -> str:
    """The letters of the songs for which the condition holds, asked of SQLite."""
    condition = parse(expression, WORDS)
    connection = sqlite3.connect(":memory:")
    connection.create_function("fold", 1, fold)
    connection.executescript("CREATE TABLE s (name, artist, path); CREATE TABLE h (scores); CREATE TABLE a (duration);")
    letters = ""
    for name, (scores, artist, path, duration) in SONGS.items():
        for table in "sha":
            connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT INTO s VALUES (?, ?, ?)", (name, artist, path.encode()))
        connection.execute("INSERT INTO h VALUES (?)", (struct.pack(">6e", *scores),))
        connection.execute("INSERT INTO a VALUES (?)", (duration,))
        (holds,) = connection.execute(f"SELECT {condition.sql} FROM s, h, a", condition.values).fetchone()
        letters += name if holds else ""
    return letters


@pytest.mark.parametrize(
    ("expression", "letters"),
    [
        ("", "abc"),
        ("piano > .5", "a"),
        ("piano", "ab"),
        ("not piano", "c"),
        ("PIANO and female vocal", "b"),
        ('piano or "female vocal"', "abc"),
        ("not piano or female vocal and 60s > .5", "bc"),
        ("not (piano or female vocal)", ""),
        ("60s >= 0.2 and 60s<0.5", "a"),
        ('"drums, loud"', "c"),
        ("flöte != 0", "b"),
        ("fl\u006f\u0308te = 0.9", "b"),
        ('"title" > .1', "b"),
        ('artist = "ac/dc"', "a"),
        ("artist = ac/dc", "a"),
        ("artist != AC/DC", "bc"),
        ("artist ~ BJÖ", "b"),
        ("path ~ live and artist !~ dc", "c"),
        ("duration < 300", "ac"),
        ("duration >= 1e2", None),
        ("NOT piano AND NOT duration > 3", "c"),
    ],
)
def test_expressions(expression: str, letters: str | None):
    if letters is None:
        with pytest.raises(UsageError):
            parse(expression, WORDS)
    else:
        assert found(expression) == letters


@pytest.mark.parametrize(
    ("expression", "marked", "why"),
    [
        ("pinao", "^pinao", "did you mean 'piano'"),
        ("piano >", "piano >^", "unexpected end"),
        ("piano > .5 annd 60s", "piano > .5 ^annd 60s", "unexpected 'annd'"),
        ("piano > rock", "piano > ^rock", "must be compared with a number"),
        ("piano > 1.5", "piano > ^1.5", "from 0 to 1"),
        ('piano and genre = "Rock"', 'piano and ^genre = "Rock"', "unknown word 'genre'"),
        ("piano ~ .5", "^piano ~ .5", "~ compares text"),
        ("artist > 3", "^artist > 3", "artist is text"),
        ("piano and artist", "piano and ^artist", "is a field"),
        ("(piano", "(piano^", "unexpected end"),
        ("piano)", "piano^)", "unexpected ')'"),
        ('piano or "60s', 'piano or ^"60s', "unexpected "),
        ("piano; drop table songs", "piano^; drop table songs", "unexpected "),
        ("not", "not^", "unexpected end"),
        ("path ~ /live/", "path ~ ^/live/", "in quotes"),
    ],
)
def test_errors_mark_their_column(expression: str, marked: str, why: str):
    with pytest.raises(UsageError) as caught:
        parse(expression, WORDS)
    message = str(caught.value)
    assert message.endswith(f": {marked}")
    assert why in message
    assert message.startswith(f"column {marked.index('^') + 1} of the expression")


def test_a_word_alone_counts_from_its_cutoff():
    condition = parse("piano and 60s", WORDS)
    assert condition.values == (struct.pack(">e", 0.3), struct.pack(">e", 0.5))
    assert condition.bare == (0, 2)
    assert parse("piano > .1", WORDS).bare == ()


def test_words_without_a_cutoff_count_from_one_half_only_where_no_word_has_one():
    none = Vocabulary([Word(tag="piano"), Word(tag="harp")])
    assert parse("harp", none).values == (struct.pack(">e", DEFAULT_CUTOFF),)
    assert [word.tag for word, _ in none.decided((0.7, 0.6))] == ["piano", "harp"]
    some = Vocabulary([Word(tag="piano", cutoff=0.3), Word(tag="harp")])
    assert [word.tag for word, _ in some.decided((0.7, 0.9))] == ["piano"]
    with pytest.raises(UsageError, match=r"'harp' has no cut-off: compare its score with a number, as in 'harp' > \.2"):
        parse("harp", some)
