"""TensorFlow's checkpoints, read from files that the test writes by the format's description."""

import struct

import numpy as np
import pytest

from samptag.errors import WeightsError
from samptag.pretrained.tensor_bundle import read_bundle

DT_FLOAT, DT_INT64 = 1, 9


def varint(number):
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(kind, shape, offset, size):
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    checksum = varint(6 << 3 | 5) + b"\1\2\3\4"
    return field(1, kind) + field(2, dimensions) + field(4, offset) + field(5, size) + checksum


def block(pairs):
    """A block whose keys share what they have in common with the one before."""
    content, before = b"", b""
    for key, value in pairs:
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), min(map(len, (before, key)))
        )
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return content + struct.pack("<II", 0, 1)


def write_bundle(folder, tensors):
    data, pairs = b"", [(b"", field(1, 1))]
    for name, values in sorted(tensors.items()):
        kind = DT_FLOAT if values.dtype == np.float32 else DT_INT64
        pairs.append((name.encode(), entry(kind, values.shape, len(data), values.nbytes)))
        data += values.tobytes()
    table = b""
    places = []
    for part in (pairs[:2], pairs[2:], []):
        places.append(varint(len(table)) + varint(len(block(part))))
        table += block(part) + b"\0" + b"sums"
    index = block([(b"m", places[0]), (b"z", places[1])])
    footer = places[2] + varint(len(table)) + varint(len(index))
    table += index + b"\0" + b"sums"
    table += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / ".index").write_bytes(table)
    (folder / ".data-00000-of-00001").write_bytes(data)
    return folder / ".index"


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "conv2d/bias": rng.standard_normal(300).astype("f4"),
        "conv2d/kernel": rng.standard_normal((7, 2, 1, 300)).astype("f4"),
        "dense/bias": np.float32(rng.standard_normal(1)),
        "global_step": np.array(7),
        "scalar": np.array(0.5, "f4"),
    }


def test_every_float_tensor_is_read_as_it_was_written(tmp_path, tensors):
    found = read_bundle(write_bundle(tmp_path, tensors))
    assert set(found) == set(tensors) - {"global_step"}
    for name, values in found.items():
        np.testing.assert_array_equal(values, tensors[name])


@pytest.mark.parametrize("kept", [0, 20, 100, -1])
def test_a_cut_off_index_is_refused(tmp_path, tensors, kept):
    index = write_bundle(tmp_path, tensors)
    index.write_bytes(index.read_bytes()[:kept])
    with pytest.raises(WeightsError):
        read_bundle(index)


def test_cut_off_data_are_refused_by_the_tensor_that_lacks_them(tmp_path, tensors):
    index = write_bundle(tmp_path, tensors)
    data = tmp_path / ".data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="scalar"):
        read_bundle(index)


def test_missing_data_are_named(tmp_path, tensors):
    index = write_bundle(tmp_path, tensors)
    (tmp_path / ".data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"cannot read .*\.data-00000-of-00001"):
        read_bundle(index)
