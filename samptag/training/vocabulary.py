"""Which words a student learns, and how its teachers' scores become scores of these words.

docs/training.md describes the file. A source is ``TEACHER:tag``; tags of one TEACHER are synonyms, so the word applies
where any of them does. Several TEACHERs are opinions, and the word's logit is the mean of theirs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samptag.data.listing import note_line, read_table
from samptag.errors import DatasetError
from samptag.text import did_you_mean, first_names

_Matrix = npt.NDArray[np.float32]

# Scores of exactly 0 and 1 have no logit. Float16, in which scores are kept, has 6e-8 next to 0 and .9995 next to 1.
_LEAST = 1e-6


@dataclass(frozen=True, kw_only=True)
class TaughtWord:
    """A word and the tags that it is made of.

    `sources` is TEACHER -> its tags that mean the word. Unlike in a file, TEACHER may be full names joined by "+".
    """

    word: str
    category: str = ""  # where the vocabulary has none
    sources: Mapping[str, tuple[str, ...]]
    line: int = 0  # in its file; 0 where there is no file


@dataclass(frozen=True, kw_only=True, eq=False)
class Merger:
    """Turns the scores of certain teachers, side by side in the order of `teachers`, into scores of words."""

    teachers: tuple[str, ...]
    average: _Matrix  # (tags of all teachers, sources), the mean over the teachers that a source names
    synonyms: _Matrix  # (sources, opinions), 1 where a source is one of the tags that make an opinion
    share: _Matrix  # (opinions, words), the share of an opinion in a word

    def __call__(self, scores: Mapping[str, npt.NDArray[np.floating]]) -> _Matrix:
        """The scores of every word, (n, words), from the teachers' scores, (n, tags); all in [0, 1]."""
        side_by_side = np.concatenate([scores[name].astype(np.float32) for name in self.teachers], axis=1)
        merged: _Matrix = self.merge(torch.from_numpy(side_by_side)).numpy()
        return merged

    def merge(self, scores: Tensor) -> Tensor:
        """The same for all teachers' scores side by side, (n, tags of all), on any device."""
        average, synonyms, share = (
            torch.from_numpy(each).to(scores.device) for each in (self.average, self.synonyms, self.share)
        )
        sources = (scores @ average).clamp(_LEAST, 1 - _LEAST)
        no_synonym = torch.log1p(-sources) @ synonyms  # log(1 - p), where p is the score of any tag applying
        return torch.sigmoid((torch.log(-torch.expm1(no_synonym)) - no_synonym) @ share)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words that a student learns, in the order of its outputs; `name` is the file's, for messages."""

    words: tuple[TaughtWord, ...]
    name: str = "the vocabulary"

    @property
    def tags(self) -> tuple[str, ...]:
        """The words themselves."""
        return tuple(word.word for word in self.words)

    @property
    def categories(self) -> tuple[str, ...] | None:
        """The category of every word; None where the vocabulary has none."""
        return tuple(word.category for word in self.words) if self.words[0].category else None

    def merger(self, tags: Mapping[str, Sequence[str]]) -> Merger:
        """What turns these teachers' scores into those of the words; `tags` maps a teacher's name to its tags.

        A DatasetError where a source names an unknown teacher or tag, or a teacher is not a source of any word.
        """
        columns = [(teacher, tag) for teacher, known in tags.items() for tag in known]
        averages: list[_Matrix] = []
        opinions: list[int] = []  # of every source
        shares: list[_Matrix] = []
        for place, word in enumerate(self.words):
            for teacher, names in word.sources.items():
                models = teachers_called(teacher, tags)
                if not models:
                    raise DatasetError(
                        f"{self._where(word)}: no teacher's name is {teacher!r} or ends in '-{teacher}'; "
                        f"the teachers are {', '.join(tags)}"
                    )
                for name in names:
                    averages.append(np.zeros(len(columns), dtype=np.float32))
                    opinions.append(len(shares))
                    for model in models:
                        if name not in tags[model]:
                            hint = did_you_mean(name, tags[model]) or f"it has {first_names(list(tags[model]))}"
                            raise DatasetError(f"{self._where(word)}: {model} has no tag {name!r}; {hint}")
                        averages[-1][columns.index((model, name))] = 1 / len(models)
                shares.append(np.zeros(len(self.words), dtype=np.float32))
                shares[-1][place] = 1 / len(word.sources)
        average = np.array(averages, dtype=np.float32).reshape(-1, len(columns)).T.copy()
        for name in tags:
            if not average[[each == name for each, _ in columns]].any():
                raise DatasetError(f"{self.name}: no word has {name} as a source; leave that teacher out")
        synonyms = np.eye(len(shares), dtype=np.float32)[opinions]
        return Merger(teachers=tuple(tags), average=average, synonyms=synonyms, share=np.array(shares))

    def _where(self, word: TaughtWord) -> str:
        return f"{self.name}, line {word.line}" if word.line else f"{self.name}, {word.word!r}"


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in a CSV file; a DatasetError where a column is missing or a row is no word with sources."""
    needed = ("word", "category", "sources")
    header, rows = read_table(path, delimiter=",", needed=needed, empty=f"the first row should be {','.join(needed)}")
    words = tuple(_parse(path, line, dict(zip(header, map(str.strip, fields), strict=True))) for line, fields in rows)
    if not words:
        raise DatasetError(f"{path}: no words below the header")
    lines: dict[str, str] = {}
    for word in words:
        note_line(lines, word.word.casefold(), path=path, line=word.line, shown=repr(word.word))
        if bool(word.category) != bool(words[0].category):
            raise DatasetError(f"{path}, line {word.line}: give every word a category, or none of them")
    return Vocabulary(words=words, name=str(path))


def side_by_side(tags: Mapping[str, Sequence[str]]) -> Vocabulary:
    """Every tag of every teacher as a word, in the order in which they first appear.

    Teachers with exactly the same tags are averaged ("a+b"), and a tag that several lists share is one word.
    """
    lists: dict[frozenset[str], list[str]] = {}
    for name, known in tags.items():
        lists.setdefault(frozenset(known), []).append(name)
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    for known in tags.values():
        for tag in known:
            words[tag] = {"+".join(names): (tag,) for each, names in lists.items() if tag in each}
    return Vocabulary(words=tuple(TaughtWord(word=word, sources=sources) for word, sources in words.items()))


def _parse(path: Path, line: int, row: Mapping[str, str]) -> TaughtWord:
    if not row["word"]:
        raise DatasetError(f"{path}, line {line}: the word is empty")
    sources: dict[str, tuple[str, ...]] = {}
    for source in row["sources"].split(";"):
        teacher, colon, tag = (part.strip() for part in source.partition(":"))
        if not (teacher and colon and tag):
            raise DatasetError(
                f"{path}, line {line}: {source.strip()!r} is not a source; write TEACHER:tag, and ';' between several"
            )
        if tag in sources.get(teacher, ()):
            raise DatasetError(f"{path}, line {line}: the source {teacher}:{tag} appears twice")
        sources[teacher] = (*sources.get(teacher, ()), tag)
    return TaughtWord(word=row["word"], category=row["category"], sources=sources, line=line)


def teachers_called(name: str, teachers: Collection[str]) -> list[str]:
    """Those of `teachers` that the TEACHER `name` refers to."""
    return [teacher for teacher in teachers if teacher in name.split("+") or teacher.endswith(f"-{name}")]
