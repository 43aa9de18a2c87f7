"""Chunks of Dask arrays: how arrays are cut alike, what a task does with its chunk, and the tree that merges.

A task computes with one thread, for the scheduler runs many at once. Nothing in here knows a statistic: an accumulator
has ``update(*arrays, labels, start=, **rows)``, ``merge(other)`` and a pickle that holds it whole.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import isnan, prod
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import to_numpy
from fastxent._threads import one_thread

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
    if isinstance(x, (str, os.PathLike)):
        raise TypeError(f"{name} is a path; beside a Dask array it must be an array")
    array = to_numpy(x, name)
    if array.size == 0 and array.dtype == np.float64 and not hasattr(x, "dtype"):
        array = array.astype(np.int64)  # an empty list
    return da.from_array(array, chunks=-1)


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


def tree_reduce(
    make: Callable[[], Any],
    arrays: Sequence[da.Array],
    rows: dict[str, da.Array | None],
    finish: Callable[[Any], Any],
    split_every: int | None = None,
) -> da.Array:
    """One accumulator for each chunk, merged in Dask's tree; a 0-d array of what `finish` makes of the last.

    Parameters
    ----------
    make
        Gives an empty accumulator.
    arrays
        Logits, class axis last and whole, cut alike.
    rows
        Arrays cut as their rows: "labels", given by place, and what else `update` takes by name. None is left out.
    finish
        From the accumulator to the result.
    split_every
        Accumulators that one task merges.
    """
    first = arrays[0]
    axes = tuple(range(first.ndim))
    some = {name: array for name, array in rows.items() if array is not None}
    # bad dtypes and options are errors here, not in a task
    make().update(
        *(np.empty((0, array.shape[-1]), array.dtype) for array in arrays),
        *([np.empty(0, some["labels"].dtype) if "labels" in some else None]),
        **{name: np.empty(0, array.dtype) for name, array in some.items() if name != "labels"},
    )
    arguments: list[Any] = []
    for array in (*arrays, *some.values()):
        arguments += [array, axes[: array.ndim]]
    accumulators = da.blockwise(
        partial(_accumulate, make, len(arrays), tuple(some), first.shape[:-1]),
        axes,
        *arguments,
        *offsets(first.chunks[:-1]),
        token="fastxent-update",
        dtype=object,
        meta=np.empty((0,) * len(axes), object),
        adjust_chunks=dict.fromkeys(axes, 1),
        align_arrays=False,
    )
    return da.reduction(
        accumulators,
        _as_is,
        partial(_finished, make, finish),
        combine=partial(_merged, make),
        dtype=object,
        meta=np.empty((), object),
        split_every=split_every,
        name="fastxent-merge",
    )


def _accumulate(make: Callable[[], Any], n: int, names: tuple[str, ...], whole: tuple[int, ...], *blocks: Any) -> Any:
    """A task: the accumulator of one chunk, as an object array of one element."""
    arrays, rows = blocks[:n], dict(zip(names, blocks[n:], strict=False))
    offset = tuple(int(start[0]) for start in blocks[n + len(names) :])
    accumulator = make()
    with one_thread():
        for index, start in numbered(arrays[0].shape[:-1], offset, whole):
            some = {name: array[index] for name, array in rows.items()}
            labels = some.pop("labels", None)
            accumulator.update(*(array[index] for array in arrays), labels, start=start, **some)
    cell = np.empty((1,) * arrays[0].ndim, object)
    cell[...] = accumulator
    return cell


def _as_is(cells: Any, axis: Any, keepdims: bool) -> Any:
    return cells


def _merge(make: Callable[[], Any], cells: NDArray[Any]) -> Any:
    # into a new one: Dask may hand a task's result to another task, too
    total = make()
    for accumulator in cells.flat:
        total.merge(accumulator)
    return total


def _merged(make: Callable[[], Any], cells: NDArray[Any], axis: Any, keepdims: bool) -> Any:
    merged = np.empty((1,) * cells.ndim, object)
    merged[...] = _merge(make, cells)
    return merged


def _finished(make: Callable[[], Any], finish: Callable[[Any], Any], cells: Any, axis: Any, keepdims: bool) -> Any:
    result = np.empty((), object)
    result[()] = finish(_merge(make, cells))
    return result


def item(result: da.Array) -> Any:
    """The one element of a 0-d array, as a `Delayed`."""
    return dask.delayed(operator.methodcaller("item"), pure=True)(result)
