"""One pass over the rows of an array: blocks of at most 50 ms, and between them Python looks at signals.

The kernels end a block themselves when it has taken SECONDS, but for rows of several segments, whose blocks are small.

Every function comes through here, whether it reads an array or a block of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import Labels, Logits, pieces
from fastxent._dispatch import kernels
from fastxent._exact import ExactSum
from fastxent._passes import windows
from fastxent._threads import taking

# modes of the kernels (_kernels/entry.pxi)
LSE, LOSS, STATS, SOFTMAX, LOG_SOFTMAX, ENTROPY = range(6)

SECONDS = 0.02
# of several segments, or whose results are held together, in cache, to be added up: 2 ms at the speed of reading
BLOCK_ELEMENTS = 1 << 23
BLOCK_ROWS = 1 << 17
# others are so many times as large
LONGER = 1 << 6
# a row out of the ordinary whose class axis is strided is read element by element, each a cache miss
STRIDED_ELEMENTS = 1 << 20
# that a thread takes at a time where losses are only added up
ADDED_ELEMENTS = 1 << 19
ADDED_ROWS = 1 << 15
PIECE_ROWS = 256  # FX_PIXELS, narrow rows that the kernels take together
# below this a second thread costs more than it brings
SERIAL_ELEMENTS = 1 << 16


def blocks(
    rows: int, classes: int, segments: int, elements: int, most: int
) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of `most` rows at most, of segments where a row is more than a block: row0, row1, segment0, segment1."""
    if classes > elements:
        step = max(1, elements // kernels.segment_columns)
        for row in range(rows):
            for segment in range(0, segments, step):
                yield row, row + 1, segment, min(segment + step, segments)
        return
    step = min(most, max(1, elements // max(1, classes)))
    for row in range(0, rows, step):
        yield row, min(row + step, rows), 0, segments


def run(
    mode: int,
    x: Logits,
    axis: int,
    *,
    labels: Labels | None = None,
    out: NDArray[Any] | None = None,
    flat: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
    row_weights: NDArray[np.float64] | None = None,
    stats: NDArray[np.float64] | None = None,
    status: NDArray[np.uint8] | None = None,
    total: ExactSum | None = None,
    unit: float = 1.0,
    threads: int | None = None,
) -> Iterator[tuple[int, int, int]]:
    """Work through the rows; after each block give its number of rows, of ignored and of invalid ones.

    Results go to `out`, laid out as the array, or to `flat` and `row_weights` (and `status`), which hold one block,
    BLOCK_ROWS at most, and are overwritten by the next; or to `stats` (and `status`), which hold all rows. Losses are
    added to `total` as well, and those without `row_weights` need not come to `flat` then.
    """
    if threads is None and x.array.size < SERIAL_ELEMENTS:
        threads = 1
    if x.convert is not None and windows.wanted(x, axis):
        for block in windows.run(
            mode,
            x,
            axis,
            labels,
            out,
            threads,
            flat=flat,
            weights=weights,
            row_weights=row_weights,
            stats=stats,
            status=status,
            unit=unit,
        ):
            if total is not None and flat is not None:
                total.add(flat[: block[0]])
            yield block
        return
    done = 0
    aside = False
    if out is not None and x.convert is not None and out.ndim == x.array.ndim:
        # as the pieces have it; where they join axes, a block's outputs are brought to their places afterwards
        aside = x.joined > 1
        out = out if aside else np.moveaxis(out, axis, -1)
    for piece, class_axis, index in pieces(x, axis):
        target = None if out is None else np.empty(piece.shape, out.dtype) if aside else out[index]
        rows = kernels.Rows(
            piece,
            x.kind,
            class_axis,
            None if labels is None else labels.array[index],
            0 if labels is None else labels.code,
            target,
        )
        classes = piece.shape[class_axis]
        if total is not None and row_weights is None and rows.segments == 1 and rows.count:
            yield from _add_losses(rows, classes, total, labels, weights, threads)
            continue
        workspace = None
        elements, most = BLOCK_ELEMENTS, BLOCK_ROWS
        if rows.segments > 1 and piece.strides[class_axis] != piece.itemsize:
            elements = min(STRIDED_ELEMENTS, elements)
        elif rows.segments == 1 and flat is None and (status is None or stats is not None):
            elements, most = elements * LONGER, most * LONGER
        for row0, row1, segment0, segment1 in blocks(rows.count, classes, rows.segments, elements, most):
            if rows.segments > 1 and segment0 == 0:
                workspace = np.empty((row1 - row0) * rows.segments * kernels.partial_size, np.uint8)
            while row0 < row1:
                elements = (row1 - row0) * (segment1 - segment0) * min(classes, kernels.segment_columns)
                if done and stats is not None:  # done are the rows of the blocks before
                    stats, status, done = stats[done:], None if status is None else status[done:], 0
                with taking(1 if elements < SERIAL_ELEMENTS else threads) as number:
                    n, ignored, invalid = rows.run(
                        mode,
                        row0,
                        row1,
                        number,
                        segment0=segment0,
                        segment1=segment1,
                        workspace=workspace,
                        ignore=None if labels is None else labels.ignore,
                        weights=weights,
                        row_weights=row_weights,
                        flat=flat,
                        stats=stats,
                        status=status,
                        unit=unit,
                        seconds=SECONDS,
                    )
                row0 += n
                if segment1 == rows.segments:
                    done = n
                    if total is not None and flat is not None:
                        total.add(flat[:n])
                    yield n, ignored, invalid
        if out is not None and target is not None and aside:
            out[index] = target.reshape(out[index].shape)


def _add_losses(
    rows: Any,
    classes: int,
    total: ExactSum,
    labels: Labels | None,
    weights: NDArray[np.float64] | None,
    threads: int | None,
) -> Iterator[tuple[int, int, int]]:
    """Add the losses of rows of one segment to `total`."""
    row0, some = 0, max(1, min(ADDED_ROWS, ADDED_ELEMENTS // classes))
    some -= some % PIECE_ROWS if some > PIECE_ROWS else 0
    while row0 < rows.count:
        row1 = min(rows.count, row0 + LONGER * BLOCK_ROWS)
        with taking(1 if (row1 - row0) * classes < SERIAL_ELEMENTS else threads) as number:
            sums = np.zeros((number, kernels.exact_size), np.int64)
            room = np.empty((number, 8 * some), np.uint8)
            n, ignored, invalid = rows.add_losses(
                row0, row1, number, sums, room,
                ignore=None if labels is None else labels.ignore, weights=weights, seconds=SECONDS,
            )  # fmt: skip
        total.add_sums(sums)
        row0 += n
        yield n, ignored, invalid


def block_rows(count: int, classes: int) -> int:
    """Rows of the largest block of an array of `count` rows."""
    return min(count, BLOCK_ROWS, max(1, BLOCK_ELEMENTS // max(1, classes)))
