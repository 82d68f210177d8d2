"""TensorFlow's checkpoints, read from files that the tests write by the format's description."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tensor_bundles import MAGIC, block, entry, field, table, varint, write_bundle

from samptag.errors import WeightsError
from samptag.pretrained.tensor_bundle import read_bundle

DATA = ".data-00000-of-00001"
Tensors = dict[str, np.ndarray]


@pytest.fixture
def tensors() -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "conv2d/bias": rng.standard_normal(300).astype("f4"),
        "conv2d/kernel": rng.standard_normal((7, 2, 1, 300)).astype("f4"),
        "dense/bias": np.float32(rng.standard_normal(1)),
        "global_step": np.array(7),
        "scalar": np.array(0.5, "f4"),
    }


@pytest.mark.parametrize("stem", ["", "model.ckpt"])
def test_every_float_tensor_is_read_as_it_was_written(tmp_path: Path, tensors: Tensors, stem: str):
    index = write_bundle(tmp_path, tensors, stem=stem)
    paths = [index, index.with_name(stem + DATA)] + ([tmp_path] if not stem else [])
    for path in paths:
        found = read_bundle(path)
        assert set(found) == set(tensors) - {"global_step"}
        for name, values in found.items():
            np.testing.assert_array_equal(values, tensors[name])


def test_no_cut_off_index_is_read(tmp_path: Path, tensors: Tensors):
    index = write_bundle(tmp_path, tensors)
    whole = index.read_bytes()
    for kept in range(len(whole)):
        index.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"\.index is damaged, or not the index"):
            read_bundle(index)


def test_an_altered_index_is_refused_or_stays_within_the_data(tmp_path: Path, tensors: Tensors):
    index = write_bundle(tmp_path, tensors)
    whole, size = index.read_bytes(), (tmp_path / DATA).stat().st_size
    rng = np.random.default_rng(1)
    for _ in range(300):
        altered = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            altered[place] = rng.integers(256)
        index.write_bytes(altered)
        found: Tensors = {}
        with suppress(WeightsError):
            found = read_bundle(index)
        assert all(values.nbytes <= size for values in found.values())


def one(value: bytes, *, key: bytes = b"x") -> bytes:
    return table([(key, value)])


def compressed(content: bytes) -> bytes:
    """The same table with its first block said to be compressed."""
    end = len(block([(b"x", entry((2,), 0, 8))]))
    return content[:end] + b"\1" + content[end + 1 :]


GOOD = entry((2,), 0, 8)
HOSTILE = {
    "nothing": (b"", "does not end like one"),
    "another magic number": (one(GOOD)[:-1] + b"\0", "does not end like one"),
    "only a footer": (bytes(40) + MAGIC, "cut off or compressed"),
    "a footer of numbers without end": (b"\xff" * 40 + MAGIC, "too long"),
    "a compressed block": (compressed(one(GOOD)), "cut off or compressed"),
    "a block far away": (one(GOOD)[:-48] + (varint(0) * 2 + varint(2**60) + varint(9)).ljust(40, b"\0") + MAGIC, "cut"),
    "a block that is read twice": (table([(b"x", GOOD)], index=[0, 0]), "overlap"),
    "data behind the end": (one(entry((2,), 4, 8)), "'x' is not inside"),
    "a shape of another size": (one(entry((3,), 0, 8)), "'x' is not inside"),
    "an empty tensor": (one(entry((0, 2**62), 0, 0)), "'x' is not inside"),
    "a second data file": (one(entry((2,), 0, 8, shard=1)), "'x' is not inside"),
    "a hundred axes": (one(entry((2, *[1] * 99), 0, 8)), "damaged"),
    "a message for a number": (one(field(1, b"\1")), "should be"),
    "a number for a message": (one(field(1, 1) + field(2, 7)), "should be"),
    "a field of unknown type": (one(varint(1 << 3 | 3)), "damaged"),
    "a message longer than its entry": (one(varint(2 << 3 | 2) + varint(2**40)), "cut off"),
    "a name that is no text": (one(GOOD, key=b"\xff\xfe"), "damaged"),
    "too much": (bytes(1 << 20) + one(GOOD), "longer"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_indices_are_refused(tmp_path: Path, name: str):
    content, message = HOSTILE[name]
    (tmp_path / ".index").write_bytes(content)
    (tmp_path / DATA).write_bytes(bytes(8))
    with pytest.raises(WeightsError, match=message) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path / ".index") in str(caught.value)


def test_cut_off_data_are_refused_by_the_tensor_that_lacks_them(tmp_path: Path, tensors: Tensors):
    index = write_bundle(tmp_path, tensors)
    data = tmp_path / DATA
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="scalar"):
        read_bundle(index)


@pytest.mark.parametrize("missing", [DATA, ".index"])
def test_missing_files_are_named(tmp_path: Path, tensors: Tensors, missing: str):
    index = write_bundle(tmp_path, tensors)
    (tmp_path / missing).unlink()
    with pytest.raises(WeightsError, match=rf"cannot read .*\{missing}"):
        read_bundle(index)
