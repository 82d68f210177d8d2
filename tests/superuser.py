"""What is asked of a program that may not read and write everything, also where the tests run as root."""

import ctypes
import os
import sys

import pytest

needs_rights = pytest.mark.skipif(
    sys.platform != "linux", reason="takes the superuser's right to read and write everything away, as Linux does"
)


def give_up_override() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH from what a program started next may have."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
