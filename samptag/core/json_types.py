"""Checks of values that come from files: JSON says nothing about the types a field must have."""

from typing import TypeAlias

Kind: TypeAlias = type | tuple[type | str | None, ...]
"""A type, or a tuple of what is allowed: types, strings, None."""

_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def check_kind(name: str, value: object, kind: Kind) -> None:
    """Refuse a `value` that is not of `kind`.

    True and False are no numbers here; a whole number will do where a fraction may stand.

    Raises
    ------
    ValueError
        Naming `name`, what it must be and what it is.
    """
    if not _is_a(value, kind):
        raise ValueError(f"{name} must be {_describe(kind)}, not {value!r:.80}")


def _is_a(value: object, kind: Kind | str | None) -> bool:
    if isinstance(kind, tuple):
        return any(_is_a(value, k) for k in kind)
    if not isinstance(kind, type):
        return value == kind and type(value) is type(kind)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _describe(kind: Kind | str | None) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(_describe, kind))
    if isinstance(kind, type):
        return _WORDS[kind]
    return "nothing" if kind is None else repr(kind)
