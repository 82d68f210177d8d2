"""The language of `samptag find`: an expression read by a parser, and made into a condition for SQL.

::

    piano > .2 and not "female vocals"    words compared with a score from 0 to 1; a word alone is past its cut-off
    (rock or metal) and duration < 300    parentheses; seconds
    artist = "Nina Simone"                fields: artist, title, album, path; upper and lower case are the same
    path ~ live and album !~ "best of"    ~ contains, !~ does not

A word of several parts needs quotes only where a part is ``and``, ``or`` or ``not``.
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
_COMPARISONS = ("<", "<=", ">", ">=", "=", "!=")

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
    values: tuple[Any, ...] = ()  # what stands for these
    words: tuple[int, ...] = ()  # places of the words it asks for, in their order
    bare: tuple[int, ...] = ()  # those of them that stand alone and count from their cut-offs


def parse(expression: str, vocabulary: Vocabulary) -> Condition:
    """The condition that `expression` (as in the module's head; an empty one is true of every song) means.

    One that cannot be read, or names an unknown word, is a UsageError that says at which column and marks it with ^.
    """
    from lark.exceptions import UnexpectedEOF, UnexpectedInput

    expression = unicodedata.normalize("NFC", expression)
    if not expression.strip():
        return Condition()
    try:
        tree = _parser().parse(expression)
    except UnexpectedInput as error:
        at_end = isinstance(error, UnexpectedEOF) or getattr(getattr(error, "token", None), "type", "") == "$END"
        place = len(expression) if at_end else (error.pos_in_stream or 0)
        piece = next(iter(expression[place:].split()), expression[place:])
        compared = expression[:place].rstrip().endswith(("=", "~"))
        in_quotes = ", a text with other signs than letters goes in quotes" if compared else ""
        what = "it ends too early" if at_end else f"{piece!r} cannot stand here{in_quotes}"
        raise _error(expression, place, what) from None
    writer = _Writer(expression, vocabulary)
    sql = writer.write(tree)
    words, bare = (tuple(dict.fromkeys(places)) for places in (writer.words, writer.bare))
    return Condition(sql=sql, values=tuple(writer.values), words=words, bare=bare)


def score_sql(place: int) -> str:
    """The score of the word at `place` as SQL: two bytes that sort as the number does."""
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
                raise _error(self.expression, column, f"{name!r} is a field: compare it with something")
            place = self._place(name, column)
            cutoff = self.vocabulary.cutoff(place)
            if cutoff is None:
                why = f"nothing says from which score on {name!r} holds: compare it, as in {name!r} > .2"
                raise _error(self.expression, column, why)
            self.bare.append(place)
            return self._score(place, ">=", cutoff)
        operator, value_node = str(node.children[1]), _trees(node)[1]
        value, _, value_column = _text(value_node)
        if is_field and name.casefold() != "duration":
            return self._compare_text(name.casefold(), operator, value, column)
        score_of = None if is_field else self._place(name, column)
        if getattr(value_node.children[0], "type", "") != "NUMBER":
            raise _error(self.expression, value_column, f"{name!r} is compared with a number, not {value!r}")
        number = float(value)
        if operator not in _COMPARISONS:
            raise _error(self.expression, column, f"{operator} is for texts, {name!r} is a number")
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
            raise _error(self.expression, column, f"{name} is a text: use =, !=, ~ (contains) or !~")
        self.values.append(fold(value))
        if operator in ("=", "!="):
            return f"(fold(s.{name}) {operator} ?)"
        return f"(instr(fold(s.{name}), ?) {'> 0' if operator == '~' else '= 0'})"


def _trees(node: Tree[Token]) -> list[Any]:
    return [child for child in node.children if hasattr(child, "data")]


def _text(node: Tree[Token]) -> tuple[str, bool, int]:
    """The text of a name or value, whether it is quoted, and where it begins."""
    first: Any = node.children[0]
    if first.type == "QUOTED":
        return str(first)[1:-1], True, first.start_pos
    return " ".join(map(str, node.children)), False, first.start_pos
