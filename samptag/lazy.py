"""Late imports: public names on first use, the packages of an extra, and imports without garbage collection."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from samptag.errors import UsageError


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of `package` for names defined in other modules: {"Tagger": "samptag.tagging.tagger"}."""

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


def require_extra(extra: str, *, modules: tuple[str, ...], purpose: str) -> None:
    """Raise a UsageError if one of the `modules` is not installed, before any work is done.

    It tells the user to install the `extra`; `purpose` is the subject of its sentence: "a picture".
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(f"{purpose} needs {' and '.join(missing)}: pip install 'samptag[{extra}]'")


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the garbage collector during a with block, and exempt what was made in the block for good.

    For imports and models, which live as long as the process. Going through the objects that importing torch makes,
    again and again and once more when the interpreter exits, took 0.6 s of CPU in a command that tags one clip in
    0.3 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
