"""A data set over the excerpts in tests/media/set: real music in two kinds, with soft tags and some odd ones."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from short_music import cut

MEDIA_SET = Path(__file__).parent / "media" / "set"


def make_manifest(folder: Path, *, clips: int = 24, also: Sequence[str] = (), short: bool = False) -> Path:
    """`folder` with the excerpts, calm and driving in turn, all in the test split of its manifest.jsonl.

    quiet for the calm ones, techno for the driving ones, strings as a share, didgeridoo for the first, flöte for none;
    three clips a band. `also` are names of further files in `folder` to be listed as quiet. With `short`, the clips are
    cut to a second.
    """
    calm, driving = (sorted(MEDIA_SET.glob(f"{kind}-*.opus")) for kind in ("calm", "driving"))
    records = []
    for number, clip in enumerate([clip for pair in zip(calm, driving, strict=True) for clip in pair][:clips]):
        copy = folder / clip.name
        if short:
            copy = copy.with_suffix(".flac")
            copy.write_bytes(cut(clip, ".flac"))
        else:
            shutil.copyfile(clip, copy)
        is_calm = clip.name.startswith("calm")
        tags = {
            "techno": float(not is_calm),
            "quiet": float(is_calm),
            "strings": number % 5 / 5,
            "didgeridoo": float(number == 0),
            "flöte": 0.0,
        }
        records.append({"path": copy.name, "split": "test", "group": f"band {number // 3}", "tags": tags})
    records += [{"path": name, "split": "test", "group": name, "tags": {"quiet": 1}} for name in also]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder
