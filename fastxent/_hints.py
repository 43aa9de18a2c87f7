"""What people commonly mean by arrays that do not fit: the last words of an error, or none. Never on the fast path."""

from __future__ import annotations

from math import prod

import numpy as np

Shape = tuple[int, ...]


def of_labels(labels: Shape, logits: Shape, name: str, axis: int | None = None) -> str:
    """Why labels have another shape than the logits without their class axis, at `axis` or last."""
    if len(logits) == 1 and labels == logits:
        return "; one score a row is binary=True (--binary)"
    if labels == logits:
        return f"; of one-hot rows, {name}.argmax(axis={-1 if axis is None else axis}) gives the class indices"
    if len(labels) == len(logits) + 1 and 1 not in labels and _without_one(labels, logits):
        return "; have logits and labels been swapped?"
    if 1 in labels and tuple(n for n in labels if n != 1) == _rows(logits, axis):
        return f"; {name}.reshape({_rows(logits, axis)}) drops the axis of 1"
    if len(logits) > 1 and _without_one(logits, labels):
        return "; if the classes lie along another axis, say which: axis= (--axis)"
    if prod(labels) == prod(_rows(logits, axis)) > 1:
        return f"; as many labels in the rows' shape would be {name}.reshape({_rows(logits, axis)})"
    return ""


def of_integers(dtype: np.dtype[np.generic]) -> str:
    """Why labels are no integers."""
    if dtype.kind in "US":
        return "; class names get numbers by numpy.unique(..., return_inverse=True)[1]"
    return "; labels are class indices" if dtype.kind in "fu" else ""


def of_padding(label: int, ignored: bool) -> str:
    """What all labels out of range, one negative number, may mean; `ignored` if others are ignored already."""
    if ignored:
        return f"; if {label} marks padding, too, invalid='ignore' leaves it out"
    return f"; if {label} marks padding, pass ignore_index={label}"


def of_numbers(dtype: np.dtype[np.generic], shape: Shape, value: object) -> str:
    """Why scores are no real numbers."""
    if dtype.kind in "US" and not shape:
        return "; a path is read by evaluate, compare and open_logits"
    if dtype.kind == "O" and not shape:
        return f"; it is of type {type(value).__name__}"
    if dtype == np.dtype("V2"):
        return "; raw bfloat16, as ml_dtypes saves it, wants logits_dtype='bfloat16'"
    return ""


def _rows(logits: Shape, axis: int | None) -> Shape:
    at = len(logits) - 1 if axis is None else axis
    return logits[:at] + logits[at + 1 :]


def _without_one(shape: Shape, other: Shape) -> bool:
    """Whether the other shape is this one without one axis."""
    return any(shape[:d] + shape[d + 1 :] == other for d in range(len(shape)))
