"""Everything samptag raises on purpose.

::

    SamptagError             1
    ├── UsageError           2
    ├── OutputError          2
    ├── AudioError           1
    ├── WeightsError         3
    │   └── DownloadError    3
    ├── DeviceError          4
    ├── DatasetError         5
    └── LibraryError         5

The number is the exit code of the process. The message is one line that names the file or value and says what to do;
the command line prints it unchanged.
"""


class SamptagError(Exception):
    """Base of every expected error; the message is one line for a person."""

    exit_code = 1


class UsageError(SamptagError):
    """An argument or option that cannot be used."""

    exit_code = 2


class OutputError(SamptagError):
    """An output file that cannot be written."""

    exit_code = 2


class AudioError(SamptagError):
    """An input that cannot be decoded or holds no sound."""


class WeightsError(SamptagError):
    """Weights or a checkpoint that cannot be used."""

    exit_code = 3


class DownloadError(WeightsError):
    """Weights or data that cannot be fetched."""


class DeviceError(SamptagError):
    """A device that is missing, cannot be used or has run out of memory."""

    exit_code = 4


class DatasetError(SamptagError):
    """A data set, manifest, cache or label that cannot be used."""

    exit_code = 5


class LibraryError(SamptagError):
    """An index that is missing, damaged, in use by another process or made with other weights."""

    exit_code = 5
