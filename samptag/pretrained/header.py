"""The card of a weights file, read from its first bytes without loading torch."""

import json
import struct
from pathlib import Path

from samptag.core.card import ModelCard
from samptag.errors import WeightsError
from samptag.files import os_errors_as

__all__ = ["read_header_card"]

# A header of ours takes some 30 KB; what claims more than this is not one.
_LONGEST_HEADER = 1 << 24


def read_header_card(path: Path) -> ModelCard:
    """What the weights file `path` says about itself, after checking that the file has its full length.

    The content is not compared with its digest: that is done when the weights are loaded.

    Raises
    ------
    WeightsError
        The file cannot be read, is truncated, or is no weights file of samptag's.
    """
    with os_errors_as(WeightsError, f"cannot read {path}"):
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LONGEST_HEADER
            text = file.read(length) if length < _LONGEST_HEADER else b""
        size = path.stat().st_size
    try:
        header = json.loads(text)
        card = ModelCard.from_dict(json.loads(header.pop("__metadata__")["samptag"])["card"])
        expected = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path} is no weights file of samptag's, or a truncated one") from error
    if expected != size:
        raise WeightsError(f"{path} is truncated or longer than it says: {size} bytes instead of {expected}")
    return card
