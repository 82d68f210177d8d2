"""What the README and docs/ tell people to type exists, and the README's Python runs."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from inside import run_inside

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT / "tests" / "media"
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = ("weights", "data")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every samptag command in the texts, up to a pipe or a redirection."""
    found = []
    for path in TEXTS:
        for line in "\n".join(blocks(path, "sh")).splitlines():
            words = shlex.split(line, comments=True)
            for start, word in enumerate(words):
                if word == "samptag" and words[start - 1 : start] in ([], ["|"], ["-m"]):
                    ends = [place for place in range(start, len(words)) if words[place] in ("|", ">")]
                    found.append(words[start + 1 : min(ends, default=len(words))])
    return found


@cache
def help_of(*command: str) -> str:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return run_inside([*command, "--help"], env=environment).stdout.decode()


def test_there_are_commands_to_check():
    assert {words[0] for words in commands()} >= {"tag", "train", "eval", "weights", "data"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_knows_its_options(words: list[str]):
    name = [] if words[0].startswith("-") else words[: 2 if words[0] in GROUPS else 1]
    page = help_of(*name)
    for word in words:
        if re.fullmatch(r"--[a-z-]+|-[a-zA-Z0-9]", word):
            assert re.search(rf"(^|\s){word}\b", page), f"{word} is no option of samptag {words[0]}"


def links() -> list[Path]:
    """The files of this repository that the texts link to."""
    return [
        path.parent / link for path in TEXTS for link in re.findall(r"\]\(([^)#:]+)", path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("target", sorted(set(links())), ids=lambda path: path.name)
def test_links_lead_to_files(target: Path):
    assert target.exists()


@pytest.mark.parametrize("code", blocks(ROOT / "README.md", "python"))
def test_python_examples_run(code: str, tmp_path: Path):
    shutil.copy(MEDIA / "eastern-dreams.mp3", tmp_path / "song.mp3")
    shutil.copy(MEDIA / "eastern-dreams.mp3", tmp_path / "one.mp3")
    shutil.copy(MEDIA / "calm-before-the-storm.flac", tmp_path / "two.flac")
    (tmp_path / "broken.ogg").write_bytes(b"no music")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SAMPTAG_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def messages() -> list[str]:
    """What the README's troubleshooting quotes, with "..." for what differs."""
    rows = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Troubleshooting")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \|", rows, re.MULTILINE)


@cache
def literals() -> list[str]:
    """Every text in the package, with "..." for what an f-string fills in."""
    found = []
    for path in (ROOT / "samptag").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("quoted", messages())
def test_the_troubleshooting_quotes_messages_that_the_code_prints(quoted: str):
    pattern = ".*".join(map(re.escape, re.split(r"'?\.\.\.'?", quoted)))
    assert any(re.search(pattern, text) for text in literals()), quoted


def test_the_troubleshooting_quotes_messages():
    assert len(messages()) >= 5


@pytest.fixture(scope="module")
def remake():
    """docs/remake.py, which makes the quoted blocks."""
    path = ROOT / "docs" / "remake.py"
    specification = importlib.util.spec_from_file_location("remake", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def quoted(remake, name: str) -> str:
    path, _ = remake.BLOCKS[name]
    (block,) = remake.pattern(name).findall(path.read_text(encoding="utf-8"))
    return block.strip()


@pytest.mark.parametrize("name", ["words", "figures", "written"])
def test_what_is_quoted_of_the_weights_is_so(remake, name: str):
    _, make = remake.BLOCKS[name]
    assert quoted(remake, name) == make(), "python docs/remake.py writes it anew"


def test_the_readme_names_the_words_that_write_writes_by_default(remake):
    genres, moods = remake.decided("genre", verified=True), remake.decided("mood", verified=True)
    assert f"(genres: {genres}; moods: {moods})" in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_the_quoted_record_is_a_real_one(remake):
    found, real = (
        json.loads(block.removeprefix("```json").removesuffix("```"))
        for block in (quoted(remake, "record"), remake.record())
    )
    # Another processor adds up in another order.
    scores = [[item.pop("score") for item in record["tags"]] for record in (found, real)]
    assert found == real, "python docs/remake.py writes it anew"
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
