import doctest

from samptag import files
from samptag.text import bytes_text, counted, did_you_mean, first_names, path_fields, printable, valid_text


def test_the_examples_hold():
    assert doctest.testmod(files).attempted
    assert doctest.testmod(files).failed == 0


def test_what_moves_the_cursor_or_cannot_be_encoded_becomes_an_escape():
    name = b"a\n\x1b[2J\xe9\t\xc3\xbc \xe9\x9f\xb3.mp3".decode("utf-8", "surrogateescape")
    assert printable(name) == r"a\n\x1b[2J\udce9\tü 音.mp3"
    printable(name).encode()


def test_what_utf8_cannot_hold_is_replaced():
    assert valid_text("caf\udce9.mp3") == "caf�.mp3"
    assert path_fields("caf\udce9.mp3") == {"path": "caf�.mp3", "path_bytes": "Y2Fm6S5tcDM="}


def test_numbers_for_people():
    assert [counted(number, "file") for number in (1, 2)] == ["1 file", "2 files"]
    assert [bytes_text(count) for count in (3_200_000_000, 500_000)] == ["3.2 GB", "0.5 MB"]


def test_a_list_no_longer_than_the_limit_is_whole():
    assert first_names(["a", "b"], 2) == "a, b"
    assert first_names(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_a_name_is_guessed_whatever_its_case_and_a_stranger_is_not():
    known = ["New Age", "metal", "female vocal", "female voice"]
    assert did_you_mean("new-age", known) == "did you mean 'New Age'?"
    assert did_you_mean("female voc", known) == "did you mean 'female voice' or 'female vocal'?"
    assert did_you_mean("xyzzy", known) == ""
