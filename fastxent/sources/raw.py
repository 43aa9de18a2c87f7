"""Numbers that lie in a file one after the other: read by plain reads, straight into the caller's buffer.

Reads and not a memory map: a map's pages count as resident memory, and a file truncated under a map kills the process,
where a short read is an error that can be worded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import FormatError, Options, look_up
from fastxent.sources.boxes import Box, BoxSource

# short runs are read together with what lies between them: one read of 64 KB costs about what one of 64 bytes does
_SHORT_RUN = 1 << 16
_LONG_RUN = 1 << 24


class RawSource(BoxSource):
    """Rows of an array that lies in `path` from byte `offset` on; `fortran` says in column-major order."""

    def __init__(
        self,
        path: Path,
        name: str,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        options: Options,
        *,
        size: int,
        fortran: bool = False,
    ) -> None:
        self.path = path
        self._offset = offset
        wanted = offset + prod(shape) * dtype.itemsize
        if size < wanted:
            raise FormatError(
                f"{name}: truncated: shape {shape} of {dtype} wants {wanted} bytes, the file ends at byte {size}"
            )
        # column-major is row-major with the axes the other way round
        order = tuple(range(len(shape)))[::-1] if fortran else None
        self._file_shape = shape[::-1] if fortran else shape
        super().__init__(name, self._file_shape, dtype, options, order=order, band_bytes=1 << 26)
        # axes of length 1 lie anywhere
        long = [axis for axis in self._axes if self._file_shape[axis] > 1]
        self._in_order = long == sorted(long)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """The file, whose byte 0 is the one that `offset` counts from."""
        with open(self.path, "rb", buffering=0) as file:
            yield file

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        if not self._in_order:
            return super()._read(start, stop, out)
        result = self.target(stop - start, out)
        with self._open() as file:
            self._fill(file, self._offset + start * self.row_bytes, result)
        return result

    def _read_box(self, box: Box) -> NDArray[Any]:
        shape = [part.stop - part.start for part in box]
        result = np.empty(shape, self.dtype)
        item = self.dtype.itemsize
        # a run: what lies in one piece; `inner` counts the items of one index along `axis`
        axis, inner = len(shape) - 1, 1
        while axis and shape[axis] == self._file_shape[axis]:
            inner *= shape[axis]
            axis -= 1
        while (
            axis
            and shape[axis] * inner * item < _SHORT_RUN
            and shape[axis - 1] * self._file_shape[axis] * inner * item <= _LONG_RUN
        ):
            inner *= self._file_shape[axis]
            axis -= 1
        run = np.empty((shape[axis], *self._file_shape[axis + 1 :]), self.dtype)
        wanted = (slice(None), *box[axis + 1 :])
        strides = [prod(self._file_shape[i + 1 :]) for i in range(axis)]
        with self._open() as file:
            for index in np.ndindex(*shape[:axis]):
                place = sum((part.start + i) * n for part, i, n in zip(box, index, strides, strict=False))
                look_up()
                self._fill(file, self._offset + (place + box[axis].start * inner) * item, run)
                result[index] = run[wanted]
        return result

    def _fill(self, file: BinaryIO, place: int, target: NDArray[Any]) -> None:
        """Read into all of `target` from byte `place` on."""
        if not target.size:
            return
        into = memoryview(target.reshape(-1).view(np.uint8).data)
        file.seek(place)
        done = 0
        while done < len(into):
            look_up()
            count = file.readinto(into[done:])  # type: ignore[attr-defined]
            if not count:
                raise FormatError(f"{self.name}: truncated while it was read, at byte {place + done}")
            done += count
