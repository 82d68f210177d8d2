"""A file's own fields (artist, genre, mood, ...) under the names that each kind of tag has for them; needs mutagen.

Without mutagen only artist, title and album can be read, and only from formats whose tags libsndfile reads.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from samptag.errors import SamptagError
from samptag.lazy import require_extra

# One field exactly as the file has it: native names and their values in JSON's types.
RawField: TypeAlias = list[tuple[str, Any]]

_KINDS = ("id3", "vorbis", "mp4", "asf", "ape")
# Native names of each field by kind, in any case; the first is the one that is written. ID3v2.3 has no TMOO: players
# read TXXX:MOOD there. COMM:: is a comment without a title, in any language.
_NAMES = {
    "artist": ("TPE1", "ARTIST", "\xa9ART", "Author", "Artist"),
    "title": ("TIT2", "TITLE", "\xa9nam", "Title", "Title"),
    "album": ("TALB", "ALBUM", "\xa9alb", "WM/AlbumTitle", "Album"),
    "genre": ("TCON", "GENRE", "\xa9gen", "WM/Genre", "Genre"),
    "mood": ("TMOO TXXX:MOOD", "MOOD", "----:com.apple.iTunes:MOOD", "WM/Mood", "Mood"),
    "grouping": ("TIT1 GRP1", "GROUPING", "\xa9grp", "WM/ContentGroupDescription", "Grouping"),
    "comment": ("COMM::", "COMMENT", "\xa9cmt", "Description", "Comment"),
    "samptag": ("TXXX:SAMPTAG", "SAMPTAG", "----:com.apple.iTunes:SAMPTAG", "SAMPTAG", "SAMPTAG"),
}
# Native names by field and kind of tag.
FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    field: {kind: tuple(names.split()) for kind, names in zip(_KINDS, row, strict=True)}
    for field, row in _NAMES.items()
}

_READ = ("artist", "title", "album")


def need_mutagen() -> None:
    """Refuse work on tags if mutagen is not installed."""
    require_extra("write", modules=("mutagen",), purpose="reading and writing the tags of music files")


@cache
def reader_rank() -> int:
    """2 with mutagen, which reads the tags of every format; 1 without. Files read at a lower rank are read again."""
    return 2 if find_spec("mutagen") else 1


def read_fields(path: str) -> dict[str, str | None]:
    """Artist, title and album of the file, each on one line; None for those it lacks or that cannot be read."""
    try:
        if reader_rank() == 2:
            tags = TagFile(path)
            values = {name: tags.get(name) for name in _READ}
        else:
            import soundfile

            with soundfile.SoundFile(path) as file:
                values = {name: [value] for name, value in file.copy_metadata().items()}
    except (SamptagError, OSError, RuntimeError):
        values = {}
    lines = {name: ", ".join(" ".join(value.split()) for value in values.get(name, ())[:5]) for name in _READ}
    return {name: line.encode("utf-8", "replace").decode("utf-8") or None for name, line in lines.items()}


class TagFile:
    """The tags of one file, to be read and changed; messages name it `source` if that is given.

    A SamptagError says that they cannot be read, or that samptag writes no tags of this format.
    """

    def __init__(self, path: str, *, source: str | None = None) -> None:
        import mutagen

        self.path = path
        self.name = name = source or path
        with _mutagen_errors_as(f"{name}: its tags are damaged and cannot be read"):
            file: Any = mutagen.File(path)
            if _kind(file) == "id3":
                # As they are: what mutagen translates between versions of ID3 would not be found again after saving.
                file = type(file)(path, translate=False, known_frames=_id3_frames())
        self._file, self.kind = file, _kind(file)
        if not self.kind:
            suffix = Path(name).suffix or "such"
            raise SamptagError(f"{name}: {suffix} files have no tags that samptag can write")
        # An ID3v1 alone cannot hold what is written: it gets an ID3v2 beside it.
        self.had_tags = file.tags is not None and getattr(file.tags, "version", (2,))[0] >= 2
        if file.tags is None:
            file.add_tags()
        self._form = _FORMS[self.kind](file.tags)

    def get(self, field: str) -> list[str]:
        """The values of a field, without empty ones; of an MP3 without the field in ID3, those in APEv2."""
        values = self._form.get(FIELDS[field][self.kind])
        if not values and self.kind == "id3":
            values = _ape_values(self.path, FIELDS[field]["ape"])
        return [value for value in values if value.strip()]

    def raw(self, field: str) -> RawField:
        """The field exactly as it is."""
        return self._form.raw(FIELDS[field][self.kind])

    def set(self, field: str, values: Sequence[str]) -> None:
        """Replace all values of the field by `values`."""
        names = FIELDS[field][self.kind]
        if field == "mood" and self.kind == "id3" and self._version() == 3:
            names = names[::-1]
        present = [name for name, _ in self._form.raw(names)]
        self._form.remove(names)
        target = names[0] if field == "mood" or not present else present[0]
        self._form.put(target, list(values))

    def restore(self, field: str, raw: RawField) -> None:
        """Put back what `raw` gave."""
        self._form.remove(FIELDS[field][self.kind])
        for name, value in raw:
            self._form.put_raw(name, value)

    def others(self, fields: Iterable[str]) -> list[str]:
        """Everything in the file's tags except `fields`, including pictures, in a form that can be compared."""
        left_out = [name for field in fields for name in FIELDS[field][self.kind]]
        # of FLAC: pictures, cue sheets, data of applications
        blocks = [b for b in getattr(self._file, "metadata_blocks", ()) if b.code not in _FLAC_COMMENTS_AND_PADDING]
        return sorted(self._form.everything(left_out)) + [repr(block.write()) for block in blocks]

    def save(self) -> None:
        """Write the tags into the file; a SamptagError says that mutagen cannot."""
        with _mutagen_errors_as(f"{self.name}: its tags cannot be written"):
            if self.kind == "id3":
                self._save_id3()
            else:
                self._file.save()

    def strip(self) -> None:
        """Remove all tags, from a file that had none before it was written to."""
        if type(self._file).__module__ in _ID3_AT_ENDS:
            self._file.tags.delete(self.path, delete_v1=False)
        else:
            self._file.delete()

    def _version(self) -> int:
        """3 or 4, of ID3v2: a file keeps its version, but 2.2, which nothing writes any more, becomes 2.3."""
        version = self._file.tags.version
        return 3 if (2, 0) < version < (2, 4) else 4

    def _save_id3(self) -> None:
        from samptag.library.audio_bytes import id3v1_of

        if self._file.tags.version < (2, 3) and self._file.tags.unknown_frames:
            raise SamptagError(f"{self.name}: its ID3v2.2 holds fields that ID3v2.3 has no place for; it is left alone")
        kept = id3v1_of(self.path)
        # Values are separated by NUL in 2.3 as well: with the customary "/" AC/DC would become two artists.
        # mutagen would make a new ID3v1 of ID3v2, cutting what does not fit: it only removes ID3v1, which is put back.
        ends = {"v1": 1 if kept is None else 0} if type(self._file).__module__ in _ID3_AT_ENDS else {}
        self._file.save(v2_version=self._version(), v23_sep=None, **ends)
        if kept is not None:
            with open(self.path, "r+b") as file:
                file.seek(0 if id3v1_of(self.path) is None else -len(kept), os.SEEK_END)
                file.write(kept)


@contextmanager
def _mutagen_errors_as(what: str) -> Iterator[None]:
    """Raise whatever damaged or odd tags make mutagen raise as a SamptagError; an OSError passes."""
    try:
        yield
    except (SamptagError, OSError):
        raise
    except Exception as error:  # IndexError, struct.error and UnicodeEncodeError among them
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise SamptagError(f"{what} ({error})") from None


def _kind(file: Any) -> str:
    """Which of the forms below the file's tags have; "" for a format whose tags samptag cannot write."""
    return next((_KIND_OF_MODULE[c.__module__] for c in type(file).__mro__ if c.__module__ in _KIND_OF_MODULE), "")


_ID3_AT_ENDS = ("mutagen.mp3", "mutagen.trueaudio")
# The kind of tags that the file types of a module of mutagen have, and those derived from them.
_KIND_OF_MODULE = {
    **dict.fromkeys((*_ID3_AT_ENDS, "mutagen.aiff", "mutagen.wave"), "id3"),
    **dict.fromkeys(("mutagen.flac", "mutagen.ogg"), "vorbis"),
    "mutagen.mp4": "mp4",
    "mutagen.asf": "asf",
    "mutagen.apev2": "ape",
}

_FLAC_COMMENTS_AND_PADDING = (4, 1)


def _ape_values(path: str, names: Sequence[str]) -> list[str]:
    from mutagen import apev2

    tags: Any = apev2.APEv2
    try:
        return _Form(tags(path)).get(names)
    except apev2.error:
        return []


@cache
def _id3_frames() -> dict[str, Any]:
    """The frames that mutagen knows, changed so that one it cannot decode is kept as bytes instead of dropped."""
    from mutagen import id3

    class Kept:
        def __init__(self, frame: Any) -> None:
            self._frame = frame

        def __call__(self, **values: Any) -> Any:
            return self._frame(**values)

        def _fromData(self, tag: Any, flags: int, data: bytes) -> Any:
            try:
                return self._frame._fromData(tag, flags, data)
            except id3.ID3JunkFrameError:
                if data.strip(b"\0\1\2\3\xfe\xff"):  # more than the mark of an encoding
                    raise NotImplementedError from None  # makes mutagen keep it
                raise

    return {name: Kept(frame) for name, frame in {**id3.Frames, **id3.Frames_2_2}.items()}


class _Form:
    """Tags of one kind; this base treats them as a mapping from names to lists of strings."""

    def __init__(self, tags: Any) -> None:
        self.tags = tags

    def present(self, names: Sequence[str]) -> list[str]:
        """The names of the file, as spelled there, that are among `names`."""
        keys = list(dict.fromkeys(self.tags.keys()))
        return [key for name in names for key in keys if _is_name(key, name)]

    def get(self, names: Sequence[str]) -> list[str]:
        return [str(value) for name in self.present(names) for value in self.tags[name]]

    def raw(self, names: Sequence[str]) -> RawField:
        return [(name, [str(value) for value in self.tags[name]]) for name in self.present(names)]

    def remove(self, names: Sequence[str]) -> None:
        for name in self.present(names):
            del self.tags[name]

    def put(self, name: str, values: list[str]) -> None:
        self.tags[name] = values

    def put_raw(self, name: str, value: Any) -> None:
        self.put(name, value)

    def everything(self, left_out: Sequence[str]) -> list[str]:
        names = set(self.tags.keys()) - set(self.present(left_out))
        return [f"{name} {self.tags[name]!r}" for name in names]


def _is_name(key: str, name: str) -> bool:
    return key.casefold() == name.casefold() or (name.endswith("::") and key.startswith(name))


class _Id3(_Form):
    """Frames; those that hold only an empty string count as missing, because mutagen does not write them."""

    def __init__(self, tags: Any) -> None:
        super().__init__(tags)
        for name in [name for name, frame in tags.items() if not getattr(frame, "text", True) or not str(frame)]:
            del tags[name]
        if tags.version[:2] == (2, 2):  # saved as 2.3, where the kind of a picture has another name
            for picture in tags.getall("APIC"):
                picture.mime = {"JPG": "image/jpeg", "PNG": "image/png"}.get(picture.mime, picture.mime)

    def get(self, names: Sequence[str]) -> list[str]:
        frames = [self.tags[name] for name in self.present(names)]
        # A genre may be a number of ID3v1's list, or several; `genres` reads them.
        return [str(value) for frame in frames for value in getattr(frame, "genres", frame.text)]

    def raw(self, names: Sequence[str]) -> RawField:
        return [(name, self._values(self.tags[name])) for name in self.present(names)]

    def put(self, name: str, values: list[str]) -> None:
        described = {"COMM": {"desc": "", "lang": name[6:] or "eng"}, "TXXX": {"desc": name[5:]}}.get(name[:4], {})
        self.put_raw(name, {"encoding": 3, "text": values, **described})

    def put_raw(self, name: str, value: Any) -> None:
        from mutagen import id3

        self.tags.add(getattr(id3, name[:4])(**value))

    def everything(self, left_out: Sequence[str]) -> list[str]:
        frames = [_ENCODING.sub("", line) for line in super().everything(left_out)]
        return frames + [repr(data) for data in self.tags.unknown_frames]

    def _values(self, frame: Any) -> dict[str, Any]:
        named = {name: getattr(frame, name) for name in ("desc", "lang") if hasattr(frame, name)}
        # 2.3 has no UTF-8, though some files use it there; mutagen saves UTF-16 instead.
        encoding = int(frame.encoding) if self.tags.version >= (2, 4) else min(int(frame.encoding), 1)
        return {"encoding": encoding, "text": [str(text) for text in frame.text], **named}


_ENCODING = re.compile(r"encoding=<Encoding\.\w+: \d>")


class _Vorbis(_Form):
    """A list of pairs of name, in any case, and value."""

    def get(self, names: Sequence[str]) -> list[str]:
        return [value for _, value in self.raw(names)]

    def raw(self, names: Sequence[str]) -> RawField:
        return [pair for pair in list.__iter__(self.tags) if pair[0].upper() in names]

    def remove(self, names: Sequence[str]) -> None:
        self.tags[:] = [pair for pair in list.__iter__(self.tags) if pair[0].upper() not in names]

    def put(self, name: str, values: list[str]) -> None:
        for value in values:
            self.put_raw(name, value)

    def put_raw(self, name: str, value: Any) -> None:
        self.tags.append((name, value))

    def everything(self, left_out: Sequence[str]) -> list[str]:
        return [f"{name} {value!r}" for name, value in list.__iter__(self.tags) if name.upper() not in left_out]


class _Mp4(_Form):
    def get(self, names: Sequence[str]) -> list[str]:
        found = [value for name in self.present(names) for value in self.tags[name]]
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in found]

    def raw(self, names: Sequence[str]) -> RawField:
        return [(name, [_mp4_value(value) for value in self.tags[name]]) for name in self.present(names)]

    def put(self, name: str, values: list[str]) -> None:
        free = name.startswith("----")
        self.tags[name] = [value.encode() for value in values] if free else values

    def put_raw(self, name: str, value: Any) -> None:
        from mutagen import mp4

        free: Any = mp4.MP4FreeForm
        self.tags[name] = [
            item if isinstance(item, str) else free(base64.b64decode(item["base64"]), item["format"]) for item in value
        ]


def _mp4_value(value: Any) -> Any:
    if not isinstance(value, bytes):
        return str(value)
    return {"base64": base64.b64encode(value).decode(), "format": int(getattr(value, "dataformat", 1))}


_FORMS: Mapping[str, type[_Form]] = {"id3": _Id3, "vorbis": _Vorbis, "mp4": _Mp4, "asf": _Form, "ape": _Form}
