"""TensorFlow checkpoints ("tensor bundles") read without TensorFlow.

A bundle is an index and data files. The index is a table as LevelDB writes it (leveldb/doc/table_format.md): blocks of
sorted keys that share prefixes, an index block of their places, a footer of 48 bytes. Its values are messages
``BundleEntryProto`` (tensorflow/core/protobuf/tensor_bundle.proto): type, shape, data file, offset, size.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samptag.errors import WeightsError

__all__ = ["read_bundle"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_BLOCK_TRAILER = 5  # a byte for the compression and four of checksum
_DT_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def read_bundle(index: Path) -> dict[str, np.ndarray]:
    """All float32 tensors of a checkpoint.

    Parameters
    ----------
    index : Path
        Its file ``.index``; the data lie beside it, in one file.

    Returns
    -------
    dict of str to ndarray of float32

    Raises
    ------
    WeightsError
        The files are damaged, or of a kind that is not read here.
    """
    data_file = index.with_name(index.name.removesuffix(".index") + ".data-00000-of-00001")
    try:
        data = data_file.read_bytes()
        entries = {key.decode(): _entry(value) for key, value in _table(index.read_bytes()) if key}
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{index} is damaged ({error})") from None
    tensors = {}
    for name, (kind, shape, shard, offset, size) in entries.items():
        if kind != _DT_FLOAT:
            continue
        if shard != 0 or offset + size > len(data) or size != 4 * int(np.prod(shape)):
            raise WeightsError(f"{index}: the tensor {name} does not lie in its data file")
        tensors[name] = np.frombuffer(data, "<f4", size // 4, offset).reshape(shape).astype(np.float32)
    return tensors


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise WeightsError("the index of the checkpoint is no table of LevelDB's")
    at = 0
    for _ in range(2):  # the place of the meta index, which is not needed
        _, at = _varint(footer, at)
    for _, place in _block(content, footer[at:]):
        yield from _block(content, place)


def _block(content: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block at `place`, its offset and size as varints."""
    offset, at = _varint(place, 0)
    size, _ = _varint(place, at)
    if content[offset + size] != 0 or offset + size + _BLOCK_TRAILER > len(content):
        raise WeightsError("the index of the checkpoint is compressed or cut off")
    block = content[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _entry(message: bytes) -> tuple[int, tuple[int, ...], int, int, int]:
    """Type, shape, shard, offset and size of a tensor."""
    fields = dict(_fields(message))
    dimensions = (value for number, value in _fields(_bytes(fields.get(2, b""))) if number == 2)
    shape = tuple(_number(dict(_fields(_bytes(dimension))).get(1, 0)) for dimension in dimensions)
    kind, shard, offset, size = (_number(fields.get(number, 0)) for number in (1, 3, 4, 5))
    return kind, shape, shard, offset, size


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WeightsError("the index of the checkpoint holds a number where a message should be")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise WeightsError("the index of the checkpoint holds a message where a number should be")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    at = 0
    while at < len(message):
        head, at = _varint(message, at)
        number, wire = head >> 3, head & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire in (_FIXED32, _FIXED64):
            width = 4 if wire == _FIXED32 else 8
            value, at = int.from_bytes(message[at : at + width], "little"), at + width
        else:
            raise WeightsError(f"the index of the checkpoint holds a field of wire type {wire}")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, seven bits a byte, and where the next thing starts."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
