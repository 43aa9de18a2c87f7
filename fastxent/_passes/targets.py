"""Targets beyond a label a row: what is checked of them, and the pass of the kernels that scores rows against them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import (
    BF16,
    F64,
    Index,
    Labels,
    Logits,
    as_labels,
    as_logits,
    batch_indices,
    converted,
    is_bfloat16,
    to_numpy,
)
from fastxent._dispatch import kernels
from fastxent._passes import windows
from fastxent._passes.rows import BLOCK_ELEMENTS, BLOCK_ROWS, SERIAL_ELEMENTS, blocks
from fastxent._threads import taking

SOFT = 256  # _kernels/targets.pxi
# both arrays are read, and exponentials written: a quarter of what a plain pass takes in the same time
ELEMENTS = BLOCK_ELEMENTS // 4
SAMPLED_ROWS = 8


class NormalizedInputWarning(UserWarning):
    """The logits look like probabilities: softmax would be taken a second time. `from_logits=False` says that they are.

    Examples
    --------
    >>> import warnings, fastxent as fx
    >>> with warnings.catch_warnings(category=fx.NormalizedInputWarning, action="ignore"):
    ...     loss = fx.cross_entropy([[0.9, 0.1]], [0])
    """


def as_target(target: Any, x: Logits, axis: int, shape: tuple[int, ...], ignore_index: int) -> Labels | Logits:
    """Labels of `shape`, that of the logits without their class axis, or class probabilities of the logits' shape.

    Raises
    ------
    TypeError
        For any other dtype.
    ValueError
        For any other shape, and for an `ignore_index` from 0 on beside probabilities, as in PyTorch.
    """
    array = to_numpy(target, "target")
    if array.ndim != x.array.ndim or not (array.dtype.kind == "f" or is_bfloat16(array.dtype)):
        if array.dtype.kind == "f" and array.ndim == x.array.ndim + 1 and x.array.dtype.kind in "iu":
            raise TypeError(
                f"target has dtype {array.dtype} and shape {array.shape}, logits {x.array.dtype} and {x.array.shape}; "
                "have they been swapped? logits come first"
            )
        return as_labels(target, shape, ignore_index, logits=x.array.shape, axis=axis)
    if array.shape != x.array.shape:
        raise ValueError(f"target has shape {array.shape}; class probabilities have the logits' shape, {x.array.shape}")
    if operator.index(ignore_index) >= 0:
        raise ValueError(f"ignore_index is {ignore_index}, but no class can be ignored in a target of probabilities")
    return as_logits(array, "target")


def as_sample_weight(sample_weight: Any, shape: tuple[int, ...]) -> Logits | None:
    """A weight a row, from anything that broadcasts to `shape`."""
    if sample_weight is None:
        return None
    weights = as_logits(sample_weight, "sample_weight")
    try:
        return Logits(np.broadcast_to(weights.array, shape), weights.kind, weights.convert)
    except ValueError:
        raise ValueError(
            f"sample_weight has shape {weights.array.shape}; it must broadcast to {shape}, a number for each row"
        ) from None


def as_number(value: Any, name: str, low: float, high: float, bounds: str) -> float:
    """A finite real number from `low` to `high`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not (isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return number


def looks_normalised(x: Logits, axis: int) -> bool:
    """Whether the rows of a small sample all are distributions: in [0, 1], with the sum 1, and not all of them one-hot.

    (Zeros and a 1 are what people write down for logits too.)
    """
    array = x.array
    classes, size = array.shape[axis], array.size
    if classes < 2 or size == 0 or (array.dtype.kind != "f" and x.kind != BF16):
        return False
    # four elements tell nearly every array of logits: this is all that a small call pays for
    one = 0x3F80 if array.dtype.kind != "f" else 1.0
    item = array.item
    if not (0 <= item(0) <= one and 0 <= item(size // 3) <= one and 0 <= item(2 * size // 3) <= one):
        return False
    rows = np.moveaxis(array, axis, -1)
    count = size // classes
    tolerance = max(1e-5, {2: 4 * 2.0 ** (-7 if x.kind == BF16 else -10)}.get(array.itemsize, 0.0))
    between = False
    for row in {i * (count - 1) // max(1, min(SAMPLED_ROWS, count) - 1) for i in range(min(SAMPLED_ROWS, count))}:
        some = rows[np.unravel_index(row, rows.shape[:-1])]
        if x.kind == BF16:
            some = (some.astype(np.uint32) << 16).view(np.float32)
        if not (some.min() >= 0 and abs(float(some.sum(dtype=np.float64)) - 1.0) <= tolerance):
            return False
        between = between or some.max() < 1
    return between


def bad_probability(x: Logits, name: str = "logits") -> ValueError:
    """The error for the first negative or infinite probability, in C order; found again here, off the fast path."""
    flat = x.array.flat
    for start in range(0, x.array.size, 1 << 20):
        some = flat[start : start + (1 << 20)]
        if x.kind == BF16:
            some = (some.astype(np.uint32) << 16).view(np.float32)
        bad = (some < 0) | np.isinf(some)
        if bad.any():
            where = int(np.argmax(bad))
            place = ", ".join(map(str, map(int, np.unravel_index(start + where, x.array.shape))))
            return ValueError(
                f"{name}[{place}] is {float(some[where])}; with from_logits=False all must be probabilities, "
                "0 or above and finite"
            )
    return ValueError(f"{name} held a negative or infinite probability and was changed meanwhile")


Block = tuple[NDArray[Any], int, NDArray[Any], NDArray[Any] | None, Index, bool]


def _blocks(x: Logits, axis: int, target: Labels | Logits, sample: Logits | None) -> Iterator[Block]:
    """Logits, their class axis, target and sample weights as the kernels can read them, with their index."""
    soft = isinstance(target, Logits)
    others = [a for a in (target, sample) if isinstance(a, Logits)]
    if all(a.convert is None for a in (x, *others)):
        yield x.array, axis, target.array, None if sample is None else sample.array, (...,), False
        return
    rows = np.moveaxis(x.array, axis, -1)
    targets = np.moveaxis(target.array, axis, -1) if soft else target.array
    contiguous = _contiguous(x, rows)
    for index in batch_indices(rows.shape[:-1], rows.shape[-1]):
        block, goal = rows[index], targets[index]
        if x.convert is not None:
            block = converted(x, block, contiguous)
        if isinstance(target, Logits) and target.convert is not None:
            goal = converted(target, goal)
        yield block, block.ndim - 1, goal, _weights(sample, index), index, True


def _contiguous(x: Logits, rows: NDArray[Any]) -> bool:
    """Whether a buffer's class axis is to be contiguous, as `pieces` has it: if it is strided chooses the kernel."""
    integers = x.kind == F64 and x.array.dtype.kind in "uib"
    return integers or rows.shape[-1] <= 1 or rows.strides[-1] == rows.itemsize


def _weights(sample: Logits | None, index: Index) -> NDArray[Any] | None:
    """Some of the sample weights, as the kernels can read them."""
    if sample is None:
        return None
    weights = sample.array[index]
    return weights if sample.convert is None else converted(sample, weights[..., np.newaxis])[..., 0]


def _in_windows(
    x: Logits,
    axis: int,
    target: Labels | Logits,
    code: int,
    sample: Logits | None,
    out: NDArray[Any] | None,
    gradient: NDArray[Any] | None,
    options: dict[str, Any],
) -> Iterator[tuple[int, int, int]]:
    """Rows that must be converted and are too long for one buffer: each is a block, and comes piece by piece."""
    rows = np.moveaxis(x.array, axis, -1)
    soft = isinstance(target, Logits)
    targets = np.moveaxis(target.array, axis, -1) if soft else target.array
    gradients = None if gradient is None else np.moveaxis(gradient, axis, -1)
    contiguous, classes = _contiguous(x, rows), rows.shape[-1]
    kind = 0 if sample is None else sample.kind
    workspace = np.empty(-(-classes // kernels.segment_columns) * kernels.target_part_size, np.uint8)
    spans = list(windows.spans(classes))
    for place in np.ndindex(rows.shape[:-1]):
        index = (*place, ...)
        weights, loss = _weights(sample, index), None if out is None else out[index]
        for writing in (False, True) if gradients is not None else (False,):
            for start, stop, segments in spans[:1] if options["count_only"] else spans:
                block = rows[place][start:stop]
                if x.convert is not None:
                    block = converted(x, block, contiguous)
                goal = targets[place][start:stop] if soft else targets[index]
                if isinstance(target, Logits) and target.convert is not None:
                    goal = converted(target, goal)
                grad = None if gradients is None else gradients[place][start:stop]
                window = kernels.Targets(block, x.kind, 0, goal, code, weights, kind, loss, grad, classes, start)
                with taking() as threads:
                    found = window.run(0, 1, threads, workspace=workspace, writing=writing, **segments, **options)
                if found[2]:
                    raise bad_probability(x)
                if not writing and (stop == classes or options["count_only"]):
                    ignored, invalid, _ = found
        yield 1, ignored, invalid


def run_targets(
    x: Logits,
    axis: int,
    target: Labels | Logits,
    *,
    sample: Logits | None = None,
    out: NDArray[Any] | None = None,
    flat: NDArray[Any] | None = None,
    gradient: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
    row_weights: NDArray[np.float64] | None = None,
    smoothing: float = 0.0,
    probabilities: bool = False,
    denominator: float = 1.0,
    count_only: bool = False,
) -> Iterator[tuple[int, int, int]]:
    """Work through the rows; after each block give its number of rows, of ignored and of invalid ones.

    As `rows.run`, with probabilities for labels, sample weights and the gradient, of x's shape.

    Raises
    ------
    ValueError
        With `probabilities`, for a negative or infinite entry.
    """
    code = target.code if isinstance(target, Labels) else target.kind + SOFT
    options = {
        "ignore": target.ignore if isinstance(target, Labels) else None,
        "weights": weights,
        "smoothing": smoothing,
        "probabilities": probabilities,
        "denominator": denominator,
        "temperature": x.divisor,
        "flat": flat,
        "row_weights": row_weights,
        "count_only": count_only,
    }
    long = x.array.shape[axis] > windows.width()
    if long and any(a.convert is not None for a in (x, target) if isinstance(a, Logits)):
        yield from _in_windows(x, axis, target, code, sample, out, gradient, options)
        return
    for block, class_axis, goal, sample_block, index, moved in _blocks(x, axis, target, sample):
        grad = None
        if gradient is not None:
            grad = np.moveaxis(gradient, axis, -1)[index] if moved else gradient
        rows = kernels.Targets(
            block,
            x.kind,
            class_axis,
            goal,
            code,
            sample_block,
            0 if sample is None else sample.kind,
            None if out is None else out[index],
            grad,
        )
        classes = block.shape[class_axis]
        segments = 1 if count_only else rows.segments
        workspace = None
        counted = 1 if count_only else classes
        for row0, row1, segment0, segment1 in blocks(rows.count, counted, segments, ELEMENTS, BLOCK_ROWS):
            if segments > 1 and segment0 == 0:
                workspace = np.empty((row1 - row0) * segments * kernels.target_part_size, np.uint8)
            elements = (row1 - row0) * (segment1 - segment0) * min(classes, kernels.segment_columns)
            with taking(1 if elements < SERIAL_ELEMENTS else None) as threads:
                ignored, invalid, bad = rows.run(
                    row0, row1, threads, segment0=segment0, segment1=segment1, workspace=workspace, **options
                )
            if bad:
                raise bad_probability(x)
            if segment1 < segments:
                continue
            if gradient is not None and segments > 1:
                # all is known of the rows: another round over their segments
                step = segment1 - segment0 if row1 - row0 > 1 else max(1, ELEMENTS // kernels.segment_columns)
                for first in range(0, segments, step):
                    last = min(first + step, segments)
                    where = {"segment0": first, "segment1": last, "workspace": workspace, "writing": True}
                    with taking() as threads:
                        rows.run(row0, row1, threads, **where, **options)
            yield row1 - row0, ignored, invalid
