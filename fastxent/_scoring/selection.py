"""Which rows are scored, and against which labels: sequences, their lengths, the shift to the next token."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import to_numpy
from fastxent.sources.base import Source


class Selection:
    """Rows of sequences: which of them have a label, `shift` places on in the same sequence.

    Parameters
    ----------
    shape
        The rows' shape. The last axis runs along a sequence.
    shift
        From 0 on.
    lengths
        Of rows (N,): the lengths of sequences one behind the other, N together. Of rows (..., T): an array (...), how
        many of the T positions there are; the rest is padding. None: N or T.
    """

    def __init__(self, shape: tuple[int, ...], shift: int = 0, lengths: Any = None) -> None:
        if isinstance(shift, bool) or not hasattr(shift, "__index__"):
            raise TypeError(f"shift must be an integer, got {shift!r}")
        self.shift = operator.index(shift)
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0, got {shift}")
        if not shape and (self.shift or lengths is not None):
            raise ValueError("one row is no sequence: shift and lengths want an axis of rows")
        self._steps = shape[-1] if shape else 1
        self._lengths: NDArray[np.int64] | None = None
        self._ends: NDArray[np.int64] | None = None
        if lengths is None:
            return
        array = to_numpy(lengths, "lengths")
        if array.dtype.kind not in "iu":
            raise TypeError(f"lengths has dtype {array.dtype}; it must hold integers")
        numbers = array.astype(np.int64).ravel()
        if (numbers < 0).any():
            raise ValueError(f"lengths[{int(np.argmax(numbers < 0))}] is {numbers.min()}, below 0")
        if len(shape) == 1:
            if array.ndim != 1 or numbers.sum() != shape[0]:
                words = f"lengths, of shape {array.shape}, add up to {numbers.sum()}"
                raise ValueError(f"{words}, but there are {shape[0]} rows")
            self._ends = np.cumsum(numbers)
            return
        if array.shape != shape[:-1]:
            raise ValueError(f"lengths has shape {array.shape}, but rows of shape {shape} want {shape[:-1]}")
        if numbers.size and numbers.max() > self._steps:
            raise ValueError(f"lengths[{int(numbers.argmax())}] is {numbers.max()}, above {self._steps}")
        self._lengths = numbers

    @property
    def all(self) -> bool:
        """Whether every row is scored."""
        return self.shift == 0 and self._lengths is None

    def keep(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the rows from `start` to `stop`, in C order, have a label."""
        rows = np.arange(start, stop)
        if self._ends is not None:
            return rows + self.shift < self._ends[np.searchsorted(self._ends, rows, side="right")]
        sequence, place = np.divmod(rows, max(1, self._steps))
        end = self._steps if self._lengths is None else self._lengths[sequence]
        return place + self.shift < end


class Shifted(Source):
    """Labels `shift` rows on; behind the last one zeros, which no row is scored against."""

    def __init__(self, source: Source, shift: int) -> None:
        self._source, self._shift = source, shift
        self.name, self.format, self.shape = source.name, source.format, source.shape
        self.dtype, self.row_shape, self.in_memory = source.dtype, source.row_shape, source.in_memory

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        first, last = min(start + self._shift, self.rows), min(stop + self._shift, self.rows)
        some = self._source.read(first, last, out)
        if len(some) == stop - start:
            return some
        return np.concatenate([some, np.zeros(stop - start - len(some), some.dtype)])

    def close(self) -> None:
        """Let go of the source's file."""
        self._source.close()
