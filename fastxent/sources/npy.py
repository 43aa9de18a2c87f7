"""NumPy's ``.npy`` files: the header through NumPy, the rows by plain reads into the caller's buffer.

Reads and not a memory map: a map's pages count as resident memory, and a file truncated under a map kills the process,
where a short read is an error that can be worded.

Source of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import os
import warnings
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import FormatError


class NpySource:
    """Rows of a ``.npy`` file of any size; with ``labels`` every item is a row."""

    in_memory = False

    def __init__(self, path: str | os.PathLike[str], labels: bool = False) -> None:
        self.path = Path(path)
        self.name = str(path)
        with open(self.path, "rb") as file:
            shape, fortran, dtype = _header(file, self.name)
            self._offset = file.tell()
            size = os.fstat(file.fileno()).st_size
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype
        wanted = self._offset + prod(shape) * dtype.itemsize
        if size < wanted:
            raise FormatError(
                f"{self.name}: truncated: shape {shape} of {dtype} wants {wanted} bytes, the file ends at byte {size}"
            )
        self.row_shape: tuple[int, ...] = () if labels else shape[-1:]
        self._row_bytes = dtype.itemsize * prod(self.row_shape)
        # column-major: a row lies scattered over the whole file
        self._column_major = fortran and sum(n > 1 for n in shape) > 1
        if self._column_major and len(shape) - len(self.row_shape) != 1:
            raise FormatError(f"{self.name}: column-major with {len(shape)} axes; save it with np.ascontiguousarray")

    def read(self, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` in C order; a FormatError where the file has become shorter meanwhile."""
        rows = prod(self.shape[: len(self.shape) - len(self.row_shape)])
        if not 0 <= start <= stop <= rows:
            raise IndexError(f"{self.name}: rows {start} to {stop} of {rows}")
        if self._column_major:
            return self._read_columns(start, stop)
        size = (stop - start) * self._row_bytes
        raw = np.empty(size, np.uint8) if out is None else out[:size]
        with open(self.path, "rb", buffering=0) as file:
            self._fill(file, self._offset + start * self._row_bytes, memoryview(raw.data))
        return raw.view(self.dtype).reshape(stop - start, *self.row_shape)

    def _read_columns(self, start: int, stop: int) -> NDArray[Any]:
        """The same of a column-major file: a short read for each column, then a transposing copy."""
        n, columns = self.shape
        size = self.dtype.itemsize
        raw = np.empty((columns, (stop - start) * size), np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            for column in range(columns):
                self._fill(file, self._offset + (column * n + start) * size, memoryview(raw[column].data))
        rows = np.ascontiguousarray(raw.view(self.dtype).T)
        return rows

    def _fill(self, file: BinaryIO, place: int, target: memoryview) -> None:
        """Read into all of `target` from byte `place` on."""
        file.seek(place)
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])  # type: ignore[attr-defined]
            if not count:
                raise FormatError(f"{self.name}: truncated while it was read, at byte {place + done}")
            done += count


def _header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; whatever is wrong with a header is a FormatError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are fine
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise FormatError(f"{name}: .npy version {version} is not known; known: 1.0, 2.0")
    except FormatError:
        raise
    except Exception as error:  # NumPy's parser lets through what Python's own raises
        words = str(error).partition("max_header_size")[0].partition("\n")[0]
        raise FormatError(f"{name}: no .npy header at byte 0: {words or type(error).__name__}") from None
    if dtype.hasobject:
        raise FormatError(f"{name}: an object array, and loading one runs code; save numbers")
    if dtype.subdtype or dtype.names or dtype.itemsize == 0:
        raise FormatError(f"{name}: items of dtype {dtype} are no numbers")
    if any(n < 0 for n in shape) or prod(max(1, n) for n in shape) * dtype.itemsize >= 1 << 63:
        raise FormatError(f"{name}: the header has the shape {shape}")
    return shape, fortran, dtype
