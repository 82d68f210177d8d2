"""What a user gets: the built wheel, outside the checkout, with no network."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import samptag
from samptag.pretrained import DEFAULT

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "tests" / "media" / "eastern-dreams.mp3"


def build(source: Path, target: Path, kind: str) -> Path:
    """Build the wheel or sdist of the tree `source` into `target`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def test_wheel_holds_the_weights_and_the_types(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    weights = {f"samptag/_weights/{path.name}" for path in (ROOT / "weights").iterdir() if path.is_file()}
    assert weights <= names
    assert {"samptag/_weights/registry.json", f"samptag/_weights/{DEFAULT}.safetensors"} <= names
    assert "samptag/py.typed" in names
    assert f"samptag-{samptag.__version__}.dist-info/licenses/LICENSE" in names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path):
    sdist = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            if member.isfile():
                target = tmp_path / "tree" / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())
    (tree,) = (tmp_path / "tree").iterdir()
    assert (tree / "tests" / "test_distribution.py").is_file()
    again = build(tree, tmp_path / "wheel", "wheel")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_wheel_tags_outside_the_checkout(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site), "SAMPTAG_CACHE": str(tmp_path / "c"), "SAMPTAG_OFFLINE": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import samptag; print(samptag.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    done = subprocess.run(
        [sys.executable, "-m", "samptag", "tag", str(CLIP), "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    record = json.loads(done.stdout)
    assert record["error"] is None
    assert len(record["tags"]) == 5
    assert record["model"] == DEFAULT
    assert {item["category"] for item in record["tags"]} <= {"genre", "mood", "instrument", "voice", "pace"}
