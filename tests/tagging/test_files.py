import os
from pathlib import Path

import pytest

from samptag.errors import UsageError
from samptag.tagging.files import expand_inputs, read_list


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(*arguments) -> list[str]:
    inputs = expand_inputs(arguments)
    assert all(item.error is None for item in inputs)
    return [item.path for item in inputs]


def test_a_folder_is_walked_in_byte_order_by_suffix_without_hidden_names(tmp_path):
    names = ["b.mp3", "a/z.FLAC", "a/1.ogg", "B.wav", "notes.txt", ".hidden.mp3", ".trash/x.mp3", "a.opus", "ä.mp3"]
    names.append("a/._1.ogg")
    touch(*(tmp_path / name for name in names))
    expected = ["B.wav", "a/1.ogg", "a/z.FLAC", "a.opus", "b.mp3", "ä.mp3"]
    assert [os.path.relpath(path, tmp_path) for path in found(tmp_path)] == expected
    assert found(str(tmp_path) + "/")[0] == f"{tmp_path}/B.wav"


def test_arguments_keep_their_order_and_are_taken_as_they_are_named(tmp_path):
    touch(tmp_path / "b.txt", tmp_path / "a.mp3", tmp_path / "d" / ".hidden.mp3")
    named = [str(tmp_path / "b.txt"), str(tmp_path / "a.mp3"), str(tmp_path / "a.mp3"), str(tmp_path / "missing")]
    named.append(str(tmp_path / "d" / ".hidden.mp3"))
    assert found(*named) == named


def test_a_folder_called_like_a_file_is_a_folder(tmp_path):
    touch(tmp_path / "x.mp3" / "y.mp3" / "song.mp3")
    assert found(tmp_path) == found(tmp_path / "x.mp3") == [str(tmp_path / "x.mp3" / "y.mp3" / "song.mp3")]


def test_what_links_lead_to_is_found_once_and_by_its_own_name(tmp_path):
    touch(tmp_path / "lib" / "z" / "real.mp3", tmp_path / "outside" / "far.mp3", tmp_path / "store" / "blob")
    lib = tmp_path / "lib"
    (lib / "a").symlink_to(lib / "z")  # to a folder that is there itself
    (lib / "b.mp3").symlink_to(lib / "z" / "real.mp3")  # to a file that is there itself
    (lib / "loop").symlink_to(lib)  # to where we are
    (lib / "up").symlink_to(tmp_path / "outside")  # elsewhere
    (lib / "up2").symlink_to(tmp_path / "outside")  # the same place again
    (lib / "c.mp3").symlink_to(tmp_path / "outside" / "far.mp3")
    (lib / "stored.mp3").symlink_to(tmp_path / "store" / "blob")  # the target's own name says nothing
    (lib / "stored2.mp3").symlink_to(tmp_path / "store" / "blob")
    relative = [os.path.relpath(path, lib) for path in found(lib)]
    assert relative == ["stored.mp3", "up/far.mp3", "z/real.mp3"]


def test_links_to_nowhere_and_in_circles_are_inputs_with_an_error(tmp_path):
    touch(tmp_path / "ok.mp3")
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "gone.mp3")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone.txt")
    (tmp_path / "self.ogg").symlink_to(tmp_path / "self.ogg")
    by_name = {Path(item.path).name: item.error for item in expand_inputs([tmp_path])}
    assert list(by_name) == ["dangling.mp3", "ok.mp3", "self.ogg"]
    assert "a broken link" in str(by_name["dangling.mp3"])
    assert "a broken link" in str(by_name["self.ogg"])
    assert by_name["ok.mp3"] is None


def test_a_folder_without_audio_is_an_input_with_an_error(tmp_path):
    touch(tmp_path / "readme.txt")
    (item,) = expand_inputs([tmp_path])
    assert item.path == str(tmp_path)
    assert "no audio files" in str(item.error)
    assert ".mp3" in str(item.error)


def test_a_named_pipe_in_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp3")
    touch(tmp_path / "a.mp3")
    assert found(tmp_path) == [str(tmp_path / "a.mp3")]


def test_names_of_any_bytes_are_found(tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff\xfe new\nline \xf0\x9f\x8e\xb5.mp3"
    with open(raw, "wb"):
        pass
    assert [os.fsencode(path) for path in found(tmp_path)] == [raw]


def test_standard_input_can_be_named_once():
    (item,) = expand_inputs(["-"])
    assert item.path == "-"
    with pytest.raises(UsageError, match="only once"):
        expand_inputs(["-", "a.mp3", "-"])


def test_lists_by_line_and_by_nul():
    assert read_list(b"\xef\xbb\xbfa b.mp3\r\n\n/x/\xff.ogg\nlast") == ["a b.mp3", "/x/\udcff.ogg", "last"]
    assert read_list(b"new\nline.mp3\0b.mp3\0\0", null=True) == ["new\nline.mp3", "b.mp3"]
    assert read_list(b"") == []
