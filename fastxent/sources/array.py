"""An array as a source: views, or blocks brought into a buffer where the class axis is not contiguous."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import as_axis, to_numpy


class ArraySource:
    """Rows of an array, the class axis moved to the end; nothing is copied as a whole."""

    in_memory = True

    def __init__(self, x: Any, axis: int = -1, name: str = "array") -> None:
        array = to_numpy(x, name)
        if array.ndim:
            array = np.moveaxis(array, as_axis(axis, array.ndim), -1)
        self._array = array
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape, the class axis last."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return self._array.dtype

    def read(self, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` in C order, of shape (rows, classes)."""
        array = self._array
        if array.ndim <= 2:
            rows = array[start:stop]
        else:
            batch = array.shape[:-1]
            lines = np.arange(start, stop)
            try:
                rows = array.reshape(-1, array.shape[-1], copy=False)[start:stop]
            except (ValueError, TypeError):  # no view: gather the block (TypeError: NumPy 2.0 has no copy argument)
                rows = array[np.unravel_index(lines, batch)]
        if rows.ndim == 2 and rows.shape[1] > 1 and rows.strides[1] != rows.itemsize:
            rows = np.ascontiguousarray(rows)
        return rows
