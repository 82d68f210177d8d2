"""A folder of real music as people keep it, with artists and albums in its tags, for tests of the library."""

import shutil
from pathlib import Path

import av
import mutagen
import numpy as np
import soundfile
from mutagen import apev2, id3
from short_music import cut

MEDIA = Path(__file__).parent / "media"
FORMATS = sorted(path.name for path in MEDIA.iterdir() if path.is_file() and path.suffix != ".md")


def make_music(folder: Path, *, songs: int = 6, short: bool = False) -> Path:
    """`folder` with one file of every format in formats/, and so many excerpts each in calm/ and driving/.

    Every two excerpts are by one artist: "Calm 1", "Calm 2", ..., "Driving 1", ...
    With `short`, what takes long to hear is cut to a second.
    """

    def copy_song(source: Path, target: Path) -> None:
        if short and source.suffix in (".mp3", ".opus"):
            target.write_bytes(cut(source, source.suffix))
        else:
            shutil.copyfile(source, target)

    (folder / "formats").mkdir(parents=True)
    for name in FORMATS:
        copy_song(MEDIA / name, folder / "formats" / name)
    for kind in ("calm", "driving"):
        (folder / kind).mkdir()
        for number, source in enumerate(sorted((MEDIA / "set").glob(f"{kind}-*.opus"))[:songs]):
            copy = folder / kind / source.name
            copy_song(source, copy)
            artist = f"{kind.title()} {number // 2 + 1}"
            set_fields(copy, artist=artist, title=source.stem, album=f"{kind} album")
    return folder


def set_fields(path: Path, **fields: str) -> None:
    """Write fields as another program would; only what Vorbis comments and ID3 have under these names."""
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    for name, value in fields.items():
        if isinstance(file.tags, id3.ID3):
            frame = {"artist": id3.TPE1, "title": id3.TIT2, "album": id3.TALB, "genre": id3.TCON}[name]
            file.tags.add(frame(encoding=3, text=[value]))
        else:
            file.tags[name] = [value]
    file.save()


def make_rare(folder: Path) -> Path:
    """`folder` with one file of every other format that has tags: Monkey's Audio, Musepack, WavPack, True Audio, ...

    The first two have no encoder in Python and lie in media/ape; the others are bay.wav encoded anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in (MEDIA / "ape").iterdir():
        shutil.copyfile(source, folder / source.name)
    samples, rate = soundfile.read(MEDIA / "bay.wav", dtype="int16")
    for name, container, codec, kind in (
        ("bay.wv", "wv", "wavpack", "s16p"),
        ("bay.tta", "tta", "tta", "s16"),
        ("bay.mp2", "mp2", "mp2", "s16"),
        ("bay.oga", "ogg", "flac", "s16"),
        ("bay.3gp", "3gp", "aac", "fltp"),
    ):
        data = samples / np.float32(2**15) if kind == "fltp" else samples
        with av.open(folder / name, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate, layout="mono")
            stream.format = kind
            for start in range(0, len(data), 4096):
                frame = av.AudioFrame.from_ndarray(data[None, start : start + 4096], format=kind, layout="mono")
                frame.rate, frame.pts = rate, start
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    apev2.delete(folder / "bay.tta")  # FFmpeg's, beside which it would not look at ID3
    return folder
