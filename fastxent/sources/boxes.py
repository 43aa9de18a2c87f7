"""Arrays that are read in boxes, ranges along every axis: where a row does not lie in one piece.

A band is as many rows as fit into the memory option. It is read as one box and serves the reads that follow, for a
row that lies scattered over the file, or over chunks, costs as much to read as the rows beside it.
"""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import as_axis
from fastxent.sources.array import take_rows
from fastxent.sources.base import FormatError, Options, Source

Box = tuple[slice, ...]


class BoxSource(Source):
    """Rows of an array of `file_shape` that is stored in chunks, or along other axes than the rows'.

    Parameters
    ----------
    name, file_shape, dtype
        Of the array as it lies in the file.
    options
        Say where the class axis is.
    order
        The axes of `file_shape` in the order of the array that the user means; None for as they lie.
    chunks
        Extent of a chunk along each axis of `file_shape`: a box is best a whole number of them.
    band_bytes
        What a band should have, if the memory option and the chunks allow it.
    """

    def __init__(
        self,
        name: str,
        file_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        options: Options,
        *,
        order: tuple[int, ...] | None = None,
        chunks: tuple[int, ...] | None = None,
        band_bytes: int,
    ) -> None:
        axes = list(order if order is not None else range(len(file_shape)))
        if not options.labels and axes:
            try:
                axes.append(axes.pop(as_axis(options.axis, len(axes))))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        self.name = name
        self.dtype = dtype
        self.shape = tuple(file_shape[axis] for axis in axes)
        self.row_shape = () if options.labels else self.shape[-1:]
        self._axes = tuple(axes)
        self._memory = options.memory
        self._chunks = tuple((chunks or (1,) * len(axes))[axis] for axis in axes)
        self._band_bytes = band_bytes
        self._band: tuple[int, int, NDArray[Any]] | None = None  # its first row, the row behind it, its values

    @abstractmethod
    def _read_box(self, box: Box) -> NDArray[Any]:
        """The values of a box, given along the file's axes."""

    def close(self) -> None:
        """Let go of the band."""
        self._band = None

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        result = self.target(stop - start, out)
        if not result.size:
            return result
        row = start
        while row < stop:
            first, last, values = self._band_of(row)
            end = min(stop, last)
            result[row - start : end - start] = take_rows(values, row - first, end - first, len(self.row_shape))
            row = end
        return result

    def _band_of(self, row: int) -> tuple[int, int, NDArray[Any]]:
        """The band that holds a row, read if it is not there yet."""
        if self._band is not None and self._band[0] <= row < self._band[1]:
            return self._band
        self._band = None  # before the next is read, so that there is never more than one
        batch = self.shape[: len(self.shape) - len(self.row_shape)]
        if not batch:
            self.check_memory(self.row_bytes, "a row")
            ranges = [slice(0, n) for n in self.shape]
            first, last = 0, 1
        else:
            level, width = self._plan(batch)
            below = prod(batch[level + 1 :])  # rows of one index along the level's axis
            lead, within = divmod(row, batch[level] * below)
            low = within // below // width * width
            high = min(low + width, batch[level])
            ranges = [slice(int(i), int(i) + 1) for i in np.unravel_index(lead, batch[:level])] if level else []
            ranges += [slice(low, high), *(slice(0, n) for n in self.shape[level + 1 :])]
            first = lead * batch[level] * below + low * below
            last = first + (high - low) * below
        box = [slice(0)] * len(self.shape)
        for axis, along in zip(self._axes, ranges, strict=True):
            box[axis] = along
        self._band = first, last, self._read_box(tuple(box)).transpose(self._axes)
        return self._band

    def _plan(self, batch: tuple[int, ...]) -> tuple[int, int]:
        """Which axis is cut (those before it are read index by index), and into pieces of what length."""
        size = self.row_bytes * prod(batch)
        for level, length in enumerate(batch):
            size //= length  # bytes of one index
            chunk = min(self._chunks[level], length)
            if size * chunk <= self._memory:
                break
            if chunk > 1 or level == len(batch) - 1:
                self.check_memory(size * chunk, f"a band of {chunk} along axis {level}")
        return level, max(1, min(self._band_bytes, self._memory) // (size * chunk)) * chunk

    def check_memory(self, size: int, what: str) -> None:
        """Refuse what exceeds the memory option, with the size."""
        if size > self._memory:
            raise FormatError(
                f"{self.name}: {what} of the shape {self.shape} wants {size:,} bytes of memory, "
                f"the option memory allows {self._memory:,}"
            )
