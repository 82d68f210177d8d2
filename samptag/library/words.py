"""What a weights file's words mean to a library: their category, and the score from which they count as decided."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from samptag.errors import UsageError
from samptag.text import did_you_mean

if TYPE_CHECKING:
    from samptag.core.card import Evidence, ModelCard

DEFAULT_CUTOFF = 0.5
"""The cut-off of words whose weights store none at all: more likely to be right than to find all there is."""

LEAST_ROC_AUC = 0.75
"""The 95 % interval of a word's ROC-AUC on people's tags must begin here or above for them to confirm it."""

# For vocabularies whose weights do not sort their words: MagnaTagATune's and Last.FM's fifty. What is in neither set
# (instruments, voices, pace, decades, opinions) is written to neither field.
_GENRES = (
    "classical, techno, electronic, rock, indian, opera, pop, country, metal, dance, ambient, new age, new wave, "
    "choral, jazz, soul, punk, blues, folk, funk, house, electro, electronica, indie, alternative, experimental, "
    "hip-hop, hip hop, rnb, alternative rock, classic rock, indie rock, indie pop, hard rock, heavy metal"
)
_MOODS = "quiet, soft, loud, happy, sad, chill, chillout, mellow, party"
_CATEGORIES = dict.fromkeys(_MOODS.split(", "), "mood") | dict.fromkeys(_GENRES.split(", "), "genre")


@dataclass(frozen=True, kw_only=True)
class Word:
    """One tag of a vocabulary."""

    tag: str  # as the weights spell it
    category: str | None = None  # "genre", "mood", "instrument", ...; None where nobody says
    cutoff: float | None = None  # score from which it is decided; None where the weights store none for it
    verified: bool | None = None  # confirmed by what people say, not by its teachers alone; None where nobody noted it


class Vocabulary:
    """The words of one weights file, in the order of its scores, and whether it stores any cut-off (`has_cutoffs`).

    `elsewhere` says of a word that is not among them whose it is and how to use those, or "".
    """

    def __init__(self, words: Sequence[Word], *, elsewhere: Callable[[str], str] = lambda word: "") -> None:
        self.words = tuple(words)
        self._elsewhere = elsewhere
        self.has_cutoffs = any(word.cutoff is not None for word in words)
        self._places = {fold(word.tag): place for place, word in reversed(list(enumerate(self.words)))}

    @classmethod
    def of_card(cls, card: ModelCard) -> Vocabulary:
        """The words of a card: its categories and cut-offs, or where it has no categories those of well-known words."""
        categories: Sequence[str | None] = card.tag_categories or tuple(
            _CATEGORIES.get(tag.casefold()) for tag in card.tags
        )
        cutoffs, evidence = card.cutoffs or {}, card.evidence or {}
        return cls(
            [
                Word(tag=tag, category=category, cutoff=cutoffs.get(tag), verified=_is_verified(evidence.get(tag)))
                for tag, category in zip(card.tags, categories, strict=True)
            ]
        )

    @classmethod
    def from_json(
        cls,
        values: Sequence[Mapping[str, str | float | bool | None]],
        *,
        elsewhere: Callable[[str], str] = lambda word: "",
    ) -> Vocabulary:
        """The words that `to_json` gave."""
        return cls([Word(**value) for value in values], elsewhere=elsewhere)  # type: ignore[arg-type]

    def to_json(self) -> list[dict[str, str | float | bool | None]]:
        """The words as JSON holds them."""
        return [asdict(word) for word in self.words]

    @property
    def tags(self) -> tuple[str, ...]:
        """The words alone."""
        return tuple(word.tag for word in self.words)

    def find(self, name: str) -> int | None:
        """The place of the word spelled `name`, in upper or lower case; None where there is none."""
        return self._places.get(fold(" ".join(name.split())))

    def place(self, name: str) -> int:
        """As `find`, but a word that there is not is a UsageError with words like it."""
        place = self.find(name)
        if place is None:
            raise UsageError(f"unknown word {name!r}, {self.hint(name)}")
        return place

    def hint(self, name: str, *, also: Sequence[str] = ()) -> str:
        """Where the unknown word `name` is known, or else words and other names (`also`) that are like it."""
        return self._elsewhere(name) or near(name, (*self.tags, *also))

    def cutoff(self, place: int) -> float | None:
        """The score from which a word is decided: what its weights store, or `DEFAULT_CUTOFF` where they store none.

        None where they store others' but not this word's: it is never decided.
        """
        return self.words[place].cutoff if self.has_cutoffs else DEFAULT_CUTOFF

    def decided(self, scores: Sequence[float]) -> list[tuple[Word, float]]:
        """The words past their cut-offs with their scores, highest first."""
        limits = [self.cutoff(place) for place in range(len(self.words))]
        known = zip(self.words, scores, limits, strict=True)
        past = [(word, score) for word, score, limit in known if limit is not None and score >= limit]
        return sorted(past, key=lambda pair: -pair[1])


def _is_verified(evidence: Evidence | None) -> bool:
    """Whether people's tags confirm a word: enough of them, and well enough, for its interval to be high and narrow."""
    interval = None if evidence is None else evidence.roc_auc_interval
    return interval is not None and interval[0] >= LEAST_ROC_AUC


def fold(value: str | bytes | None) -> str:
    """The text or file name in a form in which upper and lower case, and ways to encode an accent, are the same."""
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def near(name: str, known: Sequence[str]) -> str:
    """A hint at the known names that are like `name`, or a few of them where none is."""
    return did_you_mean(name, known) or f"there is {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
