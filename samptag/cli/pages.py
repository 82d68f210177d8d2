"""Help pages as people read them: commands to copy first, prose without the docstrings' line breaks, bare flags."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["polished"]

# Typer prints all but the first paragraph dimmed.
_COMMAND = "[not dim][bold cyan]$[/bold cyan] {}[/not dim]"


def polished(command: Any) -> Any:
    """The command, and all below it, with the help of each set in order.

    In a docstring, lines that begin with "$ " are commands to copy.
    """
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(map(_paragraph, paragraphs))
    for parameter in command.params:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument" and parameter.metavar:
            parameter.display_type_rich = lambda ctx: None  # the name says it
    command.get_help_option = _without_type(command.get_help_option)
    for inner in getattr(command, "commands", {}).values():
        polished(inner)
    return command


def _without_type(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_bare(context: Any) -> Any:
        option = get(context)
        if option is not None:
            option.metavar = ""
        return option

    return get_bare


def _paragraph(text: str) -> str:
    escaped = text.replace("[", "\\[")
    if not text.startswith("$ "):
        return escaped.replace("\n", " ")
    return "\n".join(_COMMAND.format(line.removeprefix("$ ")) for line in escaped.splitlines())
