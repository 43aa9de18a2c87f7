"""Losses."""

import math
import operator

from fastxent.reference.arrays import Nested, as_axis, as_labels, as_numbers, check_option, nest, offsets, place_of
from fastxent.reference.rows import row_loss
from fastxent.reference.sums import exact_sum, quotient


def cross_entropy(
    logits: Nested,
    target: Nested,
    weight: Nested = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    invalid: str = "raise",
    empty: str = "nan",
) -> Nested:
    """Cross-entropy of logits against integer labels, as `torch.nn.functional.cross_entropy` has it.

    A row that is ignored, left out for a bad label, or whose label has weight 0 counts nothing, whatever its
    logits: it is 0 under "none" and in no sum. (PyTorch gives NaN for weight 0 times an infinite loss.)

    Parameters
    ----------
    logits : array_like, (C,), (N, C) or (N, C, d1, ...)
    target : array_like of integers or bools, the shape of logits without the class axis
    weight : array_like, (C,): a factor for each class, optional
    axis : int, the class axis: 1 unless given, 0 for one dimension
    ignore_index : int, rows with this label are left out; it may lie outside [0, C), or inside
    reduction : "mean" (divides by the sum of the weights of the labels used), "sum" or "none"
    invalid : "raise" or "ignore", what to do about a label outside [0, C)
    empty : "nan", "zero" or "raise" (ValueError), what the mean over no row gives

    Returns
    -------
    float, or for "none" nested lists of the shape of target
        In nats. +inf for a label whose logit is -inf; NaN for a row with a NaN, a +inf or nothing but -inf.

    Raises
    ------
    ValueError
        Besides the module's errors: there is no class, or an unknown option.
    IndexError
        A label outside [0, C) with ``invalid="raise"``; names the place of the first.

    Examples
    --------
    >>> cross_entropy([[0.0, 40.0], [0.0, 0.0], [0.0, 0.0]], [1, 0, -100], reduction="none")
    [4.248354255291589e-18, 0.6931471805599453, 0.0]
    >>> cross_entropy([0.0, 0.0, 0.0], 3)
    Traceback (most recent call last):
    IndexError: target is 3, outside [0, 3)
    """
    check_option("reduction", reduction, ("none", "mean", "sum"))
    check_option("invalid", invalid, ("raise", "ignore"))
    check_option("empty", empty, ("nan", "zero", "raise"))
    ignore_index = operator.index(ignore_index)

    flat, shape = as_numbers(logits, "logits")
    if not shape:
        raise ValueError("logits must have a class axis, not shape ()")
    class_axis = as_axis(min(1, len(shape) - 1) if axis is None else axis, len(shape))
    classes = shape[class_axis]
    if classes == 0:
        raise ValueError(f"logits of shape {shape} have no class along axis {class_axis}")
    others = [i for i in range(len(shape)) if i != class_axis]
    label_shape = tuple(shape[i] for i in others)
    labels = as_labels(target, "target", label_shape)
    factors = [1.0] * classes
    if weight is not None:
        factors, weight_shape = as_numbers(weight, "weight")
        if weight_shape != (classes,):
            raise ValueError(f"weight must have shape ({classes},), not {weight_shape}")
    for i, label in enumerate(labels):
        if invalid == "raise" and label != ignore_index and not 0 <= label < classes:
            raise IndexError(f"target{place_of(i, label_shape)} is {label}, outside [0, {classes})")

    within = offsets(shape, [class_axis])
    losses, divisors = [], []
    for start, label in zip(offsets(shape, others), labels, strict=True):
        if label == ignore_index or not 0 <= label < classes or factors[label] == 0:
            losses.append(0.0)
        else:
            loss = row_loss([flat[start + step] for step in within], label)
            losses.append(factors[label] * loss)
            divisors.append(factors[label])

    if reduction == "none":
        return nest(losses, label_shape)
    if reduction == "sum":
        return exact_sum(losses)
    if divisors:
        return quotient(losses, divisors)
    if empty == "raise":
        raise ValueError("the mean is over no row: all are ignored or have weight 0, or there is none")
    return 0.0 if empty == "zero" else math.nan
