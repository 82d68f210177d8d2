"""The plan of what `write` would do."""

from samptag.library.plan import Change, FilePlan, words_of


def test_words_of_as_many_files_are_counted_in_their_order():
    words = ("techno", "rock", "ambient", "folk", "jazz", "indian", "soundtrack", "metal")
    plan = [
        FilePlan(path="a.mp3", changes=(Change(field="genre", old=("rock",), new=words),)),
        FilePlan(path="b.mp3", changes=(Change(field="grouping", old=(), new=("jazz",)),)),
    ]
    assert list(words_of(plan).items()) == [(("genre", word), 1) for word in words if word != "rock"]
