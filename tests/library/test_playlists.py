import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from samptag.errors import OutputError
from samptag.library.playlists import m3u8_bytes, nsp_bytes, read_m3u
from samptag.library.songs import Song


def song(path: str, artist: str | None = None, title: str | None = None) -> Song:
    return Song(
        path=path, artist=artist, title=title, album=None, duration=61.6, model="m", words=(), packed=b"", audio=1
    )


def test_what_is_written_is_read_again(tmp_path: Path):
    names = ["a/b.mp3", "../outside.flac", "#hash.mp3", "umlaut ä.ogg", os.fsdecode(b"caf\xe9.mp3")]
    paths = [os.path.abspath(tmp_path / name) for name in names]
    playlist = tmp_path / "x.m3u8"
    playlist.write_bytes(m3u8_bytes([song(path) for path in paths], folder=str(tmp_path)))
    assert [entry.path for entry in read_m3u(playlist)] == paths


def test_lines_for_players():
    content = m3u8_bytes([song("/m/x/1.mp3", "Nina\nSimone", "Sinner"), song("/m/y.mp3")], folder="/m/lists")
    assert content.decode().splitlines() == [
        "#EXTM3U",
        "#EXTINF:62,Nina Simone - Sinner",
        "../x/1.mp3",
        "#EXTINF:62,y",
        "../y.mp3",
    ]


def test_a_line_break_in_a_name_is_no_two_songs():
    with pytest.raises(OutputError, match="line break"):
        m3u8_bytes([song("/m/a\nb.mp3")], folder="/m")


def test_navidrome_lists_paths_below_the_music_folder():
    content = nsp_bytes([song("/m/A/1.mp3"), song("/n/2.mp3")], folders=["/m"], name="quiet", comment="c")
    assert json.loads(content)["any"] == [{"is": {"filepath": "A/1.mp3"}}, {"is": {"filepath": "/n/2.mp3"}}]
    with pytest.raises(OutputError, match="not Unicode"):
        nsp_bytes([song(os.fsdecode(b"/m/\xe9.mp3"))], folders=["/m"], name="q", comment="c")


@pytest.mark.parametrize("count", [0, 1, 500, 501, 5000])
def test_navidrome_can_ask_for_any_number_of_songs(count: int):
    songs = [song(f"/m/{number}.mp3") for number in range(count)]
    content = json.loads(nsp_bytes(songs, folders=["/m"], name="q", comment="c"))

    def asked(rule: dict[str, Any]) -> tuple[str, list[str]]:
        """SQL as Navidrome makes it: it takes no group without rules, and SQLite none nested too deep."""
        if "any" not in rule:
            return "path = ?", [rule["is"]["filepath"]]
        assert rule["any"]
        parts = [asked(inner) for inner in rule["any"]]
        return f"({' OR '.join(text for text, _ in parts)})", [value for _, values in parts for value in values]

    condition, values = asked(content)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE media_file (path)")
        connection.executemany("INSERT INTO media_file VALUES (?)", [(f"{number}.mp3",) for number in range(5001)])
        found = connection.execute(f"SELECT path FROM media_file WHERE {condition} LIMIT 1", values).fetchall()
    assert found == [("0.mp3",)][:count]
    assert [value for value in values if value] == [f"{number}.mp3" for number in range(count)]


@pytest.mark.skipif(os.name == "nt", reason="what another system's paths are")
def test_entries_of_other_systems_mean_no_file_here(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "y.mp3").touch()
    playlist = tmp_path / "old.m3u"
    playlist.write_bytes(
        b"\xef\xbb\xbf#EXTM3U\r\n#EXTINF:1,x\r\nC:\\Music\\x.mp3\r\n\\\\nas\\x.mp3\r\nsub\\y.mp3\r\n"
        b"http://radio.example/x\r\nfile:///tmp/a%20b.mp3\r\n\r\nE:/z.mp3\r\ngone.mp3\r\n"
    )
    assert [entry.path for entry in read_m3u(playlist)] == [
        None,
        None,
        str(tmp_path / "sub" / "y.mp3"),
        None,
        "/tmp/a b.mp3",
        None,
        str(tmp_path / "gone.mp3"),
    ]
