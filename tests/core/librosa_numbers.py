"""What librosa says of mel bands, on file: to import it took longer than any test takes.

``librosa.npz`` holds what librosa 0.11.0 gave. To record it anew, where librosa is installed and PYTHONPATH names
`tests`::

    python tests/core/librosa_numbers.py
"""

from pathlib import Path

import numpy as np
import soundfile

RECORDED = Path(__file__).with_name("librosa.npz")
# Sample rate, length of the transform, bands: over Slaney's scale, and the one over HTK's with bands of height 1.
SLANEY = [(rate, n_fft, 40) for rate in (1600, 16_000, 22_050, 44_100) for n_fft in (729, 1024, 2048)]
SLANEY += [(22_050, n_fft, 128) for n_fft in (729, 1024)]
HTK = (16_000, 512, 96)


def segment_of(length: int) -> np.ndarray:
    """Music of a format without losses, which every decoder gives alike, and noise, so that no band is empty."""
    samples, _ = soundfile.read(Path(__file__).parents[1] / "media" / "bay.wav", dtype="float32", always_2d=True)
    music = np.resize(samples.mean(axis=1, dtype=np.float32), length)
    return music + 0.003 * np.random.default_rng(0).standard_normal(length).astype(np.float32)


def main() -> None:
    """Ask librosa for everything above."""
    import librosa

    def filters(rate: int, n_fft: int, bands: int, **options: object) -> np.ndarray:
        return librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, **options)

    numbers = {"-".join(map(str, of)): filters(*of) for of in SLANEY}
    numbers["htk"] = filters(*HTK, htk=True, norm=None)
    # The published networks': the package's, and those of the comparison of 2020.
    for name, length, options in (
        ("musicnn", 48_128, {"pad_mode": "constant", "htk": False, "norm": "slaney"}),
        ("won-musicnn", 48_000, {"pad_mode": "reflect", "htk": True, "norm": None}),
        ("won-fcn", 464_000, {"pad_mode": "reflect", "htk": True, "norm": None}),
    ):
        power = librosa.feature.melspectrogram(
            y=segment_of(length), sr=16_000, n_fft=512, hop_length=256, n_mels=96, **options
        )
        # The ends, which are padded, and some between.
        frames = np.array([0, 1, 2, 50, 100, 150, *range(power.shape[1] - 5, power.shape[1])])
        numbers[name], numbers[f"{name} frames"] = power[:, frames], frames
    np.savez_compressed(RECORDED, version=np.array(librosa.__version__), **numbers)


if __name__ == "__main__":
    main()
