"""Packages that samptag uses where they are installed, each behind an extra of its own."""

from __future__ import annotations

from importlib.util import find_spec

from samptag.errors import UsageError

__all__ = ["require_extra"]


def require_extra(extra: str, *, modules: tuple[str, ...], purpose: str) -> None:
    """Refuse what needs packages that are not installed, before any work is done for it.

    Parameters
    ----------
    extra : str
        Name of the extra that brings them.
    modules : tuple of str
        What is imported from them.
    purpose : str
        What they are wanted for, as the subject of a sentence: "a picture".

    Raises
    ------
    UsageError
        When one of them is missing.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(f"{purpose} needs {' and '.join(missing)}: pip install 'samptag[{extra}]'")
