"""Damaged copies of real clips in every container through the real command: thousands with ``SAMPTAG_DAMAGED=5000``."""

import json
import os
import random
from pathlib import Path

import pytest

CONTAINERS = (
    "bay.wav",
    "calm-before-the-storm.aiff",
    "calm-before-the-storm.flac",
    "eastern-dreams.mp3",
    "honor-bound.m4a",
    "honor-bound.wma",
    "lava.opus",
    "void-sensor.ogg",
)
COPIES = int(os.environ.get("SAMPTAG_DAMAGED", "240")) // len(CONTAINERS)
LONGEST = 50_000  # bytes: some seconds of every container
NUMBERS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x80\0\0\0", b"\0\0\0\x80")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with up to four things done to it, half of them to its headers."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        end = min(len(changed), 1000) if rng.random() < 0.5 else len(changed)
        place = rng.randrange(max(1, end))
        kind = rng.randrange(5)
        if kind == 0:
            changed[place : place + 1] = rng.randbytes(1)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            changed[place : place + rng.randrange(1, 3000)] = rng.randbytes(rng.randrange(1, 3000))
        elif kind == 3:
            changed[place : place + 4] = rng.choice(NUMBERS)
        else:
            changed[place:place] = rng.randbytes(rng.randrange(1, 50))
    return bytes(changed)


@pytest.fixture
def controls(media: Path, tmp_path: Path) -> dict[str, bytes]:
    """The clips that are damaged, by name, in a folder ``controls``."""
    clips = {name: (media / name).read_bytes()[:LONGEST] for name in CONTAINERS}
    (tmp_path / "controls").mkdir()
    for name, data in clips.items():
        (tmp_path / "controls" / name).write_bytes(data)
    return clips


def test_damaged_files_are_records_and_lines_of_our_own_and_leave_the_others_alone(tag, tmp_path, controls):
    alone = {Path(record["path"]).name: record for record in json.loads(tag(tmp_path / "controls", "--json").stdout)}
    library = tmp_path / "library"
    library.mkdir()
    for name, data in controls.items():
        stem, suffix = name.split(".")
        for seed in range(COPIES):
            (library / f"{stem}-{seed:05}.{suffix}").write_bytes(damaged(data, random.Random(f"{name} {seed}")))
            if seed % 10 == 5:
                (library / f"{stem}-{seed:05}-whole.{suffix}").write_bytes(data)
    process = tag(library, "--json", check=None)
    records = json.loads(process.stdout)
    assert process.returncode == 1, process.stderr.decode()[-1000:]
    assert [Path(record["path"]).name for record in records] == sorted(os.listdir(library))
    foreign = [line for line in process.stderr.decode().splitlines() if not line.startswith("samptag: ")]
    assert foreign == []
    assert {record["error"]["type"] for record in records if record["error"]} == {"AudioError"}
    whole = [record for record in records if "-whole." in record["path"]]
    assert len(whole) == len(CONTAINERS) * len(range(5, COPIES, 10))
    for record in whole:
        stem, suffix = Path(record["path"]).name.split("-whole.")
        expected = alone[f"{stem[:-6]}.{suffix}"]
        assert {**record, "path": ""} == {**expected, "path": ""}
