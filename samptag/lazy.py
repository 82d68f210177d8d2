"""What is imported late: public names when they are first used, and packages that only an extra brings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from samptag.errors import UsageError


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of `package`, for names that live in other `modules`.

    Examples
    --------
    In a package's ``__init__.py``::

        __getattr__ = lazy_names(__name__, {"Tagger": "samptag.tagging.tagger"})
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


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
