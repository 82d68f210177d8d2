"""Update what README and docs/ show of the bundled weights: ``python docs/remake.py``.

Run it when the weights have changed. It writes the blocks of text between ``<!-- NAME: begin -->`` and
``<!-- NAME: end -->``, and the pictures (that of the report page only where there is a browser, see report_picture.py).
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from samptag.core.card import read_card
from samptag.library.words import Vocabulary
from samptag.pretrained import DEFAULT, load_registry

FOLDER = Path(__file__).resolve().parent
README, JSON_PAGE, LIBRARY_PAGE = FOLDER.parent / "README.md", FOLDER / "json.md", FOLDER / "library.md"
SONG = FOLDER.parent / "tests" / "media" / "eastern-dreams.mp3"


def words() -> str:
    """The default weights' words, a paragraph a category."""
    tags = load_registry().entries[DEFAULT].tags
    by_category: dict[str, list[str]] = {}
    for tag, category in zip(tags.tags, tags.categories or (), strict=True):
        by_category.setdefault(category, []).append(tag)
    return "\n\n".join(f"**{category}** {' · '.join(names)}" for category, names in by_category.items())


def figures() -> str:
    """What was measured of the weights with the words of a library, on people's tags."""
    registry = load_registry()
    rows = ["| | macro ROC-AUC | macro PR-AUC |", "| --- | --- | --- |"]
    for name in (DEFAULT, "frame-mel-729-243-library"):
        path = registry.bundled_path(registry.entries[name])
        assert path is not None
        found = read_card(path).metrics
        rows.append(f"| `{registry.entries[name].short or name}` | {found['roc_auc']:.3f} | {found['pr_auc']:.3f} |")
    # Of recipes/library/README.md: they change with the teachers, and with the fifty tags' weights.
    rows.append("| `samplecnn-3-9-mtat50`, with its tags merged into these words | 0.897 | 0.756 |")
    rows.append("| the six teachers, **two of them trained on these tracks** | 0.899 | 0.766 |")
    return "\n".join(rows)


def record() -> str:
    """The JSON record of a song, a key a line."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(SONG, Path(folder) / "song.mp3")
        command = [sys.executable, "-m", "samptag", "tag", "song.mp3", "--json", "--top", "2", "--no-progress"]
        command += ["--model", DEFAULT]
        found = json.loads(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout)
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    return "```json\n{\n" + ",\n".join(lines) + "\n}\n```"


def decided(field: str, *, verified: bool) -> str:
    """The default weights' words that `write` puts into a field by default, or with --unverified alone."""
    registry = load_registry()
    path = registry.bundled_path(registry.entries[DEFAULT])
    assert path is not None
    kept = (word for word in Vocabulary.of_card(read_card(path)).words if word.cutoff is not None)
    in_field = (word for word in kept if (word.category if word.category in ("genre", "mood") else "") == field)
    return ", ".join(word.tag for word in in_field if word.verified is verified) or "none"


def written() -> str:
    """Which of the default weights' words `write` writes, by field."""
    rows = ["| field | written by default | decided, but written only with `--unverified` |", "| --- | --- | --- |"]
    for title, field in (("genre", "genre"), ("mood", "mood"), ("grouping and comment, besides these", "")):
        rows.append(f"| {title} | {decided(field, verified=True)} | {decided(field, verified=False)} |")
    return "\n".join(rows)


BLOCKS = {
    "words": (README, words),
    "figures": (README, figures),
    "record": (JSON_PAGE, record),
    "written": (LIBRARY_PAGE, written),
}


def pattern(name: str) -> re.Pattern[str]:
    """Finds a block; its text is the group."""
    return re.compile(rf"(?<=<!-- {name}: begin -->\n)(.*?)(?=<!-- {name}: end -->)", re.DOTALL)


def main() -> None:
    """Write the blocks, then the pictures."""
    for name, (path, make) in BLOCKS.items():
        block = f"\n{make()}\n\n"
        text, count = pattern(name).subn(lambda _, block=block: block, path.read_text(encoding="utf-8"))
        if count != 1:
            sys.exit(f"{path.name} has no block {name!r}")
        path.write_text(text, encoding="utf-8")
    for script in ("picture.py", *(["report_picture.py"] if shutil.which("chromedriver") else [])):
        subprocess.run([sys.executable, FOLDER / script], check=True)


if __name__ == "__main__":
    main()
