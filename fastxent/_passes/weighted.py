"""Weighted log-sum-exp: two arrays walked together in blocks, brought into small buffers of float64."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, Logits
from fastxent._dispatch import kernels
from fastxent._threads import taking

BLOCK_ELEMENTS = 1 << 18  # a multiple of a segment
SERIAL_ELEMENTS = 1 << 13


def _flat(x: Logits, start: int, stop: int) -> NDArray[np.float64]:
    # a view where the elements lie in that order, a copy of the block else
    block = (x.array.reshape(-1) if x.array.flags.c_contiguous else x.array.flat)[start:stop]
    if x.kind == BF16:
        # the upper half of a float32
        block = (block.astype(np.uint32) << 16).view(np.float32)
    return block.astype(np.float64, copy=False)


def weighted_rows(
    x: Logits, b: Logits, axes: tuple[int, ...]
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Rows, in C order of the other axes, and their log |sum b e^x| and signs.

    `x` and `b` are of one shape; `axes` are summed over, in C order of their own.
    """
    rest = [d for d in range(x.array.ndim) if d not in axes]
    order = [*rest, *sorted(axes)]
    x, b = (Logits(a.array.transpose(order), a.kind, a.convert) for a in (x, b))
    rows = prod(x.array.shape[: len(rest)])
    classes = prod(x.array.shape[len(rest) :])
    length = min(max(1, classes), kernels.segment_columns)
    segments = max(1, -(-classes // length))
    step = max(1, BLOCK_ELEMENTS // max(1, classes)) if segments == 1 else 1
    for row in range(0, rows, step):
        stop = min(row + step, rows)
        states = np.zeros((stop - row, segments, kernels.weighed_size))
        states[..., 0] = -np.inf
        flat_states = states.reshape(-1, kernels.weighed_size)
        first, last = row * classes, stop * classes
        for start in range(first, last, BLOCK_ELEMENTS):
            end = min(start + BLOCK_ELEMENTS, last)
            place = (start - first) // length
            some = flat_states[place : place + -(-(end - start) // length)]
            with taking(None if end - start >= SERIAL_ELEMENTS else 1) as threads:
                kernels.weigh(_flat(x, start, end), _flat(b, start, end), length, some, threads)
        values, signs = np.empty(stop - row), np.empty(stop - row)
        kernels.weighed(states, values, signs)
        yield slice(row, stop), values, signs
