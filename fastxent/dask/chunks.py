"""Chunks of Dask arrays: how arrays are cut alike, how a chunk lies, and what its rows' numbers are."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isnan, prod
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import as_axis, to_numpy
from fastxent.sources import Source

# a row that is cut into several chunks is put together up to this size
MOST_ROW_BYTES = 1 << 30


def as_dask(x: Any, name: str) -> da.Array:
    """A Dask array of known chunks; an array in memory becomes one chunk of it.

    Raises
    ------
    TypeError
        For another Dask collection, and for a path.
    ValueError
        For chunks of unknown size.
    """
    if isinstance(x, da.Array):
        if any(isnan(n) for n in x.shape):
            raise ValueError(
                f"{name} has chunks of unknown size, shape {x.shape}: rows cannot be numbered; "
                f"call {name}.compute_chunk_sizes() first, or give the sizes where the array is made"
            )
        return x
    if hasattr(x, "__dask_graph__"):
        raise TypeError(f"{name} is a Dask {type(x).__name__}; it must be a Dask array (to_dask_array, from_delayed)")
    if isinstance(x, (str, os.PathLike, Source)):
        what = "an open file" if isinstance(x, Source) else "a path"
        raise TypeError(f"{name} is {what}; beside a Dask array it must be an array")
    array = to_numpy(x, name)
    if array.size == 0 and array.dtype == np.float64 and not hasattr(x, "dtype"):
        array = array.astype(np.int64)  # an empty list
    return da.from_array(array, chunks=-1)


def class_axis_last(x: Any, name: str, axis: int) -> da.Array:
    """Logits as a Dask array whose class axis is its last.

    Raises
    ------
    TypeError, ValueError
        As `as_dask`, and where there is no class.
    """
    array = as_dask(x, name)
    if array.ndim == 0:
        raise ValueError(f"{name} has no dimension, so no class axis")
    array = da.moveaxis(array, as_axis(axis, array.ndim), -1)
    if array.shape[-1] == 0:
        raise ValueError(f"{name} of shape {array.shape} has no class")
    return array


def whole_rows(x: da.Array, axes: int, name: str) -> da.Array:
    """`x` with each row, its last `axes` axes, in one chunk; rows a chunk so that no chunk grows.

    Raises
    ------
    ValueError
        For rows above MOST_ROW_BYTES that are cut into several chunks.
    """
    batch = x.ndim - axes
    if all(n == 1 for n in x.numblocks[batch:]):
        return x
    if x.size == 0:
        return x.rechunk(-1)
    row_bytes = prod(x.shape[batch:]) * x.dtype.itemsize
    if row_bytes > MOST_ROW_BYTES:
        raise ValueError(
            f"a row of {name} is {row_bytes} bytes, cut into {prod(x.numblocks[batch:])} chunks; a row must lie in one "
            f"chunk, and only rows up to {MOST_ROW_BYTES} bytes are put together: rechunk, if a worker has the memory"
        )
    most = max(row_bytes, prod(map(max, x.chunks)) * x.dtype.itemsize)
    chunks = {d: "auto" if d < batch else -1 for d in range(x.ndim)}
    return x.rechunk(chunks, block_size_limit=most)


def cut_alike(x: Any, name: str, logits: da.Array) -> da.Array:
    """A value for each row, cut as the rows of `logits`, whose class axis is the last.

    Raises
    ------
    ValueError
        For another shape than that of the rows.
    """
    rows = as_dask(x, name)
    if rows.shape != logits.shape[:-1]:
        raise ValueError(
            f"{name} have shape {rows.shape}, but logits of shape {logits.shape} want {logits.shape[:-1]}"
        )
    return rows.rechunk(logits.chunks[:-1])


def offsets(chunks: Sequence[tuple[int, ...]]) -> list[Any]:
    """Arguments for `da.blockwise`: along each axis, where a block begins, an array of one element."""
    arguments: list[Any] = []
    for axis, sizes in enumerate(chunks):
        starts = np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.int64)]).astype(np.int64)
        arguments += [da.from_array(starts, chunks=1), (axis,)]
    return arguments


def laid(rows: NDArray[Any], strided: bool) -> NDArray[Any]:
    """A chunk whose last axis, the classes, is strided or is not, as that of the whole array in C order.

    The kernel for a strided class axis has last bits of its own, and how a chunk lies depends on the chunking: one that
    lies otherwise is copied.
    """
    *batch, classes = rows.shape
    if classes <= 1 or (rows.strides[-1] != rows.itemsize) == strided:
        return rows
    if not strided:
        return np.ascontiguousarray(rows)
    if prod(batch) > 1:
        copy = np.moveaxis(np.empty((classes, *batch), rows.dtype), 0, -1)
    else:
        copy = np.empty((*rows.shape, 2), rows.dtype)[..., 0]
    copy[...] = rows
    return copy


def is_strided(shape: tuple[int, ...], axes: Sequence[int]) -> bool:
    """Whether a C-ordered array's classes, `axes` joined, are strided; axes that do not join are copied together."""
    long = [d for d in sorted(axes) if shape[d] > 1]
    joined = all(prod(shape[a + 1 : b]) == 1 for a, b in pairwise(long))
    return bool(long) and joined and prod(shape[long[-1] + 1 :]) > 1


def numbered(
    shape: tuple[int, ...], offset: tuple[int, ...], whole: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """The parts of a chunk of rows whose numbers in the whole array follow each other: (index, first number).

    One part where all axes but the first are whole.
    """
    axis = len(shape)
    while axis and shape[axis - 1] == whole[axis - 1]:
        axis -= 1
    axis = max(0, axis - 1)
    for lead in np.ndindex(*shape[:axis]):
        place = (*map(operator.add, offset, lead), *offset[axis:])
        yield lead, int(np.ravel_multi_index(place, whole)) if prod(shape) else 0
