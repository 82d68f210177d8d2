"""TensorFlow's checkpoints as TensorFlow writes them, by the description of the format."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
DT_FLOAT, DT_INT64 = 1, 9

Pairs = Iterable[tuple[bytes, bytes]]


def varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(shape: Iterable[int], offset: int, size: int, *, kind: int = DT_FLOAT, shard: int = 0) -> bytes:
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    checksum = varint(6 << 3 | 5) + b"\1\2\3\4"
    return field(1, kind) + field(2, dimensions) + field(3, shard) + field(4, offset) + field(5, size) + checksum


def block(pairs: Pairs) -> bytes:
    """A block whose keys share what they have in common with the one before."""
    content, before = b"", b""
    for key, value in pairs:
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), min(map(len, (before, key)))
        )
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return content + struct.pack("<II", 0, 1)


def table(*parts: Pairs, index: list[int] | None = None) -> bytes:
    """A table of those blocks; `index` names the blocks that its index block points to, by default each once."""
    content, places = b"", []
    for part in (*parts, []):
        places.append(varint(len(content)) + varint(len(block(part))))
        content += block(part) + b"\0" + b"sums"
    shown = range(len(parts)) if index is None else index
    top = block([(b"%c" % (97 + i), places[number]) for i, number in enumerate(shown)])
    footer = places[-1] + varint(len(content)) + varint(len(top))
    return content + top + b"\0" + b"sums" + footer.ljust(40, b"\0") + MAGIC


def write_bundle(folder: Path, tensors: Mapping[str, np.ndarray], *, stem: str = "") -> Path:
    """Both files of a checkpoint; the path of its index."""
    folder.mkdir(exist_ok=True)
    # The bundle's own header: one data file, and a message with a version.
    data, pairs = b"", [(b"", field(1, 1) + field(3, field(1, 1)))]
    for name, values in sorted(tensors.items()):
        kind = DT_FLOAT if values.dtype == np.float32 else DT_INT64
        pairs.append((name.encode(), entry(values.shape, len(data), values.nbytes, kind=kind)))
        data += values.tobytes()
    (folder / f"{stem}.index").write_bytes(table(pairs[:2], pairs[2:]))
    (folder / f"{stem}.data-00000-of-00001").write_bytes(data)
    return folder / f"{stem}.index"
