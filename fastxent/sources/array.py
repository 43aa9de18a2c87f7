"""An array as a source: views, or blocks brought into a buffer where the class axis is not contiguous."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import as_axis, to_numpy
from fastxent.sources.base import Source


class ArraySource(Source):
    """Rows of an array, the class axis moved to the end; nothing is copied as a whole.

    With ``axis=None`` there is no class axis, and a row is one item: labels.
    """

    format = "array"
    in_memory = True

    def __init__(self, x: Any, axis: int | None = -1, name: str = "array") -> None:
        array = to_numpy(x, name)
        if array.size == 0 and axis is None and not hasattr(x, "dtype"):
            array = array.astype(np.int64)  # an empty list has no dtype of its own
        if axis is not None and array.ndim:
            array = np.moveaxis(array, as_axis(axis, array.ndim), -1)
        self._array = array
        self.name = name
        self.shape = array.shape
        self.dtype = array.dtype
        self.row_shape = () if axis is None else array.shape[-1:]

    @property
    def views(self) -> bool:
        """Whether `read` copies nothing, however many rows it is asked for."""
        return self.rows == 0 or np.may_share_memory(self.read(0, 1), self._array)

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        rows = take_rows(self._array, start, stop, len(self.row_shape))
        if self.row_shape and rows.shape[1] > 1 and rows.strides[1] != rows.itemsize:
            rows = np.ascontiguousarray(rows)
        return rows


def take_rows(array: NDArray[Any], start: int, stop: int, row_axes: int) -> NDArray[Any]:
    """Rows of an array whose last `row_axes` (0 or 1) axes are a row; a view where the strides allow it."""
    batch = array.shape[: array.ndim - row_axes]
    row = array.shape[array.ndim - row_axes :]
    if len(batch) == 1:
        return array[start:stop]
    try:
        return array.reshape(-1, *row, copy=False)[start:stop] if array.size else array.reshape(stop, *row)
    except (ValueError, TypeError):  # no view: gather the block (TypeError: NumPy 2.0 has no such argument)
        return array[np.unravel_index(np.arange(start, stop), batch)]
