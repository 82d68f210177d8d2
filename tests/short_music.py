"""The music of tests/media cut short: where it does not matter how it goes on, to hear it is most of a test's time."""

from functools import cache
from io import BytesIO
from pathlib import Path

import soundfile

CODINGS = {".flac": {"format": "FLAC"}, ".mp3": {"format": "MP3"}, ".opus": {"format": "OGG", "subtype": "OPUS"}}


@cache
def cut(source: Path, suffix: str, *, seconds: float = 1) -> bytes:
    """The first seconds of a file, in the format of that suffix."""
    with soundfile.SoundFile(source) as file:
        rate, samples = file.samplerate, file.read(round(seconds * file.samplerate))
    short = BytesIO()
    soundfile.write(short, samples, rate, **CODINGS[suffix])
    return short.getvalue()
