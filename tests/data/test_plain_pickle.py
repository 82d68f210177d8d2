import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from samptag.data.formats.msd import load_plain_pickle
from samptag.errors import DatasetError

# What Python 2's cPickle wrote: a list of strings in protocol 0, and a dict of one float vector in protocol 2.
PYTHON2_LIST = b"(lp1\nS'TRAAAED128E0783FAB'\np2\naS'TRZZZZD128F4236844'\np3\na."
PYTHON2_VECTORS = (
    b"\x80\x02}q\x01U\x05TRXYZq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87"
    b"Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb\x89U\x08" + np.array([1, 0.5], "<f4").tobytes() + b"tbs."
)


def load(tmp_path, data):
    path = tmp_path / "list.cP"
    path.write_bytes(data)
    return load_plain_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        ["TRAAAED128E0783FAB", "ünïcode ☃"],
        {"a": 1, 2: (3.5, None, True), "set": {1, 2}, "frozen": frozenset("ab"), "bytes": b"\x00\xff"},
        OrderedDict(x=1, y=[2]),
    ],
)
def test_containers_text_and_numbers_come_back(tmp_path, value, protocol):
    loaded = load(tmp_path, pickle.dumps(value, protocol=protocol))
    assert loaded == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array([1, 2], dtype=">i4"),
        np.array(["guitar", "sitar"]),
        np.array([], dtype=np.int64),
    ],
)
def test_arrays_come_back(tmp_path, array, protocol):
    data = pickle.dumps({"labels": array, "one": array.dtype.type(1)}, protocol=protocol)
    loaded = load(tmp_path, data)
    np.testing.assert_array_equal(loaded["labels"], array)
    assert loaded["labels"].dtype == pickle.loads(data)["labels"].dtype
    assert loaded["one"] == array.dtype.type(1)


def test_python_2_pickles_come_back(tmp_path):
    assert load(tmp_path, PYTHON2_LIST) == ["TRAAAED128E0783FAB", "TRZZZZD128F4236844"]
    vectors = load(tmp_path, PYTHON2_VECTORS)
    assert list(vectors) == ["TRXYZ"]
    np.testing.assert_array_equal(vectors["TRXYZ"], np.array([1, 0.5], np.float32))


class Poison:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def poisons(witness):
    command = f"touch {witness}"
    yield "os.system", Poison(os.system, command)
    yield "eval", Poison(eval, f"__import__('os').system({command!r})")
    yield "in a list", ["TRAAAED128E0783FAB", Poison(os.system, command)]
    yield "in an array", np.array([Poison(os.system, command)], dtype=object)
    yield "getattr", Poison(getattr, os, "system")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("which", range(4))
def test_a_poisoned_pickle_does_not_run(tmp_path, which, protocol):
    witness = tmp_path / "ran"
    data = pickle.dumps(list(poisons(witness))[which][1], protocol=protocol)
    with pytest.raises(DatasetError, match=r"list\.cP: refused: .*not (data|plain)"):
        load(tmp_path, data)
    assert not witness.exists()
    pickle.loads(data)
    assert witness.exists(), "the pickle was no poison"


RECORDS = np.dtype([("a", "i8")])


@pytest.mark.parametrize(
    "data",
    [
        # Names reached through an attribute path of protocol 4.
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        # numpy.ndarray called with a shape of its own.
        b"cnumpy\nndarray\n((I10\ntR.",
        pickle.dumps(np.array([1, "a"], dtype=object)),
        pickle.dumps(np.zeros(2, dtype=RECORDS)),
        pickle.dumps(np.datetime64("2017-01-01")),
        # A dtype that takes on fields after it was made.
        b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt(dS'a'\n(S'O'\nI0\ntsI8\nI1\nI0\ntb.",
        b"(dp0\nPpersistent\n.",
    ],
    ids=["dotted", "ndarray-called", "objects", "records", "dates", "fields-later", "persistent"],
)
def test_what_is_not_plain_is_refused(tmp_path, data):
    with pytest.raises(DatasetError) as caught:
        load(tmp_path, data)
    assert "list.cP" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"TRAAAED\nTRXYZ\n", PYTHON2_LIST[:-20], PYTHON2_VECTORS[:-9], b"\x80\x7f."])
def test_damaged_pickles_are_one_line(tmp_path, data):
    with pytest.raises(DatasetError, match=r"list\.cP: ") as caught:
        load(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_an_error_and_nothing_else(tmp_path):
    data = pickle.dumps({"labels": np.arange(4.0), "names": ["a", "b"]}, protocol=2)
    for end in range(len(data)):
        with pytest.raises(DatasetError):
            load(tmp_path, data[:end])


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.pkl: cannot be read: No such file"):
        load_plain_pickle(tmp_path / "absent.pkl")
