"""TensorFlow checkpoints ("tensor bundles"), read without TensorFlow.

A bundle is an index and data files. The index is a table as LevelDB writes it (leveldb/doc/table_format.md): blocks of
sorted keys that share prefixes, an index block with their places, a footer of 48 bytes. Its values are messages
``BundleEntryProto`` (tensorflow/core/protobuf/tensor_bundle.proto): type, shape, data file, offset, size.

Nothing in it is trusted: every number is compared with the bytes that are there, and each byte is read once.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samptag.errors import WeightsError
from samptag.files import os_errors_as
from samptag.pretrained.registry import DATA_SUFFIX, INDEX_SUFFIX

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
_TRAILER = 5  # a byte for the compression and four of checksum
_DT_FLOAT = 1
_LONGEST_VARINT = 10
_LONGEST_INDEX = 1 << 20  # those of musicnn have 5 KB; a limit to what can be read more than once
# Wire types of protocol buffers: numbers of 8 and 4 bytes; the other two are varint and bytes.
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}


def bundle_files(path: Path) -> tuple[Path, Path]:
    """The data file and the index of the checkpoint `path`: one of the two, or the folder that holds them unnamed."""
    if path.is_dir():
        return path / DATA_SUFFIX, path / INDEX_SUFFIX
    stem = path.name.removesuffix(DATA_SUFFIX).removesuffix(INDEX_SUFFIX)
    return path.with_name(stem + DATA_SUFFIX), path.with_name(stem + INDEX_SUFFIX)


def read_bundle(path: Path) -> dict[str, NDArray[np.float32]]:
    """All float32 tensors of a checkpoint, `path` as for `bundle_files`, by name; tensors of other types are left out.

    Raises a WeightsError if a file is missing or damaged, or of a kind that is not supported.
    """
    data_file, index = bundle_files(path)
    with os_errors_as(WeightsError, f"cannot read {index}"):
        content = index.read_bytes()
    with os_errors_as(WeightsError, f"cannot read {data_file}"):
        data = data_file.read_bytes()
    tensors = {}
    try:
        for key, value in _table(content):
            if not key:  # the bundle's own header
                continue
            name, (kind, shape, shard, offset, size) = key.decode(), _entry(value)
            if kind != _DT_FLOAT:
                continue
            if shard != 0 or offset + size > len(data) or size != 4 * math.prod(shape) or size == 0:
                raise ValueError(f"the tensor {name!r} is not inside {data_file.name}")
            tensors[name] = np.frombuffer(data, "<f4", size // 4, offset).reshape(shape)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{index} is damaged, or not the index of a TensorFlow checkpoint: {error}") from None
    return tensors


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    if len(content) > _LONGEST_INDEX:
        raise ValueError(f"it is longer than {_LONGEST_INDEX} bytes")
    footer = content[-_FOOTER:]
    if not footer.endswith(_MAGIC):
        raise ValueError("it does not end like one")
    at = 0
    for _ in range(2):  # the place of the meta index, which is not needed
        _, at = _varint(footer, at)
    read = 0
    for _, place in _block(content, *_place(footer[at:])):
        offset, size = _place(place)
        if offset < read:
            raise ValueError("its blocks overlap")
        read = offset + size
        yield from _block(content, offset, size)


def _place(data: bytes) -> tuple[int, int]:
    """Offset and size of a block."""
    offset, at = _varint(data, 0)
    return offset, _varint(data, at)[0]


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    end = offset + size
    if end + _TRAILER > len(content) - _FOOTER or content[end] != 0:
        raise ValueError("a block is cut off or compressed")
    restarts = int.from_bytes(content[end - 4 : end], "little")
    block = content[offset : max(end - 4 * (restarts + 1), offset)]
    at, key = 0, b""
    while at < len(block):
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + _taken(block, at, unshared)
        at += unshared
        yield key, _taken(block, at, length)
        at += length


def _entry(message: bytes) -> tuple[int, tuple[int, ...], int, int, int]:
    """Type, shape, shard, offset and size of a tensor."""
    fields = dict(_fields(message))
    sizes = [dict(_fields(dim)).get(1, 0) for number, dim in _fields(fields.get(2, b"")) if number == 2]
    kind, shard, offset, size, *shape = (_number(x) for x in (*(fields.get(n, 0) for n in (1, 3, 4, 5)), *sizes))
    return kind, tuple(shape), shard, offset, size


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("there is a message where a number should be")
    return value


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    if isinstance(message, int):
        raise TypeError("there is a number where a message should be")
    at = 0
    while at < len(message):
        head, at = _varint(message, at)
        number, wire = head >> 3, head & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(message, at)
        else:
            length, at = _varint(message, at) if wire == _BYTES else (_FIXED[wire], at)
            value, at = _taken(message, at, length), at + length
        yield number, value


def _taken(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError("an entry is cut off")
    return data[at : at + length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, seven bits a byte, and where the next thing starts."""
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number is too long")
