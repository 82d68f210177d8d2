"""Runs that can be resumed: every record is saved as soon as there is one, and the file is assembled at the end.

While a run writes `tags.jsonl`, its records go to `tags.jsonl.part`, whose first line holds the settings they were made
with. A run that ends early leaves that file; `--resume` reads it, and the finished file of an earlier run, and tags
only what neither has.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from samptag.cli.console import note, warn
from samptag.cli.output import binary_file, explain_write_errors
from samptag.cli.writers import About
from samptag.errors import UsageError
from samptag.tagging.result import SCHEMA as RECORD_SCHEMA
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.tagging.result import TrackResult
    from samptag.tagging.tagger import Tagger

SCHEMA = "samptag.resume/1"


class _Place(NamedTuple):
    """Where a record is."""

    file: Path
    offset: int
    size: int


class Journal:
    """The records of a JSON Lines file; with `resume` also those of earlier runs with the same settings."""

    def __init__(self, path: str, *, tagger: Tagger, about: About, resume: bool) -> None:
        self._name = path
        self._path = Path(os.path.realpath(path))
        self._part = self._path.with_name(self._path.name + ".part")
        self._about = about
        selection = about.selection
        # All that the records depend on besides their inputs, as plain JSON values.
        self._settings: dict[str, Any] = {
            "model": tagger.card.name,
            "weights": tagger.weights_sha256,
            "hop": tagger.hop,
            "tail": tagger.tail,
            "top": selection.top,
            "threshold": selection.threshold,
            "tags": list(selection.tags) if selection.tags else None,
            "decide": selection.decide or None,  # as in files from before there was --decide
        }
        self._places: dict[str, _Place] = {}
        with explain_write_errors(str(self._part)):
            if resume:
                if self._path.exists():
                    with self._path.open("rb") as finished:
                        self._collect(finished, self._path)
                self._read_part()
            elif self._part.exists():
                warn(f"{self._part}, left by a run that ended early, is overwritten; --resume would have used it")
            self._file = self._open_part()
        if resume:
            n_kept = sum(name in self for name in about.paths)
            note(f"{n_kept} of {counted(len(about.paths), 'input')} {'was' if n_kept == 1 else 'were'} tagged before")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Assemble the file, or say what is kept for another run."""
        try:
            if kind is None:
                self._assemble()
            else:
                kept = counted(len(self._places), "record")
                note(f"{kept} kept in {self._part}; the same command with --resume goes on from them")
        finally:
            self._file.close()

    def __contains__(self, path: object) -> bool:
        return _key(str(path)) in self._places

    def write(self, result: TrackResult) -> None:
        """Save one record; from then on it survives the end of this process."""
        line = self._about.selection.record_line(result).encode("utf-8") + b"\n"
        with explain_write_errors(str(self._part)):
            place = _Place(self._part, self._file.tell(), len(line))
            self._file.write(line)
            self._file.flush()
        self._places[_key(result.path)] = place

    def _assemble(self) -> None:
        """Write the file in the order of the inputs; one without a record (after --fail-fast) has no line."""
        with ExitStack() as stack:
            out = stack.enter_context(binary_file(self._name))
            files: dict[Path, BinaryIO] = {}
            for place in filter(None, (self._places.get(_key(path)) for path in self._about.paths)):
                if place.file not in files:
                    files[place.file] = stack.enter_context(place.file.open("rb"))
                files[place.file].seek(place.offset)
                out.write(files[place.file].read(place.size))
        self._file.close()
        self._part.unlink()

    def _open_part(self) -> BinaryIO:
        ends = [place.offset + place.size for place in self._places.values() if place.file == self._part]
        file = self._part.open("r+b" if ends else "wb")
        if ends:
            file.truncate(file.seek(max(ends)))  # whatever follows the last whole record was cut off in the middle
        else:
            header = {"schema": SCHEMA, "settings": self._settings}
            file.write(json.dumps(header, ensure_ascii=False).encode("utf-8") + b"\n")
        return file

    def _read_part(self) -> None:
        if not self._part.exists():
            return
        with self._part.open("rb") as file:
            header = _parse(file.readline())
            if header is None:
                return
            if header.get("schema") != SCHEMA:
                raise UsageError(f"{self._part} is not the part file of a samptag run; move it away")
            settings = header.get("settings")
            earlier = settings if isinstance(settings, dict) else {}
            for name, value in self._settings.items():
                if earlier.get(name) != value:
                    raise UsageError(
                        f"{self._part} was made with {name} {earlier.get(name)}, not {value}: give the same options, "
                        "or leave out --resume to start afresh"
                    )
            self._collect(file, self._part)

    def _collect(self, file: BinaryIO, path: Path) -> None:
        offset = file.tell()
        for line in file:
            record = _parse(line)
            if record is not None:
                if record.get("schema") != RECORD_SCHEMA:
                    raise UsageError(f"{path} holds something other than tags; --resume cannot go on from it")
                if record.get("model") != self._settings["model"]:
                    raise UsageError(
                        f"{path} was made with the weights {record.get('model')}, not {self._settings['model']}: "
                        "give the same --model, or leave out --resume"
                    )
                if (record.get("weights") or {}).get("sha256") != self._settings["weights"]:
                    raise UsageError(
                        f"{path} was made with another file of the weights {record.get('model')}: give the same "
                        "--model, or leave out --resume"
                    )
                if record.get("error") is None:
                    key = record["path_bytes"] if "path_bytes" in record else _key(str(record.get("path")))
                    self._places[str(key)] = _Place(path, offset, len(line))
            offset += len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record in a line, empty for anything else; None for a last line that was cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _key(path: str) -> str:
    """A name by which records are found again: exact also for paths that are not valid Unicode."""
    return base64.b64encode(os.fsencode(path)).decode("ascii")
