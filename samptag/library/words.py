"""The words of a weights file: their categories, and the scores from which they are decided."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from samptag.errors import UsageError
from samptag.text import did_you_mean, first_names

if TYPE_CHECKING:
    from samptag.core.card import Evidence, ModelCard

# The cut-off of every word of weights that store no cut-offs: it favours precision over recall.
DEFAULT_CUTOFF = 0.5

# People's tags confirm a word if the 95 % interval of its ROC-AUC on them begins here or above.
LEAST_ROC_AUC = 0.75

# Of vocabularies whose weights name no categories: MagnaTagATune's and Last.FM's fifty words. Words of neither list
# (instruments, voices, pace, decades, opinions) are written to neither field.
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
    category: str | None = None  # "genre", "mood", "instrument", ...; None if unknown
    cutoff: float | None = None  # score from which it is decided; None if the weights store none for it
    verified: bool | None = None  # whether people's tags confirm it; None in an index that did not note it


class Vocabulary:
    """The words of one weights file, in the order of its scores (`words`), and their spellings alone (`tags`).

    `has_cutoffs` says whether the file stores any cut-off. `elsewhere` is given a word that is not among them and
    returns a hint at other weights that know it, or "".
    """

    def __init__(self, words: Sequence[Word], *, elsewhere: Callable[[str], str] = lambda word: "") -> None:
        self.words = tuple(words)
        self.tags = tuple(word.tag for word in words)
        self._elsewhere = elsewhere
        self.has_cutoffs = any(word.cutoff is not None for word in words)
        self._places = {fold(word.tag): place for place, word in reversed(list(enumerate(self.words)))}

    @classmethod
    def of_card(cls, card: ModelCard) -> Vocabulary:
        """The words of a card; where it has no categories, those of well-known words."""
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
    def from_json(cls, text: str, *, elsewhere: Callable[[str], str] = lambda word: "") -> Vocabulary:
        """The words that `to_json` wrote."""
        return cls([Word(**word) for word in json.loads(text)], elsewhere=elsewhere)

    def to_json(self) -> str:
        """The words as a JSON array."""
        return json.dumps([asdict(word) for word in self.words], ensure_ascii=False)

    def find(self, name: str) -> int | None:
        """The place of the word `name`, whatever its case; None if it is not among them."""
        return self._places.get(fold(" ".join(name.split())))

    def place(self, name: str) -> int:
        """As `find`, but an unknown word is a UsageError that names similar ones."""
        place = self.find(name)
        if place is None:
            raise UsageError(f"unknown word {name!r}, {self.hint(name)}")
        return place

    def hint(self, name: str, *, also: Sequence[str] = ()) -> str:
        """Which weights know the unknown word `name`, or else similar words and names, `also` among them."""
        return self._elsewhere(name) or near(name, (*self.tags, *also))

    def cutoff(self, place: int) -> float | None:
        """The score from which a word is decided: what its weights store, or `DEFAULT_CUTOFF` where they store none.

        None if they store cut-offs but none for this word: it is never decided.
        """
        return self.words[place].cutoff if self.has_cutoffs else DEFAULT_CUTOFF

    def decided(self, scores: Sequence[float]) -> list[tuple[Word, float]]:
        """The words past their cut-offs, with their scores, highest first."""
        limits = [self.cutoff(place) for place in range(len(self.words))]
        known = zip(self.words, scores, limits, strict=True)
        past = [(word, score) for word, score, limit in known if limit is not None and score >= limit]
        return sorted(past, key=lambda pair: -pair[1])


def _is_verified(evidence: Evidence | None) -> bool:
    """Whether people's tags confirm a word: it takes enough of them and a good fit to lift the interval so high."""
    interval = None if evidence is None else evidence.roc_auc_interval
    return interval is not None and interval[0] >= LEAST_ROC_AUC


def fold(value: str | bytes | None) -> str:
    """The text or file name for comparison: without differences of case or of how accents are encoded."""
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def near(name: str, known: Sequence[str]) -> str:
    """A hint at known names that are similar to `name`, or at a few of them if none is."""
    return did_you_mean(name, known) or f"choose from {first_names(known, 12)}"
