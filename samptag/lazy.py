"""Public names of a package that are imported when first used, so that starting up loads nothing heavy."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


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
