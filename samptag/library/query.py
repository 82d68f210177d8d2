"""The language of `samptag find`: an expression, parsed and turned into a condition in SQL.

::

    piano > .2 and not "female vocals"    words compared with a score from 0 to 1; a word alone is past its cut-off
    (rock or metal) and duration < 300    parentheses; seconds
    artist = "Nina Simone"                fields: artist, title, album, path; case does not matter
    path ~ live and album !~ "best of"    ~ contains, !~ does not

A word of several parts needs quotes only if a part is ``and``, ``or`` or ``not``.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from samptag.errors import UsageError
from samptag.library.words import Vocabulary, fold

if TYPE_CHECKING:
    from lark import Lark, Tree
    from lark.lexer import Token

FIELDS = ("artist", "title", "album", "path", "duration")

_GRAMMAR = r"""
?start: either
?either: both ("or"i both)*
?both: one ("and"i one)*
?one: "not"i one -> negation
    | "(" either ")"
    | name -> decided
    | name OPERATOR value -> comparison
name: NAME+ | QUOTED
value: NUMBER | NAME+ | QUOTED
OPERATOR: "<=" | ">=" | "!=" | "!~" | "<" | ">" | "=" | "~"
NUMBER.2: /[+-]?(\d+\.?\d*|\.\d+)(?![\w.])/
NAME.1: /(?!(and|or|not)\b)\w[\w'&\/+.-]*/i
QUOTED: /"[^"]*"|'[^']*'/
%ignore /\s+/
"""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """An expression as SQL over the tables songs (s), audio (a) and heard (h)."""

    sql: str = "1"  # a condition with question marks
    values: tuple[Any, ...] = ()  # the parameters for these
    words: tuple[int, ...] = ()  # places in the vocabulary of the words it names, in their order
    bare: tuple[int, ...] = ()  # those of them that are compared with their cut-offs


def parse(expression: str, vocabulary: Vocabulary) -> Condition:
    """The condition that `expression` means (see the module's docstring; an empty one holds for every song).

    If it cannot be read, or names an unknown word, it is a UsageError that names the column and marks it with ^.
    """
    from lark.exceptions import UnexpectedInput

    expression = unicodedata.normalize("NFC", expression)
    if not expression.strip():
        return Condition()
    try:
        tree = _parser().parse(expression)
    except UnexpectedInput as error:
        at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
        place = len(expression) if at_end else (error.pos_in_stream or 0)
        piece = next(iter(expression[place:].split()), expression[place:])
        compared = expression[:place].rstrip().endswith(("=", "~"))
        in_quotes = "; put text with characters other than letters in quotes" if compared else ""
        what = "unexpected end" if at_end else f"unexpected {piece!r}{in_quotes}"
        raise _error(expression, place, what) from None
    writer = _Writer(expression, vocabulary)
    sql = writer.write(tree)
    words, bare = (tuple(dict.fromkeys(places)) for places in (writer.words, writer.bare))
    return Condition(sql=sql, values=tuple(writer.values), words=words, bare=bare)


def score_sql(place: int) -> str:
    """The score of the word at `place` as SQL: two bytes that sort as the numbers do."""
    return f"substr(h.scores, {2 * place + 1}, 2)"


@cache
def _parser() -> Lark:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", propagate_positions=True)


def _error(expression: str, place: int, what: str) -> UsageError:
    return UsageError(f"column {place + 1} of the expression: {what}: {expression[:place]}^{expression[place:]}")


@dataclass
class _Writer:
    expression: str
    vocabulary: Vocabulary
    values: list[Any] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)

    def write(self, node: Tree[Token]) -> str:
        if node.data in ("either", "both"):
            joint = " OR " if node.data == "either" else " AND "
            return "(" + joint.join(self.write(child) for child in _trees(node)) + ")"
        if node.data == "negation":
            return f"(NOT {self.write(_trees(node)[0])})"
        name_node = _trees(node)[0]
        name, quoted, column = _text(name_node)
        is_field = not quoted and name.casefold() in FIELDS
        if node.data == "decided":
            if is_field:
                raise _error(self.expression, column, f"{name!r} is a field: compare it with a value")
            place = self._place(name, column)
            cutoff = self.vocabulary.cutoff(place)
            if cutoff is None:
                why = f"{name!r} has no cut-off: compare its score with a number, as in {name!r} > .2"
                raise _error(self.expression, column, why)
            self.bare.append(place)
            return self._score(place, ">=", cutoff)
        operator, value_node = str(node.children[1]), _trees(node)[1]
        value, _, value_column = _text(value_node)
        if is_field and name.casefold() != "duration":
            return self._compare_text(name.casefold(), operator, value, column)
        score_of = None if is_field else self._place(name, column)
        if value_node.children[0].type != "NUMBER":
            raise _error(self.expression, value_column, f"{name!r} must be compared with a number, not {value!r}")
        number = float(value)
        if operator in ("~", "!~"):
            raise _error(self.expression, column, f"{operator} compares text, but {name!r} is a number")
        if score_of is None:
            self.values.append(number)
            return f"(ifnull(a.duration, 0) {operator} ?)"
        if not 0 <= number <= 1:
            raise _error(self.expression, value_column, "scores are numbers from 0 to 1")
        return self._score(score_of, operator, number)

    def _place(self, name: str, column: int) -> int:
        place = self.vocabulary.find(name)
        if place is None:
            raise _error(self.expression, column, f"unknown word {name!r}, {self.vocabulary.hint(name, also=FIELDS)}")
        return place

    def _score(self, place: int, operator: str, score: float) -> str:
        self.words.append(place)
        self.values.append(struct.pack(">e", score))
        return f"({score_sql(place)} {operator} ?)"

    def _compare_text(self, name: str, operator: str, value: str, column: int) -> str:
        if operator not in ("=", "!=", "~", "!~"):
            raise _error(self.expression, column, f"{name} is text: use =, !=, ~ (contains) or !~")
        self.values.append(fold(value))
        if operator in ("=", "!="):
            return f"(fold(s.{name}) {operator} ?)"
        return f"(instr(fold(s.{name}), ?) {'> 0' if operator == '~' else '= 0'})"


def _trees(node: Tree[Token]) -> list[Any]:
    return [child for child in node.children if hasattr(child, "data")]


def _text(node: Tree[Token]) -> tuple[str, bool, int]:
    """A name or value, whether it is quoted, and where it begins."""
    first: Any = node.children[0]
    if first.type == "QUOTED":
        return str(first)[1:-1], True, first.start_pos
    return " ".join(map(str, node.children)), False, first.start_pos
