"""What a weights file says about itself, read from its first bytes without loading torch."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samptag.errors import WeightsError

__all__ = ["read_description"]

# A card of 50 tags takes 4 KB and a header 30 KB; more than this is not one of ours.
_LONGEST_HEADER = 1 << 24


def read_description(path: Path) -> Mapping[str, Any]:
    """The card in the weights file `path` as JSON holds it, after checking that the file has its full length.

    The content is not checked against its digest: that is done when the weights are loaded.

    Raises
    ------
    WeightsError
        The file cannot be read, is truncated, or is no weights file of samptag's.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LONGEST_HEADER
            text = file.read(length) if length < _LONGEST_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__")["samptag"]
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        card = json.loads(metadata)["card"]
        if not isinstance(card, dict) or not isinstance(end, int):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path} is no weights file of samptag's, or a truncated one") from error
    if 8 + length + end != size:
        raise WeightsError(f"{path} is truncated: it has {size} of {8 + length + end} bytes")
    return card
