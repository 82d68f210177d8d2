"""Everything samptag raises on purpose.

::

    SamptagError                 1   one input failed, or any error below
    ├── UsageError               2   an argument or option that cannot be used
    ├── OutputError              2   an output file that cannot be written
    ├── AudioError               1   an input that cannot be decoded or holds no sound
    ├── WeightsError             3   weights or a checkpoint that cannot be used
    │   └── DownloadError        3   weights or data that cannot be fetched
    ├── DeviceError              4   a device that is missing, cannot be used or has run out of memory
    ├── DatasetError             5   a data set, manifest, cache or label that cannot be used
    └── LibraryError             5   an index that is missing, damaged, in use or made with other weights

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
