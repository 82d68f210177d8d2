"""Text for people and for machines: printable names, lists cut short, suggestions for typos, progress."""

import os
from collections.abc import Callable, Iterable, Sequence

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, in the words that a person reads ("decoding audio"), how much of it is done, and how
much there is in all, None where that is unknown."""


def printable(text: str) -> str:
    """The text on one line that moves no cursor: characters that cannot be printed or encoded become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def valid_text(text: str) -> str:
    """The text with U+FFFD for every surrogate (an undecodable byte of a file name), so that UTF-8 can hold it."""
    return "".join("�" if "\ud800" <= character <= "\udfff" else character for character in text)


def path_fields(path: str) -> dict[str, str]:
    """The path as a JSON record holds it; if it is not valid Unicode, also its bytes in base64, as path_bytes."""
    import base64

    shown = valid_text(path)
    if shown == path:
        return {"path": path}
    return {"path": shown, "path_bytes": base64.b64encode(os.fsencode(path)).decode("ascii")}


def first_names(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names, and how many more there are: "a, b and 1 more"."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def counted(number: int, what: str) -> str:
    """The number with its word: "1 file", "2 files"."""
    return f"{number} {what}" + ("s" if number != 1 else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that suggests the known words closest to `name`, whatever their case; "" if none is close."""
    import difflib

    spelled = {word.casefold(): word for word in known}
    close = difflib.get_close_matches(name.casefold(), spelled, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(spelled[word]) for word in close)}?" if close else ""


def bytes_text(count: int) -> str:
    """A number of bytes for people: "3.2 GB", "0.5 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def clock(seconds: float) -> str:
    """A duration as m:ss, from an hour on as h:mm:ss, and below ten seconds as "3.2 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
