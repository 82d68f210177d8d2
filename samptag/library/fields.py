"""A file's own fields (artist, genre, mood, ...) under the names that each kind of tag has for them; needs mutagen.

Without mutagen only artist, title and album can be read, and only where libsndfile reads them.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from samptag.errors import SamptagError, UsageError

RawField: TypeAlias = list[tuple[str, Any]]
"""One field exactly as the file has it: native names and what stands under them, as JSON holds it."""

_KINDS = ("id3", "vorbis", "mp4", "asf", "ape")
# Native names of each field by kind, in any case, the one that is written first. ID3v2.3 has no TMOO: players read
# TXXX:MOOD there. COMM:: is a comment without a title, in any language.
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
FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    field: {kind: tuple(names.split()) for kind, names in zip(_KINDS, row, strict=True)}
    for field, row in _NAMES.items()
}
"""Native names by field and kind of tag."""

_READ = ("artist", "title", "album")


def need_mutagen() -> None:
    """Refuse what cannot be done without mutagen."""
    if find_spec("mutagen") is None:
        raise UsageError("fields of music files need mutagen: pip install 'samptag[write]'")


@cache
def reader_rank() -> int:
    """2 with mutagen, which reads tags of every format; 1 without. A better reader reads known files again."""
    return 2 if find_spec("mutagen") else 1


def read_fields(path: str) -> dict[str, str | None]:
    """Artist, title and album of the file, each as one line; None where it has none or they cannot be read."""
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
    """The tags of one file, which messages call `source` or else by its path, open for reading and for change.

    A SamptagError says that they cannot be read, or that the file's format has none that can be written.
    """

    def __init__(self, path: str, *, source: str | None = None) -> None:
        import mutagen

        self.path = path
        self.name = name = source or path
        try:
            file: Any = mutagen.File(path)
            if _kind(file) == "id3":
                # As they are: what mutagen translates between versions of ID3 would not be found again after saving.
                file = type(file)(path, translate=False, known_frames=_id3_frames())
        except OSError:
            raise
        except Exception as error:  # whatever a damaged tag leads it to, IndexError and struct.error among them
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise SamptagError(f"{name}: its tags are damaged and cannot be read ({error})") from None
        self._file, self.kind = file, _kind(file)
        if not self.kind:
            suffix = Path(name).suffix or "such"
            raise SamptagError(f"{name}: {suffix} files have no tags that samptag can write")
        # An ID3v1 alone is no tag that can be written to: it gets an ID3v2 beside it.
        self.had_tags = file.tags is not None and getattr(file.tags, "version", (2,))[0] >= 2
        if file.tags is None:
            file.add_tags()
        self._form = _FORMS[self.kind](file.tags)

    def get(self, field: str) -> list[str]:
        """The values of a field, empty ones left out; an MP3 without the field in ID3 is asked for it in APEv2."""
        values = self._form.get(FIELDS[field][self.kind])
        if not values and self.kind == "id3":
            values = _ape_values(self.path, FIELDS[field]["ape"])
        return [value for value in values if value.strip()]

    def raw(self, field: str) -> RawField:
        """The field exactly as it is."""
        return self._form.raw(FIELDS[field][self.kind])

    def set(self, field: str, values: Sequence[str]) -> None:
        """Put `values` in place of all the field has."""
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
        """Everything in the file's tags but `fields`, pictures included, in a form to be compared."""
        left_out = [name for field in fields for name in FIELDS[field][self.kind]]
        # FLAC's: pictures, cue sheets, what applications keep there
        blocks = [b for b in getattr(self._file, "metadata_blocks", ()) if b.code not in _FLAC_COMMENTS_AND_PADDING]
        return sorted(self._form.everything(left_out)) + [repr(block.write()) for block in blocks]

    def save(self) -> None:
        """Write the tags into the file; a SamptagError says that mutagen cannot."""
        try:
            if self.kind == "id3":
                self._save_id3()
            else:
                self._file.save()
        except (SamptagError, OSError):
            raise
        except Exception as error:  # what it makes of odd tags, UnicodeEncodeError among them
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise SamptagError(f"{self.name}: its tags cannot be written ({error})") from None

    def strip(self) -> None:
        """Remove the tags that a file without any was given."""
        if type(self._file).__module__ in _ID3_AT_ENDS:
            self._file.tags.delete(self.path, delete_v1=False)
        else:
            self._file.delete()

    def _version(self) -> int:
        """3 or 4, of ID3v2; a file keeps what it has, and 2.2, which nothing writes any more, becomes 2.3."""
        version = self._file.tags.version
        return 3 if (2, 0) < version < (2, 4) else 4

    def _save_id3(self) -> None:
        from samptag.library.audio_bytes import id3v1_of

        if self._file.tags.version < (2, 3) and self._file.tags.unknown_frames:
            raise SamptagError(f"{self.name}: its ID3v2.2 holds fields that ID3v2.3 has no place for; it is left alone")
        kept = id3v1_of(self.path)
        # Values stay apart by NUL in 2.3 as well: with the customary "/" between them AC/DC would become two artists.
        # mutagen would make an ID3v1 anew from ID3v2, cutting what does not fit: it takes it away, and it is put back.
        ends = {"v1": 1 if kept is None else 0} if type(self._file).__module__ in _ID3_AT_ENDS else {}
        self._file.save(v2_version=self._version(), v23_sep=None, **ends)
        if kept is not None:
            with open(self.path, "r+b") as file:
                file.seek(0 if id3v1_of(self.path) is None else -len(kept), os.SEEK_END)
                file.write(kept)


def _kind(file: Any) -> str:
    """Which of the forms below the file's tags have; "" for a format without tags that can be written."""
    from mutagen.aac import AAC
    from mutagen.ac3 import AC3
    from mutagen.apev2 import APEv2File
    from mutagen.asf import ASF
    from mutagen.flac import FLAC
    from mutagen.mp4 import MP4
    from mutagen.ogg import OggFileType

    if isinstance(file, AAC | AC3):
        return ""
    for types, kind in (((FLAC, OggFileType), "vorbis"), (MP4, "mp4"), (ASF, "asf"), (APEv2File, "ape")):
        if isinstance(file, types):
            return kind
    return "id3" if type(file).__module__ in _ID3_MODULES else ""


_ID3_AT_ENDS = ("mutagen.mp3", "mutagen.trueaudio")
_ID3_MODULES = (*_ID3_AT_ENDS, "mutagen.aiff", "mutagen.wave")
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
    """The frames that mutagen knows; one that it cannot decode is kept as its bytes, where mutagen would drop it."""
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
                if data.strip(b"\0\1\2\3\xfe\xff"):  # more than the sign of an encoding
                    raise NotImplementedError from None  # by which mutagen knows what is to be kept
                raise

    return {name: Kept(frame) for name, frame in {**id3.Frames, **id3.Frames_2_2}.items()}


class _Form:
    """Tags of one kind; the base treats them as a mapping from names to lists of texts."""

    def __init__(self, tags: Any) -> None:
        self.tags = tags

    def present(self, names: Sequence[str]) -> list[str]:
        """What there is under these names, as it is spelled there."""
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
    """Frames, of which mutagen writes none that is an empty text: they count as if they were not there."""

    def __init__(self, tags: Any) -> None:
        super().__init__(tags)
        for name in [name for name, frame in tags.items() if not getattr(frame, "text", True) or not str(frame)]:
            del tags[name]
        if tags.version[:2] == (2, 2):  # saved as 2.3, where the kind of a picture has another name
            for picture in tags.getall("APIC"):
                picture.mime = {"JPG": "image/jpeg", "PNG": "image/png"}.get(picture.mime, picture.mime)

    def get(self, names: Sequence[str]) -> list[str]:
        frames = [self.tags[name] for name in self.present(names)]
        # A genre may be a number of ID3v1's list, or a sentence of such numbers; `genres` reads them.
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
        # 2.3 has no UTF-8, though it is found there; mutagen then saves UTF-16.
        encoding = int(frame.encoding) if self.tags.version >= (2, 4) else min(int(frame.encoding), 1)
        return {"encoding": encoding, "text": [str(text) for text in frame.text], **named}


_ENCODING = re.compile(r"encoding=<Encoding\.\w+: \d>")


class _Vorbis(_Form):
    """A list of pairs, whose names are spelled in any case."""

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
