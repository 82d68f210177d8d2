"""A quiet standard error while codecs work.

libmpg123 (inside libsndfile) prints to C's ``stderr`` about MP3 frames it finds odd, several lines a file, in the
middle of a progress bar. libsndfile has no switch for it. Redirecting file descriptor 2 around each read would take
other threads' messages away; so, once and for a whole process, C's ``stderr`` stream alone is pointed elsewhere.
Python's ``sys.stderr``, faulthandler and all else that writes to the descriptor itself stay as they are.
"""

import ctypes
import os
import sys

__all__ = ["silence_codecs"]


def silence_codecs() -> bool:
    """Whether C libraries' messages are silenced from now on, in the whole process.

    For programs, not libraries: the command line calls it before it decodes, unless it was asked to debug. It works
    with glibc and on macOS, where ``stderr`` is a variable; elsewhere it changes nothing and returns False.
    """
    symbol = _stream_variable()
    if symbol is None:
        return False
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nothing = library.fopen(os.devnull.encode(), b"w")
    if not nothing:
        return False
    ctypes.c_void_p.in_dll(library, symbol).value = nothing
    return True


def _stream_variable() -> str | None:
    """Name of the C library's stderr variable, or None where it is a constant (musl) or a function (Windows)."""
    if sys.platform == "darwin":
        return "__stderrp"
    try:
        glibc = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (OSError, ValueError):
        return None
    return "stderr" if glibc else None
