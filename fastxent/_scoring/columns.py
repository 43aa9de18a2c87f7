"""What stands beside the logits, a value a row: labels, weights, groups, masks, counts of bytes and words."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import is_bfloat16, to_numpy
from fastxent.sources.array import ArraySource

NAMES = ("groups", "sample_weight", "mask", "byte_counts", "word_counts")
_WANTED = {
    "groups": ("iuUS", "integers or strings"),
    "sample_weight": ("fiub", "real numbers"),
    "mask": ("biu", "bool, or integers 0 and 1"),
    "byte_counts": ("iu", "integers"),
    "word_counts": ("iu", "integers"),
}


def check_dtype(name: str, dtype: np.dtype[Any], file: str = "") -> None:
    """TypeError for a dtype that a column cannot have; `file` is where it came from."""
    kinds, words = _WANTED[name]
    if dtype.kind not in kinds or is_bfloat16(dtype):
        raise TypeError(f"{name}{f', {file},' if file else ''} has dtype {dtype}; it must hold {words}")


def as_column(x: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A column as an array of the rows' shape."""
    array = to_numpy(x, name)
    if name == "groups" and array.dtype.kind == "O":
        flat = array.ravel().tolist()
        if all(isinstance(item, str) for item in flat):
            array = np.array(flat, np.str_).reshape(array.shape)
    elif name == "groups" and array.dtype.kind == "S":  # as HDF5 holds text
        try:
            array = np.char.decode(array, "utf8")
        except UnicodeDecodeError as error:
            raise ValueError(f"groups hold bytes that are no UTF-8: {error}") from None
    if array.size == 0 and not hasattr(x, "dtype"):
        array = array.astype(bool if name == "mask" else np.int64)  # an empty list
    check_dtype(name, array.dtype)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but the labels have {shape}")
    return array


class Columns:
    """Columns of one block of rows, read in parts."""

    def __init__(self, columns: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        unknown = set(columns) - set(NAMES)
        if unknown:
            raise TypeError(f"unknown columns {sorted(unknown)}")
        self._sources = {
            name: ArraySource(as_column(x, name, shape), None, name) for name, x in columns.items() if x is not None
        }

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """The dtype of a column; None where it was not given."""
        return self._sources[name].dtype if name in self._sources else None

    def read(self, start: int, stop: int, first_row: int) -> dict[str, NDArray[Any]]:
        """The values of some rows, checked: int64 or strings, float64 weights, bool masks."""
        out: dict[str, NDArray[Any]] = {}
        for name, source in self._sources.items():
            values = source.read(start, stop)
            if name == "sample_weight":
                values = np.ascontiguousarray(values, np.float64)
                _refuse(name, values, ~((values >= 0.0) & (values < inf)), first_row + start, "finite and from 0 on")
            elif name == "mask" and values.dtype.kind != "b":
                _refuse(name, values, (values != 0) & (values != 1), first_row + start, "bool, 0 or 1")
                values = values != 0
            elif name == "groups" and values.dtype.kind != "U":
                _refuse(name, values, values > 2**63 - 1, first_row + start, "below 2^63")
                values = values.astype(np.int64)
            elif name.endswith("_counts"):
                _refuse(name, values, (values < 0) | (values > 1 << 40), first_row + start, "from 0 to 2^40")
                values = values.astype(np.int64)
            out[name] = values
        return out


def _refuse(name: str, values: NDArray[Any], bad: NDArray[np.bool_], first: int, wanted: str) -> None:
    if bad.any():
        where = int(np.argmax(bad))
        raise ValueError(f"{name}[{first + where}] is {values[where]}; it must be {wanted}")


def as_int64(labels: NDArray[Any], ignore_index: int) -> NDArray[np.int64]:
    """A copy of labels as int64: the kernels read what nobody changes meanwhile. What 64 bits hold keeps its value."""
    out = np.array(labels, np.int64)
    if labels.dtype.kind == "u" and labels.dtype.itemsize == 8:
        out[labels > np.uint64(2**63 - 1)] = -2 if ignore_index == -1 else -1  # out of range, and not ignored
    return out
