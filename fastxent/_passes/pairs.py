"""One pass over the rows of two arrays: blocks of at most 50 ms, and between them Python looks at signals."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, CONVERSION_ELEMENTS, F64, Index, Logits
from fastxent._dispatch import kernels
from fastxent._passes import windows
from fastxent._passes.rows import SERIAL_ELEMENTS
from fastxent._threads import default_floats, taking

# statistics of a pair of rows (_kernels/pairs.pxi): a bit each, in the order of the columns of `values`
KL, REVERSE, JS, TV = (1 << i for i in range(4))

# of either array: 10 ms where a second reading comes out of the cache, 40 ms where columns are brought together
BLOCK_ELEMENTS = 1 << 22
BLOCK_ROWS = 1 << 16
CACHED_ELEMENTS = 1 << 19


def block_rows(count: int, classes: int) -> int:
    """Rows of the largest block of arrays of `count` rows."""
    return min(count, BLOCK_ROWS, max(1, BLOCK_ELEMENTS // max(1, classes)))


def run(
    what: int,
    sides: tuple[Logits, ...],
    axis: int,
    *,
    shares: bool = False,
    out: NDArray[Any] | None = None,
    values: NDArray[np.float64] | None = None,
    unit: float = 1.0,
    temperature: float = 1.0,
    threads: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Measure the rows of two arrays of one shape; after each block give its number of rows, and of bad ones
    (`shares`) or of those that KL alone did read twice.

    Parameters
    ----------
    what
        Sum of KL, REVERSE, JS and TV; one of them for `out`. KL for the entropy of the rows of one array.
    shares
        The arrays hold probabilities, up to scale; a row with a negative or infinite one is a bad row.
    out
        Takes the results, laid out as the arrays are without their class axis.
    values
        (rows, 4), takes the results of one block, of `block_rows` at most, in a column each; overwritten by the next.
    unit
        Nats that a unit of the results is.
    temperature
        Divides the logits.
    """
    single = all(x.kind != F64 for x in sides)
    if sides[0].array.shape[axis] > windows.width() and any(_changes(sides, axis, temperature)):
        options = {"values": values, "unit": unit}
        yield from _in_windows(what, sides, axis, shares, single, out, temperature, threads, options)
        return
    for arrays, kinds, class_axis, index in pieces(sides, axis, temperature):
        target = None if out is None else out[index]
        q = arrays[1] if len(arrays) > 1 else None
        rows = kernels.Pairs(arrays[0], kinds[0], q, kinds[-1], class_axis, single, target, shares)
        classes = arrays[0].shape[class_axis]
        step = block_rows(rows.count, classes)
        if rows.segments > 1:
            # what is read twice should be in cache
            step = min(step, max(1, CACHED_ELEMENTS // classes))
        for row0 in range(0, rows.count, max(1, step)):
            row1 = min(row0 + step, rows.count)
            workspace = None
            if rows.segments > 1:
                workspace = np.empty((row1 - row0) * rows.segments * kernels.pair_size, np.uint8)
            count = 0
            for stage in _stages(classes, rows.segments, kernels.reads_once(what, kinds, shares)):
                elements = (row1 - row0) * min(classes, BLOCK_ELEMENTS)
                with taking(1 if elements < SERIAL_ELEMENTS else threads) as number:
                    found = rows.run(
                        what, row0, row1, number, workspace=workspace, values=values, unit=unit, **stage
                    )
                first = stage.get("first") and stage["segment1"] == rows.segments
                if first and not found:
                    break
                count += 0 if first and shares else found
            yield row1 - row0, count


def _in_windows(
    what: int,
    sides: tuple[Logits, ...],
    axis: int,
    shares: bool,
    single: bool,
    out: NDArray[Any] | None,
    temperature: float,
    threads: int | None,
    options: dict[str, Any],
) -> Iterator[tuple[int, int]]:
    """Rows of which one must be converted and is too long for one buffer: each is a block, and comes piece by piece."""
    double = _double(sides, temperature)
    changes = _changes(sides, axis, temperature)
    kinds = [F64 if double else x.kind for x in sides]
    rows = [np.moveaxis(x.array, axis, -1) for x in sides]
    classes = rows[0].shape[-1]
    workspace = np.empty(-(-classes // kernels.segment_columns) * kernels.pair_size, np.uint8)
    steps = ("first", "sums", "again", "pairs")
    for place in np.ndindex(rows[0].shape[:-1]):
        index = (*place, ...)
        target = None if out is None else out[index]
        count, again = 0, False
        for doing in steps if kernels.reads_once(what, kinds, shares) else steps[1:]:
            if doing == "again" and not again:
                continue
            for start, stop, segments in windows.spans(classes):
                some = [
                    _converted(r[place][start:stop], x, double, temperature) if change else r[place][start:stop]
                    for r, x, change in zip(rows, sides, changes, strict=True)
                ]
                q = some[1] if len(some) > 1 else None
                window = kernels.Pairs(some[0], kinds[0], q, kinds[-1], 0, single, target, shares, classes, start)
                stage = {step: step == doing for step in steps}
                with taking(threads) as number:
                    found = window.run(what, 0, 1, number, workspace=workspace, **stage, **segments, **options)
                count += 0 if doing == "first" and shares else found
            if doing == "first" and not found:
                break
            again = doing == "sums" and window.again(workspace)
        yield 1, count


def _stages(classes: int, segments: int, once: bool) -> Iterator[dict[str, int | bool]]:
    """One call for some rows, or where a row is more than a block: piece by piece, one step after the other."""
    if classes <= BLOCK_ELEMENTS:
        yield {}
        return
    step = max(1, BLOCK_ELEMENTS // kernels.segment_columns)
    for doing in ("first", "sums", "pairs") if once else ("sums", "pairs"):
        for s in range(0, segments, step):
            steps = {name: name == doing for name in ("first", "sums", "pairs")}
            yield {"segment0": s, "segment1": min(s + step, segments), **steps}


def pieces(
    sides: tuple[Logits, ...], axis: int, temperature: float = 1.0
) -> Iterator[tuple[tuple[NDArray[Any], ...], tuple[int, ...], int, Index]]:
    """Arrays of one shape as the kernels can read them together, in pieces.

    Each with their storage kinds, their class axis and their index along the batch axes. One piece, the arrays
    themselves, where all can be read as they lie: native, of one working precision, and with a contiguous class axis or
    one that is too long to be brought together. Otherwise what cannot is brought into a small buffer, block by block,
    and the class axis of a piece is its last.
    """
    double = _double(sides, temperature)
    shape = sides[0].array.shape
    classes = shape[axis]
    changes = _changes(sides, axis, temperature)
    kinds = tuple(F64 if double else x.kind for x in sides)
    if not any(changes):
        yield tuple(x.array for x in sides), kinds, axis, (...,)
        return
    rows = [np.moveaxis(x.array, axis, -1) for x in sides]
    for index in _indices(shape[:axis] + shape[axis + 1 :], classes):
        some = tuple(
            _converted(r[index], x, double, temperature) if change else r[index]
            for r, x, change in zip(rows, sides, changes, strict=True)
        )
        yield some, kinds, some[0].ndim - 1, index


def _double(sides: tuple[Logits, ...], temperature: float) -> bool:
    """Whether all is done in float64."""
    return temperature != 1.0 or any(x.kind == F64 for x in sides)


def _changes(sides: tuple[Logits, ...], axis: int, temperature: float) -> list[bool]:
    """Whether an array must be brought into a buffer, for each."""
    double = _double(sides, temperature)
    return [temperature != 1.0 or _change(x, axis, double) for x in sides]


def _change(x: Logits, axis: int, double: bool) -> bool:
    classes = x.array.shape[axis]
    strided = 1 < classes <= CONVERSION_ELEMENTS and x.array.strides[axis] != x.array.itemsize
    return strided or x.convert is not None or (double and x.kind != F64)


def _indices(batch: tuple[int, ...], classes: int) -> Iterator[Index]:
    """Blocks of a batch: as many trailing axes as fit into a block, and a slice of the one before them."""
    split = len(batch)
    whole = max(1, classes)
    while split and whole * batch[split - 1] <= CONVERSION_ELEMENTS:
        split -= 1
        whole *= batch[split]
    if split == 0:
        yield (...,)
        return
    step = max(1, CONVERSION_ELEMENTS // whole)
    for lead in np.ndindex(*batch[: split - 1]):
        for start in range(0, batch[split - 1], step):
            yield (*lead, slice(start, start + step))


def _converted(rows: NDArray[Any], x: Logits, double: bool, temperature: float) -> NDArray[Any]:
    """A contiguous copy in native byte order, float64 for `double`."""
    dtype = np.dtype(np.float64) if double else x.convert or rows.dtype
    buffer = np.empty(rows.shape, dtype)
    with default_floats(), np.errstate(all="ignore"):
        if double and x.kind == BF16:
            # the upper half of a float32
            buffer[...] = (rows.astype(np.uint32) << 16).view(np.float32)
        else:
            buffer[...] = rows
        if temperature != 1.0 and prod(rows.shape):
            np.divide(buffer, temperature, out=buffer)
    return buffer
