"""Counting pairs of labels: in parallel into a dense table, or by sorting into the cells that are not 0."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import Labels, bad_label
from fastxent._dispatch import kernels
from fastxent._threads import get_num_threads, taking

Shape = tuple[int, int]

DENSE_CELLS = 1 << 24
SPARSE_CELLS = (1 << 63) - 1  # a cell's number is an int64
# labels a call of the kernel: between two of them Python looks at signals
BLOCK_LABELS = 1 << 21
# the first block is small, for a table of unknown shape grows over it and it is counted twice
FIRST_LABELS = 1 << 14
# below this a second thread costs more than it brings
SERIAL_LABELS = 1 << 16
# what a uint32 counter can count
COUNTER_LABELS = (1 << 32) - 1
# all threads' counters together, 256 MB; a larger table is counted by fewer threads
COUNTERS = 1 << 26
# a smaller table has several copies (_kernels/contingency.pxi), all of them within the first cache; they pay from so
# many labels on
COPIED_CELLS = 1 << 11
COPIED_LABELS = 1 << 14
# rows and columns that a table of unknown shape begins with
FIRST_CLASSES = 32
# counters between the tables of two threads, that they share no cache line
GAP = 32
SORTED_LABELS = 1 << 18


class TooManyCells(ValueError):
    """The table would be larger than one of its kind may be."""


def as_shape(shape: Any) -> Shape:
    """Rows and columns of a table."""
    try:
        rows, columns = map(operator.index, shape)
    except TypeError:
        raise TypeError(f"shape must be two integers or None, got {shape!r}") from None
    except ValueError:
        raise ValueError(f"shape must be two numbers, of rows and of columns, got {shape!r}") from None
    if rows < 0 or columns < 0:
        raise ValueError(f"shape must not be negative, got {shape!r}")
    return rows, columns


def _check_cells(shape: Shape, most: int) -> None:
    if max(prod(shape), *shape) > most:
        kind = "sparse" if most == SPARSE_CELLS else "dense"
        hint = "; sparse=True takes it" if kind == "dense" else "; number the labels first, with numpy.unique"
        raise TooManyCells(f"shape {shape} makes {prod(shape):,} cells; a {kind} table has at most {most:,}{hint}")


class _Counter:
    """A dense table and the threads' counters; it grows."""

    def __init__(self, shape: Shape, labels: int, most: int) -> None:
        _check_cells(shape, most)
        self.labels = labels
        self.most = most
        self.largest = (-1, -1)
        self._reserve(shape)

    def _reserve(self, shape: Shape) -> None:
        self.shape = shape
        self.total: NDArray[np.int64] = np.zeros(shape, np.int64)
        cells = prod(shape)
        threads = 1 if self.labels < SERIAL_LABELS else min(get_num_threads(), max(1, COUNTERS // max(1, cells)))
        copies = kernels.pair_copies if cells <= COPIED_CELLS and self.labels >= COPIED_LABELS else 1
        self.counters = np.zeros((threads, copies, cells + GAP), np.uint32)
        self.room = COUNTER_LABELS

    def flush(self) -> None:
        """Bring the counters into the table."""
        flat = self.total.reshape(-1)
        for one in self.counters.reshape(-1, self.counters.shape[2]):
            flat += one[: flat.size]
        self.counters[...] = 0
        self.room = COUNTER_LABELS

    def grow(self, shape: Shape) -> None:
        """At least that large; by powers of two where they fit, so that it happens seldom."""
        _check_cells(shape, self.most)
        wider = (now if n <= now else 1 << (n - 1).bit_length() for n, now in zip(shape, self.shape, strict=True))
        rows, columns = wider
        self.flush()
        before = self.total[: shape[0], : shape[1]]
        self._reserve((rows, columns) if rows * columns <= self.most else shape)
        self.total[: before.shape[0], : before.shape[1]] = before

    def count(self, pairs: Any, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count those chunks that fit; give the others."""
        labels = chunks.size * kernels.pair_chunk
        if labels > self.room:
            self.flush()
        self.room -= labels
        tops = np.zeros((chunks.size, 2), np.uint64)
        with taking(len(self.counters)) as threads:
            pairs.count(chunks, *(min(n, 1 << 31) for n in self.shape), self.counters[:threads], tops)
        top_x, top_y = tops.max(axis=0).tolist()
        self.largest = max(self.largest[0], top_x), max(self.largest[1], top_y)
        left: NDArray[np.int64] = chunks[(tops >= np.array(self.shape, np.uint64)).any(axis=1)]
        return left


def _blocks(chunks: int, first: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of chunks; of `first` labels, then of BLOCK_LABELS."""
    start, step = 0, max(1, first // kernels.pair_chunk)
    while start < chunks:
        yield np.arange(start, min(start + step, chunks))
        start += step
        step = max(1, BLOCK_LABELS // kernels.pair_chunk)


def count_dense(x: Labels, y: Labels, shape: Shape | None, most: int = DENSE_CELLS) -> NDArray[np.int64]:
    """Count into a table of at most `most` cells; without a shape it grows when a larger label comes."""
    pairs = kernels.LabelPairs(x.array, x.code, y.array, y.code)
    if x.array.size < SERIAL_LABELS:
        return _count_few(pairs, x, y, shape, most)
    counter = _Counter((FIRST_CLASSES, FIRST_CLASSES) if shape is None else shape, x.array.size, most)
    for block in _blocks(pairs.chunks, FIRST_LABELS if shape is None else BLOCK_LABELS):
        while (block := counter.count(pairs, block)).size:
            _check_labels(x, y, counter.largest, shape)
            counter.grow((counter.largest[0] + 1, counter.largest[1] + 1))
    counter.flush()
    if shape is None:
        return np.ascontiguousarray(counter.total[: counter.largest[0] + 1, : counter.largest[1] + 1])
    return counter.total


def _check_labels(x: Labels, y: Labels, largest: tuple[int, int], shape: Shape | None) -> None:
    """Refuse a negative label, which the kernel gives as 2^64 more, and one outside the table that is wanted."""
    for labels, top, name, axis in zip((x, y), largest, "xy", (0, 1), strict=True):
        if (top >= 1 << 63 and labels.array.dtype.kind == "i") or (shape is not None and top >= shape[axis]):
            raise bad_label(labels, None, None if shape is None else shape[axis], name)


def _count_few(pairs: Any, x: Labels, y: Labels, shape: Shape | None, most: int) -> NDArray[np.int64]:
    """So few labels that they are counted in one call; of unknown shape, they are looked through for it first."""
    size = shape
    if size is None:
        size = (0, 0)
        if x.array.size:
            largest = pairs.tops()
            _check_labels(x, y, largest, None)
            size = (largest[0] + 1, largest[1] + 1)
    _check_cells(size, most)
    table = np.zeros(size, np.int64)
    outside = pairs.count_few(table)
    if outside is not None:
        _check_labels(x, y, outside, size if shape is None else shape)
    return table


def count_sparse(
    x: Labels, y: Labels, shape: Shape | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Shape]:
    """Rows, columns and counts of the cells that are not 0, in C order, and the shape."""
    rows, columns = (0, 0) if shape is None else shape
    _check_cells((rows, columns), SPARSE_CELLS)
    cells: NDArray[np.int64] = np.zeros(0, np.int64)
    counts: NDArray[np.int64] = np.zeros(0, np.int64)
    waiting: list[NDArray[np.int64]] = []
    # what NumPy brings into its buffers; a uint64 label beyond int64 becomes negative
    blocks = np.nditer(
        [x.array, y.array],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.int64, np.int64],
        casting="unsafe",
        buffersize=SORTED_LABELS,
    )
    for a, b in blocks if x.array.size else ():
        for some, labels, limit, name in ((a, x, rows, "x"), (b, y, columns, "y")):
            if some.min() < 0 and shape is None and labels.array.dtype.kind == "u":
                _check_cells((int(labels.array.max()) + 1, 1), SPARSE_CELLS)
            if some.min() < 0 or (shape is not None and some.max() >= limit):
                raise bad_label(labels, None, None if shape is None else limit, name)
        if shape is None:
            wider = max(rows, int(a.max()) + 1), max(columns, int(b.max()) + 1)
            _check_cells(wider, SPARSE_CELLS)
            if wider[1] > columns:
                # the order of the cells stays
                cells, counts = _united(cells, counts, waiting)
                cells = cells // max(1, columns) * wider[1] + cells % max(1, columns)
            rows, columns = wider
        waiting.append(a * columns + b)
        if sum(map(len, waiting)) > max(len(cells), SORTED_LABELS):
            cells, counts = _united(cells, counts, waiting)
    cells, counts = _united(cells, counts, waiting)
    return cells // max(1, columns), cells % max(1, columns), counts, (rows, columns)


def _united(
    cells: NDArray[np.int64], counts: NDArray[np.int64], waiting: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted cells and their counts, with those of `waiting`, which is emptied."""
    together = np.concatenate([cells, *waiting])
    weights = np.concatenate([counts, np.ones(len(together) - len(counts), np.int64)])
    waiting.clear()
    if len(together) == len(cells):
        return cells, counts
    order = np.argsort(together, kind="stable")
    together = together[order]
    first = np.flatnonzero(np.concatenate([[True], together[1:] != together[:-1]]))
    return together[first], np.add.reduceat(weights[order], first)
