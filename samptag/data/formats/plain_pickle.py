"""Pickles from strangers: only containers, strings, numbers and numpy arrays come out, and nothing runs.

A pickle is a program. This one may call nothing but the few constructors below, each of which only makes data. numpy's
own are not among them: their `__setstate__` believes whatever a pickle says about a dtype's fields and flags.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samptag.errors import DatasetError
from samptag.files import os_errors_as

__all__ = ["load_plain_pickle"]

_PLAIN_KINDS = "biufSU"


class _Dtype:
    """What a pickle says of a dtype, checked; `dtype` is the real one."""

    def __init__(self, name: Any, align: Any = False, copy: Any = False) -> None:
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in _PLAIN_KINDS or dtype.names or dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of {name!r} is not plain numbers or text")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order, structure = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in structure):
            raise pickle.UnpicklingError("an array of records is not plain numbers or text")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        super().__setstate__((version, shape, _real(dtype), fortran, _raw_bytes(raw)))


def _real(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    return dtype.dtype


def _raw_bytes(data: Any) -> bytes:
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def _make_array(kind: Any, shape: Any, typecode: Any) -> _Array:
    array: _Array = _Array((0,), dtype="b")  # as numpy does: the real shape and bytes arrive with the state
    return array


def _make_array_at_once(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.frombuffer(_raw_bytes(data), dtype=_real(dtype)).reshape(shape, order=order)
    return array


def _make_scalar(dtype: Any, value: Any) -> Any:
    return np.frombuffer(_raw_bytes(value), dtype=_real(dtype), count=1)[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    return str(text).encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",  # only ever named as an argument
    ("_codecs", "encode"): _encode_latin1,
    ("__builtin__", "bytes"): _empty_bytes,  # so protocols 0 to 2 write b""; anything else fails for its arguments
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "frozenset"): frozenset,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): dict,
}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _make_array
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _make_scalar
    _ALLOWED[f"{_package}.numeric", "_frombuffer"] = _make_array_at_once


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to things outside itself")


def load_plain_pickle(path: Path) -> Any:
    """The lists, dicts, strings, numbers and arrays in a pickle of any protocol, Python 2's included.

    Python 2's byte strings come back as text, one character a byte (latin-1).

    Raises
    ------
    DatasetError
        The file cannot be read, is no pickle, or names anything that is not plain data; nothing of it was run.
    """
    with os_errors_as(DatasetError, f"{path}: cannot be read"):
        data = path.read_bytes()
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{path}: refused: {error}") from None
    # A damaged pickle raises whatever the opcode it breaks in raises.
    except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, OverflowError) as error:
        raise DatasetError(f"{path}: not a whole pickle: {type(error).__name__}: {error}") from None
