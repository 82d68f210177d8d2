"""Every document of the library's commands is what its JSON Schema says."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from music_library import make_music

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_documents(samptag: Run, valid: Any, tiny_weights: Path, tmp_path: Path, broken_file: Any):
    db, music = tmp_path / "library.db", make_music(tmp_path / "music", songs=12, short=True)
    shutil.copyfile(broken_file("text.mp3"), music / "text.mp3")
    songs = sorted(str(path) for path in (music / "calm").iterdir())

    def check(name: str, *arguments: Any, code: int = 0) -> dict[str, Any]:
        done = samptag(*arguments, "--json", "--db", db, check=code)
        document: dict[str, Any] = json.loads(done.stdout)
        valid(name, document)
        return document

    assert check("index", "index", "--model", tiny_weights, music, code=1)["broken"]
    assert check("find", "find", "piano or guitar > .1")["cutoffs"]
    assert check("similar", "similar", "--model", tiny_weights, songs[0])["songs"]
    assert check("learn", "learn", "--from", music, "--suggest", "2")["words"]
    written = check("write", "write", "--yes", "--unverified", "--fields", "grouping", music, code=1)
    assert written["run"] == 1
    assert check("write", "write", "--runs")["runs"][0]["files"] > 0
    assert check("write", "write", "--undo")["files"]
