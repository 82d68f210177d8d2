"""docs/architecture.md names files that exist, and every room of the package."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_it_names_exists():
    named = re.findall(r"`((?:samptag|tests|weights|docs|recipes|bench)/[\w./]+)`", TEXT)
    assert len(named) > 30
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_room_has_its_floor():
    floors = TEXT.split("```")[1]
    rooms = {
        path.stem for path in (ROOT / "samptag").iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"
    }
    rooms -= {"__init__", "__main__"}
    assert rooms <= set(re.findall(r"\w+", floors))
