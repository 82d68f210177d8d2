"""What would be written into music files: decided words, in fields that players read, and what these hold now."""

from __future__ import annotations

import json
import math
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from samptag.errors import SamptagError, UsageError, WeightsError
from samptag.files import os_reason
from samptag.library.database import Database
from samptag.library.fields import TagFile, need_mutagen
from samptag.library.query import Condition
from samptag.library.songs import Weights, select, song_of
from samptag.library.words import Vocabulary, Word, fold
from samptag.tagging.files import expand_inputs

# Fill only empty fields, add to all fields, or replace what they have.
Mode: TypeAlias = Literal["empty", "add", "replace"]

WRITABLE = ("genre", "mood", "grouping", "comment", "samptag")
# The fields that each player shows.
PROFILES: Mapping[str, tuple[str, ...]] = {
    "navidrome": ("genre", "mood"),
    "kodi": ("genre", "mood"),
    "rekordbox": ("genre", "comment"),
}

Scores: TypeAlias = Mapping[str, float]
Record: TypeAlias = "array[float]"
_SPELLINGS = {"rnb": "R&B"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """The values of one field before and after."""

    field: str
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """What would be done to one file; no changes if no word is decided, or all fields are filled."""

    path: str
    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()  # decided words that would be written if they were verified
    refused: str | None = None  # why it cannot be written
    size: int = 0  # like `mtime_ns`, at the time of the plan; a file that has changed since then is left alone
    mtime_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class WritePlan:
    """What would be done to many files."""

    files: tuple[FilePlan, ...]
    model: str  # name of the weights whose words are written
    digest: str  # sha256 of these weights
    fields: tuple[str, ...]
    mode: Mode
    split_links: bool = False  # whether files with several names are written to
    unverified: bool = False  # whether words that people's tags do not confirm are written

    @property
    def changed(self) -> tuple[FilePlan, ...]:
        """The files that would change."""
        return tuple(file for file in self.files if file.changes)

    @property
    def left_out(self) -> Counter[str]:
        """By word that is left out because it is not verified, how many files would get it."""
        return Counter(word for file in self.files for word in file.left_out)


def plan_writes(
    database: Database,
    weights: Weights,
    paths: Sequence[str | os.PathLike[str]],
    *,
    records: Mapping[str, Record] | None = None,
    fields: Sequence[str] = ("genre", "mood"),
    mode: Mode = "empty",
    split_links: bool = False,
    unverified: bool = False,
) -> WritePlan:
    """As `Library.plan`; `records` are scores by absolute path from `records_of`, or None for those of the index."""
    need_mutagen()
    unknown = [field for field in fields if field not in WRITABLE]
    if unknown:
        raise UsageError(f"unknown field {unknown[0]!r}: choose {', '.join(WRITABLE)}")
    tags = weights.vocabulary.tags
    verified = frozenset(tags) if unverified else _verified(weights)

    def scores_of(path: str, status: os.stat_result) -> Scores:
        if records is None:
            return _from_index(database, weights, path, status)
        if path not in records:
            raise SamptagError(f"{path}: the records do not name it")
        return {tag: score for tag, score in zip(tags, records[path], strict=True) if not math.isnan(score)}

    def plan(path: str, error: SamptagError | None) -> FilePlan:
        try:
            if error is not None:
                raise error
            status = os.stat(path)
            changes, left_out = _changes(path, scores_of(path, status), weights, verified, fields, mode)
            if changes and (refused := why_not(path, status, split_links=split_links)):
                return FilePlan(path=path, refused=refused)
            return FilePlan(
                path=path, changes=changes, left_out=left_out, size=status.st_size, mtime_ns=status.st_mtime_ns
            )
        except SamptagError as refusal:
            return FilePlan(path=path, refused=str(refusal))
        except OSError as refusal:
            return FilePlan(path=path, refused=f"cannot open {path!r}: {os_reason(refusal)}")

    return WritePlan(
        files=tuple(plan(item.path, item.error) for item in expand_inputs(map(os.path.abspath, paths))),
        model=weights.name,
        digest=weights.digest,
        fields=tuple(fields),
        mode=mode,
        split_links=split_links,
        unverified=unverified,
    )


def _verified(weights: Weights) -> frozenset[str]:
    """The words that people's tags confirm.

    An index made by an earlier version did not note them: then they are read from the weights file if it is at hand,
    and otherwise there are none.
    """
    words = weights.vocabulary.words
    if any(word.verified is None for word in words):
        from samptag.core.card import read_card
        from samptag.fetch import file_sha256
        from samptag.pretrained import open_store

        file = open_store().present(weights.name)
        with suppress(OSError, WeightsError):
            if file is not None and file_sha256(file) == weights.digest:
                words = Vocabulary.of_card(read_card(file)).words
    return frozenset(word.tag for word in words if word.verified)


def why_not(path: str, status: os.stat_result, *, split_links: bool) -> str | None:
    """Why the file must be left alone, whatever is to be written into it; None if it may be written to."""
    if not stat.S_IMODE(status.st_mode) & 0o222:
        return f"{path}: it is read-only and is left alone"
    if status.st_nlink > 1 and not split_links:
        return (
            f"{path}: it has {status.st_nlink} names (hard links) and is left alone: --split-links gives this name a "
            "new file, and the other names keep the old one"
        )
    return None


def records_of(path: str | os.PathLike[str], vocabulary: Vocabulary) -> dict[str, Record]:
    """The scores in a file of records that ``samptag tag --format jsonl`` wrote, by absolute path.

    They are float64, one for each word of the vocabulary in its order, and NaN if the record does not name the word. A
    word that is not in the vocabulary is a UsageError.
    """
    import base64

    found: dict[str, Record] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    name = base64.b64decode(record["path_bytes"]) if "path_bytes" in record else record["path"]
                    scores = [(str(item["tag"]), float(item["score"])) for item in record["tags"]]
                    where = os.path.abspath(os.fsdecode(name))
                except (ValueError, TypeError, KeyError):
                    why = "not a record of 'samptag tag --format jsonl'"
                    raise UsageError(f"{os.fspath(path)}, line {number}: {why}") from None
                found[where] = array("d", [math.nan]) * len(vocabulary.words)
                for tag, score in scores:
                    found[where][vocabulary.place(tag)] = score
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {os.fspath(path)}: {os_reason(error)}") from None
    return found


def _from_index(database: Database, weights: Weights, path: str, status: os.stat_result) -> Scores:
    name = os.fsencode(path)
    rows = select(database, weights, Condition(sql="s.path = ?", values=(name,)))
    known = database.rows("SELECT size, mtime_ns, error FROM songs WHERE path = ?", name)
    if known and known[0][2]:
        raise SamptagError(f"{path}: it could not be decoded when it was indexed")
    if not rows:
        raise SamptagError(f"{path}: not in the index: run 'samptag index' first")
    if known[0][:2] != (status.st_size, status.st_mtime_ns):
        raise SamptagError(f"{path}: it has changed since it was indexed: run 'samptag index' first")
    return song_of(rows[0], weights).scores


def _changes(
    path: str, scores: Scores, weights: Weights, verified: frozenset[str], fields: Sequence[str], mode: Mode
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """What would change, and the words that are left out because they are not verified."""
    vocabulary = weights.vocabulary
    decided = [word for word, _ in vocabulary.decided([scores.get(tag, 0.0) for tag in vocabulary.tags])]
    known = [word for word in decided if word.tag in verified]
    tags = TagFile(path)
    changes: list[Change] = []
    left_out: set[str] = set()
    for field in fields:
        if field != "samptag":
            old = tags.get(field)
            new = _merged(field, old, _wanted(field, known), mode)
            if len(known) < len(decided) and _merged(field, old, _wanted(field, decided), mode) != new:
                left_out.update(word.tag for word in decided if word.tag not in verified and _belongs(field, word))
            changes.append(Change(field=field, old=tuple(old), new=tuple(new)))
    changes = [change for change in changes if change.new != change.old]
    # What is written is explained beside it; the explanation alone is written only if asked for.
    if changes or "samptag" in fields:
        rounded = {tag: round(score, 3) for tag, score in scores.items()}
        content = {"model": weights.name, "weights": weights.digest, "scores": rounded}
        explanation = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        old = tags.get("samptag")
        if old != [explanation]:
            changes.append(Change(field="samptag", old=tuple(old), new=(explanation,)))
    return tuple(changes), tuple(word.tag for word in decided if word.tag in left_out)


def _wanted(field: str, decided: Sequence[Word]) -> list[str]:
    """The values of a field for these decided words."""
    words = [word.tag for word in decided if _belongs(field, word)]
    if field in ("genre", "mood"):
        # As genres are usually written in files: "new age" as New Age; a word that has capitals keeps them.
        return [_SPELLINGS.get(word, word.title() if word.islower() else word) for word in words]
    joined = "; ".join(words)
    return [joined if field == "grouping" else f"[MOOD: {joined}]"] if joined else []


def _belongs(field: str, word: Word) -> bool:
    return field == "grouping" or (word.category != "genre" if field == "comment" else word.category == field)


def _merged(field: str, old: list[str], wanted: list[str], mode: Mode) -> list[str]:
    if not wanted or (mode == "empty" and old):
        return old
    if mode == "replace" or not old:
        return wanted
    if field in ("genre", "mood"):
        known = {fold(value) for value in old}
        return old + [value for value in wanted if fold(value) not in known]
    return old if wanted[0] in old[0] else [f"{old[0]} {wanted[0]}", *old[1:]]


def words_of(plan: Iterable[FilePlan]) -> Counter[tuple[str, str]]:
    """How many files would get each value of genre and mood, by (field, value)."""
    changes = (change for file in plan for change in file.changes if change.field in ("genre", "mood"))
    # In the order of the plan, not of a set: ties are then listed in the same order every time.
    return Counter(
        (each.field, value) for each in changes for value in dict.fromkeys(each.new) if value not in each.old
    )
