"""Small data sets in the published formats, made of real clips from tests/media."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import soundfile

from samptag.audio.decode import open_audio
from samptag.data.formats.mtat import TAGS

MEDIA = Path(__file__).parent / "media"
SET = sorted((MEDIA / "set").glob("*.opus"))
FULL_CLIP_SAMPLES = 465_984  # 809 frames of 576 samples at 16 kHz: what a MagnaTagATune clip holds


def other_tags() -> list[str]:
    """138 further tag names, as the real table has 188 columns: with spaces, apostrophes and near doubles."""
    return [f"men's tag {number}" if number % 7 == 0 else f"rare {number}" for number in range(138)]


def mtat_header() -> list[str]:
    mixed = sorted([*TAGS, *other_tags()])
    return ["clip_id", *mixed, "mp3_path"]


def write_annotations(path: Path, clips: dict[str, set[str]]) -> None:
    """annotations_final.csv as it is published: tab-separated, every cell quoted."""
    header = mtat_header()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        for number, (key, tags) in enumerate(clips.items(), start=2):
            writer.writerow([number, *(int(tag in tags) for tag in header[1:-1]), key])


def mtat_clip(samples: int = FULL_CLIP_SAMPLES) -> bytes:
    """A clip as MagnaTagATune's are: 16 kHz mono MP3, of real music."""
    with open_audio(MEDIA / "eastern-dreams.mp3", sample_rate=16_000) as stream:
        blocks = list(stream)
    buffer = io.BytesIO()
    sound = np.concatenate(blocks)[:samples]
    soundfile.write(buffer, sound, 16_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
    return buffer.getvalue()


def make_mtat(folder: Path, clips: dict[str, set[str]], *, audio: bytes, absent: tuple[str, ...] = ()) -> Path:
    """A folder like MagnaTagATune unpacked, all clips with the same sound."""
    folder.mkdir(parents=True, exist_ok=True)
    write_annotations(folder / "annotations_final.csv", clips)
    for key in clips:
        if key not in absent:
            (folder / key).parent.mkdir(exist_ok=True)
            (folder / key).write_bytes(audio)
    return folder


def copy_songs(folder: Path, names: dict[str, int]) -> None:
    """Real clips under new names: name -> its number in tests/media/set."""
    for name, number in names.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SET[number], target)


def make_manifest(folder: Path, rows: list[str], *, header: str = "path,split,tags", songs: int = 6) -> Path:
    """manifest.csv with the given lines beside songs s0.opus, s1.opus and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_songs(folder, {f"s{number}.opus": number for number in range(songs)})
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder
