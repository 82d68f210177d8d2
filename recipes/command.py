"""What the commands of all recipes have in common."""

import logging
import sys
from collections.abc import Callable

from samptag.errors import SamptagError

__all__ = ["exit_code"]


def exit_code(work: Callable[[], None]) -> int:
    """Do `work`, with its log on standard error; what the process should end with.

    An expected error is one line. Ctrl-C says that the same command goes on, because every step of a recipe keeps
    what it has done.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        work()
    except SamptagError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
