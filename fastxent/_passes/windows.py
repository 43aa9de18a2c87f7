"""Rows to be converted and too long for one buffer: a window goes along each, as often as its result wants."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent import _arrays
from fastxent._arrays import Labels, Logits, class_axes_last, convert
from fastxent._dispatch import kernels
from fastxent._threads import taking


def _segments() -> int:
    """Column segments that a window holds."""
    columns: int = kernels.segment_columns
    return max(1, _arrays.CONVERSION_ELEMENTS // columns)


def width() -> int:
    """Columns that a window holds."""
    columns: int = kernels.segment_columns
    return _segments() * columns


def spans(classes: int) -> Iterator[tuple[int, int, dict[str, int]]]:
    """The windows of a row: the columns from which and to which, and the segments that these are."""
    columns: int = kernels.segment_columns
    for start in range(0, classes, width()):
        stop = min(start + width(), classes)
        yield start, stop, {"segment0": start // columns, "segment1": -(-stop // columns)}


def wanted(x: Logits, axis: int) -> bool:
    """Whether the rows go through windows."""
    if x.convert is None:
        return False
    classes = prod(x.array.shape[-x.joined :]) if x.joined > 1 else x.array.shape[axis]
    return classes > width()


def run(
    mode: int,
    x: Logits,
    axis: int,
    labels: Labels | None,
    out: NDArray[Any] | None,
    threads: int | None,
    **results: Any,
) -> Iterator[tuple[int, int, int]]:
    """Work through the rows, each a block; arguments and what is given are those of `rows.run`."""
    rows, joined, contiguous = class_axes_last(x, axis)
    batch, classes = rows.shape[:-joined], prod(rows.shape[-joined:])
    size = width()
    buffer = np.empty(size, x.convert) if contiguous else np.empty((size, 2), x.convert)[:, 0]
    outputs = target = None
    if out is not None and out.ndim == x.array.ndim:
        outputs = out if x.joined > 1 else np.moveaxis(out, axis, -1)
        target = np.empty(size, out.dtype)
    ignore = None if labels is None else labels.ignore
    for place in np.ndindex(batch):
        at = (*place, ...)
        row = kernels.Rows(
            buffer,
            x.kind,
            0,
            None if labels is None else labels.array[at],
            0 if labels is None else labels.code,
            target if target is not None or out is None else out[at],
            classes,
        )
        results["workspace"] = np.empty(row.segments * kernels.partial_size, np.uint8)
        column = -1 if labels is None else row.label(ignore)
        if column >= 0:
            _fill(x, rows[place], column, column + 1, buffer)
            row.take_label()
        # a row that is left out is not read
        first = row.segments if labels is not None and column < 0 else 0
        while not row.done:
            writes = row.writes
            for segment in range(first, max(row.segments, first + 1), _segments()):
                start = min(segment * kernels.segment_columns, classes)
                stop = min(start + size, classes)
                _fill(x, rows[place], start, stop, buffer)
                with taking(threads) as number:
                    _, ignored, invalid = row.run(
                        mode,
                        0,
                        1,
                        number,
                        segment0=segment,
                        segment1=min(segment + _segments(), row.segments),
                        ignore=ignore,
                        **results,
                    )
                if writes and outputs is not None and target is not None:
                    done = 0
                    for part in _parts(outputs[place], start, stop):
                        part[...] = target[done : done + part.size].reshape(part.shape)
                        done += part.size
        yield 1, ignored, invalid
        if results["stats"] is not None:  # it holds all rows
            results |= {name: None if results[name] is None else results[name][1:] for name in ("stats", "status")}


def _fill(x: Logits, row: NDArray[Any], start: int, stop: int, buffer: NDArray[Any]) -> None:
    """Bring the elements from `start` to `stop` of a row into the buffer."""
    done = 0
    for part in _parts(row, start, stop):
        convert(x, part, buffer[done : done + part.size].reshape(part.shape))
        done += part.size


def _parts(row: NDArray[Any], start: int, stop: int) -> Iterator[NDArray[Any]]:
    """The elements from `start` to `stop` of an array, in C order, as views: whole slices and what is left beside them.

    Examples
    --------
    >>> [part.tolist() for part in _parts(np.arange(12).reshape(3, 4), 2, 9)]
    [[2, 3], [[4, 5, 6, 7]], [8]]
    """
    if row.ndim == 1:
        yield row[start:stop]
        return
    inner = prod(row.shape[1:])
    while start < stop:
        first, begin = divmod(start, inner)
        if begin or stop - start < inner:
            end = min(begin + stop - start, inner)
            yield from _parts(row[first], begin, end)
            start += end - begin
        else:
            count = (stop - start) // inner
            yield row[first : first + count]
            start += count * inner
