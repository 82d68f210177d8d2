"""MIDI files played on the instruments that freely licensed music lacks."""

import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.store import SAMPLE_RATE, Store, write_array
from samptag.errors import UsageError

__all__ = ["PROGRAMS", "midi_files", "render", "rendered_tracks", "with_programs"]

# General-MIDI programs, from 0; where there are several, a piece's channels take turns.
PROGRAMS = {
    "sitar": (104,),
    "harp": (46,),
    "harpsichord": (6,),
    "cello": (42,),
    "flute": (73,),
    "choir": (52,),
    "voices": (53,),
    "violin": (40,),
    "organ": (19,),
    "nylon-guitar": (24,),
    "metal-guitars": (30, 29, 33, 30),
    "piano": (0,),
    "strings": (48,),
    "sitar-flute": (104, 73),
    "flute-harp": (46, 73),
    "violin-harpsichord": (40, 6),
    "cello-piano": (42, 0),
    "choir-organ": (52, 19),
    "quartet": (40, 40, 41, 42),
    "folk": (25, 40, 24),
    "new-age": (91, 46, 95),
    "banjo": (105,),
    "synth": (81,),
}
VERSIONS = 2  # of each MIDI file
_DRUMS = 9  # the channel whose programs are drum kits
_LONGEST_SECONDS, _SHORTEST_SECONDS = 40, 12
_SILENCE = 200  # of 32 768
_PATIENCE_SECONDS = 30
_TEMPO_LIMITS = 100_000, 2_000_000  # microseconds a beat


def midi_files(folders: Sequence[Path]) -> list[Path]:
    """The MIDI files under some folders, in order."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(path for path in found if path.suffix.lower() in (".mid", ".midi") and path.is_file())


def rendered_tracks(work: Path) -> tuple[Track, ...]:
    """What `render` made before."""
    folder = work / "rendered"
    return tuple(Track(key=path.name, path=path, source="rendered") for path in sorted(folder.glob("*.mid")))


def render(store: Store, files: Sequence[Path], *, soundfont: Path, seed: int) -> Iterator[Path]:
    """Play each file twice, with other instruments and at another speed.

    Parameters
    ----------
    store : Store
        Where the sound goes.
    files : sequence of Path
        MIDI files.
    soundfont : Path
    seed : int
        Decides instruments and speeds.

    Yields
    ------
    Path
        Each new variant's MIDI file, in the folder "rendered"; one that plays too short is left out.

    Raises
    ------
    UsageError
        fluidsynth or the package mido is missing.
    """
    if shutil.which("fluidsynth") is None:
        raise UsageError("the step render needs fluidsynth; install it, or leave out --midi")
    folder = store.folder / "rendered"
    folder.mkdir(parents=True, exist_ok=True)
    names = list(PROGRAMS)
    for number, file in enumerate(files):
        for version in range(VERSIONS):
            rng = random.Random(f"{seed}/{number}/{version}")
            name = names[(number * VERSIONS + version) % len(names)]
            target = folder / f"{number:05d}-{version}-{name}.mid"
            track = Track(key=target.name, path=target, source="rendered")
            if store.audio_file(track).is_file():
                continue
            if not with_programs(file, target, PROGRAMS[name], speed=rng.uniform(0.8, 1.25)):
                continue
            samples = _play(target, soundfont, rng)
            write_array(store.audio_file(track), samples)
            yield target


def with_programs(source: Path, target: Path, programs: Sequence[int], *, speed: float) -> bool:
    """Write a MIDI file with other instruments and another speed; whether `source` could be read.

    Parameters
    ----------
    source, target : Path
    programs : sequence of int
        The channels but the drums' take turns among them.
    speed : float
        How many times as fast.

    Raises
    ------
    UsageError
        The package mido is missing.
    """
    try:
        import mido  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("the step render needs the package mido; pip install mido, or leave out --midi") from None
    try:
        song = mido.MidiFile(source, clip=True)
    except (OSError, EOFError, ValueError, KeyError):
        return False
    channels: dict[int, int] = {}
    for part in song.tracks:
        kept, waited = [], 0
        for event in part:
            waited += event.time
            channel = getattr(event, "channel", None)
            if event.type == "program_change" and channel != _DRUMS:
                continue
            if event.type == "set_tempo":
                event = event.copy(tempo=int(np.clip(event.tempo / speed, *_TEMPO_LIMITS)))
            if channel is not None and channel != _DRUMS:
                channels.setdefault(channel, len(channels))
            kept.append(event.copy(time=waited))
            waited = 0
        part[:] = kept
    for channel, turn in channels.items():
        change = mido.Message("program_change", channel=channel, program=programs[turn % len(programs)], time=0)
        song.tracks[0].insert(0, change)
    song.save(target)
    return True


def _play(file: Path, soundfont: Path, rng: random.Random) -> np.ndarray:
    """Up to 40 s of a MIDI file's sound, int16; empty when there is too little."""
    raw = file.with_suffix(".raw")
    gain = rng.choice((0.4, 0.6, 0.8))
    sound = ["-r", str(SAMPLE_RATE), "-g", str(gain), "-R", "0", "-C", "0", "-T", "raw", "-O", "s16", "-F", str(raw)]
    try:
        command = ["fluidsynth", "-q", "-ni", *sound, str(soundfont), str(file)]
        subprocess.run(command, capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pass  # what has been played by then is long enough
    played = np.fromfile(raw, "<i2") if raw.is_file() else np.zeros(0, "<i2")
    raw.unlink(missing_ok=True)
    mono = np.rint(played[: len(played) // 2 * 2].reshape(-1, 2).mean(axis=1)).astype("<i2")
    loud = np.flatnonzero(np.abs(mono.astype(int)) > _SILENCE)
    if len(loud) < _SHORTEST_SECONDS * SAMPLE_RATE // 4 or loud[-1] - loud[0] < _SHORTEST_SECONDS * SAMPLE_RATE:
        return np.zeros(0, "<i2")
    mono = mono[loud[0] : loud[-1]]
    start = rng.randint(0, max(0, len(mono) - _LONGEST_SECONDS * SAMPLE_RATE))
    piece: np.ndarray = mono[start : start + _LONGEST_SECONDS * SAMPLE_RATE]
    return piece
