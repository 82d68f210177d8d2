"""What is known of a weights file's words: a table on a terminal, else lines with tabs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samptag.core.card import ModelCard

_UNVERIFIED = "unverified"
_ROC_AUC = (
    "of a track with the word and one without it, the one with it scores higher in so many pairs of a hundred; "
    ".50 is chance. In brackets: 95 % intervals"
)
_CORRELATION = "1 where the word's scores rise and fall as its teachers' do, on music not learned from; 0 is chance"


def has_words_to_explain(card: ModelCard) -> bool:
    """Whether the card says more of its words than their categories."""
    return any((card.cutoffs, card.evidence, card.concepts))


def word_facts(card: ModelCard) -> list[tuple[str, str]]:
    """What all words have in common, as labels and texts: on what they were tested, and what the figures mean."""
    tested = [*(card.evidence or {}).values(), *(concept.evidence for concept in (card.concepts or {}).values())]
    facts = []
    for kind, label, name, meaning in (
        ("human", "people's tags", "ROC-AUC", _ROC_AUC),
        ("teachers", "its teachers", "correlation", _CORRELATION),
    ):
        sources = dict.fromkeys(evidence.source for evidence in tested if evidence.kind == kind)
        facts += [(label, source) for source in sources]
        facts += [(name, meaning)] if sources else []
    return facts


def print_words(card: ModelCard) -> None:
    """Write a line for each word, with its evidence and its cut-off, and one for each concept."""
    rows = [
        (category, tag, _evidence(card, tag), _cutoff(card, tag))
        for tag, category in zip(card.tags, card.tag_categories or ("words",) * len(card.tags), strict=True)
    ]
    for name, concept in (card.concepts or {}).items():
        words = ", ".join(concept.tags) + (f" against {', '.join(concept.against)}" if concept.against else "")
        rows.append(("together", name, f"{concept.evidence.text} ({words})", ""))
    groups: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row[1:])
    if sys.stdout.isatty():
        _draw(groups)
        return
    for category, lines in groups.items():
        for line in lines:
            sys.stdout.write("\t".join(("word", category, *line)) + "\n")


def _evidence(card: ModelCard, tag: str) -> str:
    known = (card.evidence or {}).get(tag)
    return _UNVERIFIED if known is None else known.text


def _cutoff(card: ModelCard, tag: str) -> str:
    cutoff = (card.cutoffs or {}).get(tag)
    if cutoff is None:
        return ""
    known = (card.cutoff_evidence or {}).get(tag)
    return f"{cutoff:.2f}".removeprefix("0") + (f", {known.text}" if known else "")


def _draw(groups: Mapping[str, Sequence[Sequence[str]]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from samptag.cli.table import terminal

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "evidence", "cut-off"):
        table.add_column(name, overflow="fold")
    for category, rows in groups.items():
        table.add_row(Text(category, style="bold cyan"))
        for word, evidence, cutoff in rows:
            table.add_row(f"  {word}", Text(evidence, style="dim" if evidence == _UNVERIFIED else ""), cutoff)
    terminal(sys.stdout).print(table)
