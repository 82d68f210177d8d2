"""More music to learn from, of folders without a table: excerpts of what is in games' packages, most of all.

    python -m recipes.library.excerpts OUT NAME=FOLDER ...

takes 16 s around the middle of each file below FOLDER of 25 s or more, of one longer than 150 s around its thirds. The
same sound again and near silence are left out.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import soundfile

from recipes.command import exit_code
from samptag import AudioError
from samptag.audio.decode import open_audio
from samptag.files import atomic_write
from samptag.tagging.files import expand_inputs

RATE = 22_050
LENGTH = 6 * 59_049
SHORTEST, TWICE_FROM, SILENCE = 25 * RATE, 150 * RATE, 1e-3  # the last a root mean square


def take_excerpts(name: str, folder: Path, out: Path, *, known: set[bytes]) -> None:
    """Write ``out/name/*.flac``, but for sound whose digest is in `known`."""
    (out / name).mkdir(parents=True, exist_ok=True)
    for path in (Path(item.path) for item in expand_inputs([folder])):
        try:
            with open_audio(path, sample_rate=RATE) as stream:
                sound = np.concatenate([np.zeros(0, np.float32), *stream])
        except AudioError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        digest = hashlib.sha256(sound).digest()
        if len(sound) < SHORTEST or digest in known:
            continue
        known.add(digest)
        for number, middle in enumerate((1 / 3, 2 / 3) if len(sound) > TWICE_FROM else (1 / 2,), 1):
            start = int(middle * len(sound)) - LENGTH // 2
            excerpt = sound[start : start + LENGTH]
            if np.sqrt(np.mean(excerpt**2)) >= SILENCE:
                stem = str(path.relative_to(folder).with_suffix("")).replace("/", "_")
                with atomic_write(out / name / f"{stem}-{number}.flac") as file:
                    soundfile.write(file, np.clip(excerpt, -1, 1), RATE, format="FLAC")


def main() -> int:
    def take() -> None:
        known: set[bytes] = set()
        for name, _, folder in (source.partition("=") for source in sys.argv[2:]):
            take_excerpts(name, Path(folder), Path(sys.argv[1]), known=known)

    return exit_code(take)


if __name__ == "__main__":
    sys.exit(main())
