"""The tree that merges: an accumulator for each chunk, merged in Dask's own reduction.

A task computes with one thread, for the scheduler runs many at once. Nothing in here knows a statistic: an accumulator
has ``update(*arrays, labels, start=, **rows)``, ``merge(other)`` and a pickle that holds it whole.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from fastxent._threads import one_thread
from fastxent.dask.chunks import numbered, offsets

Keep = Callable[[int, int], NDArray[np.bool_]]


def tree_reduce(
    make: Callable[[], Any],
    arrays: Sequence[da.Array],
    rows: dict[str, da.Array | None],
    finish: Callable[[Any], Any],
    split_every: int | None = None,
    keep: Keep | None = None,
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
    keep
        Tells of rows, by the numbers of the first and of the one behind the last, which are scored: a "mask" beside
        that of `rows`.
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
        partial(_accumulate, make, len(arrays), tuple(some), first.shape[:-1], keep),
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


def _accumulate(
    make: Callable[[], Any],
    n: int,
    names: tuple[str, ...],
    whole: tuple[int, ...],
    keep: Keep | None,
    *blocks: Any,
) -> Any:
    """A task: the accumulator of one chunk, as an object array of one element."""
    arrays, rows = blocks[:n], dict(zip(names, blocks[n:], strict=False))
    offset = tuple(int(start[0]) for start in blocks[n + len(names) :])
    accumulator = make()
    with one_thread():
        for index, start in numbered(arrays[0].shape[:-1], offset, whole):
            some = {name: array[index] for name, array in rows.items()}
            labels = some.pop("labels", None)
            if keep is not None:
                shape = arrays[0].shape[len(index) : -1]
                kept = keep(start, start + prod(shape)).reshape(shape)
                some["mask"] = np.where(kept, some["mask"], False) if "mask" in some else kept
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
