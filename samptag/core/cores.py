"""How much of the machine this process may use."""

import os

__all__ = ["available_cores"]


def available_cores() -> int:
    """The cores that this process may use: on Linux those it is bound to, elsewhere all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
