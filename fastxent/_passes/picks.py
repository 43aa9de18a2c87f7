"""One pass that reads the label's element of each row, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import FLOAT32, Labels
from fastxent._dispatch import kernels
from fastxent._passes.elements import Operand
from fastxent._threads import taking

# 2^20 cache misses are some 50 ms
BLOCK_ROWS = 1 << 19
# below this a second thread costs more than it brings
SERIAL_ROWS = 1 << 13


def pick_losses(
    x: Operand,
    axis: int,
    labels: Labels,
    *,
    sample: Operand | None,
    weights: NDArray[np.float64] | None,
    out: NDArray[Any] | None = None,
    flat: NDArray[Any] | None = None,
    row_weights: NDArray[np.float64] | None = None,
) -> Iterator[tuple[int, int, int]]:
    """Minus the label's element of each row, times its weights; after each block give its rows, ignored, invalid ones.

    Results go to `out`, or to `flat` (and `row_weights`), which hold one block, and are overwritten by the next.
    """
    rows = kernels.Picks(
        x.array,
        x.code,
        axis,
        labels.array,
        labels.code,
        None if sample is None else sample.array,
        0 if sample is None else sample.code,
        out,
        x.result_dtype is FLOAT32,
    )
    most = 1 if rows.count < SERIAL_ROWS else None
    for start in range(0, rows.count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows.count)
        with taking(most) as threads:
            ignored, invalid = rows.run(
                start, stop, threads, ignore=labels.ignore, weights=weights, row_weights=row_weights, flat=flat
            )
        yield stop - start, ignored, invalid
