"""Losses."""

import math
import operator
from collections.abc import Sequence
from typing import Any

from fastxent.reference.arrays import (
    Nested,
    as_axis,
    as_labels,
    as_numbers,
    broadcast,
    check_option,
    is_soft,
    nest,
    offsets,
    place_of,
)
from fastxent.reference.rows import row_gradient, row_surprises, share_surprises
from fastxent.reference.sums import exact_sum, quotient


def cross_entropy(
    logits: Nested,
    target: Nested,
    weight: Nested = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    from_logits: bool = True,
    temperature: float = 1.0,
    sample_weight: Nested = None,
    invalid: str = "raise",
    empty: str = "nan",
    return_grad: bool = False,
) -> Any:
    """Cross-entropy of logits against labels or probabilities, as `torch.nn.functional.cross_entropy` has it.

    The target of a row is a vector a of the classes: the given probabilities p, or the label's one-hot vector;
    smoothed to (1 - eps) p + eps / C, times the class weights. The loss is ``sum a_j (lse - x_j)``, and a term whose
    a_j is 0 is 0. A row that is ignored, left out for a bad label, or of sample weight 0 counts nothing, whatever its
    logits, and without smoothing one whose label has weight 0: it is 0 under "none" and in no sum. (PyTorch gives
    NaN for weight 0 times an infinite loss.)

    Parameters
    ----------
    logits : array_like, (C,), (N, C) or (N, C, d1, ...)
    target : array_like of integers or bools, the shape of logits without the class axis; or of floats, its shape
    weight : array_like, (C,): a factor for each class, optional
    axis : int, the class axis: 1 unless given, 0 for one dimension
    ignore_index : int, rows with this label are left out; it may lie outside [0, C), or inside
    reduction : "mean" (divides by the sum of the weights of the rows used: sample weight, times the class weight of
        a label), "sum" or "none"
    label_smoothing : in [0, 1]
    from_logits : False where the rows are probabilities, which are divided by their sums
    temperature : divides the logits
    sample_weight : array_like that broadcasts to the rows, a factor for each, optional
    invalid : "raise" or "ignore", what to do about a label outside [0, C)
    empty : "nan", "zero" or "raise" (ValueError), what the mean over no row gives
    return_grad : give (loss, gradient by the logits), nested lists of the logits' shape

    Returns
    -------
    float, or for "none" nested lists of the shape of target
        In nats. +inf for a share of the target on a logit of -inf; NaN for a row with a NaN, a +inf or nothing but
        -inf.

    Raises
    ------
    ValueError
        Besides the module's errors: there is no class, an unknown option, a number out of bounds, a negative or
        infinite probability.
    IndexError
        A label outside [0, C) with ``invalid="raise"``; names the place of the first.

    Examples
    --------
    >>> cross_entropy([[0.0, 40.0], [0.0, 0.0], [0.0, 0.0]], [1, 0, -100], reduction="none")
    [4.248354255291589e-18, 0.6931471805599453, 0.0]
    >>> cross_entropy([0.0, 0.0, 0.0], 3)
    Traceback (most recent call last):
    IndexError: target is 3, outside [0, 3)
    >>> cross_entropy([[0.0, 0.0]], [[0.75, 0.25]], return_grad=True)
    (0.6931471805599453, [[-0.25, 0.25]])
    """
    check_option("reduction", reduction, ("none", "mean", "sum"))
    check_option("invalid", invalid, ("raise", "ignore"))
    check_option("empty", empty, ("nan", "zero", "raise"))
    ignore_index = operator.index(ignore_index)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], not {label_smoothing}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, not {temperature}")
    if not from_logits and (temperature != 1 or return_grad):
        raise ValueError("temperature and return_grad want logits, not from_logits=False")

    flat, shape = as_numbers(logits, "logits")
    class_axis, others, row_shape = _rows_of(shape, axis)
    classes = shape[class_axis]
    factors = _class_factors(weight, classes)
    samples = broadcast(sample_weight, "sample_weight", row_shape)
    starts, within = offsets(shape, others), offsets(shape, [class_axis])
    soft = is_soft(target, len(shape))
    if soft:
        shares, soft_shape = as_numbers(target, "target")
        if soft_shape != shape:
            raise ValueError(f"target must have shape {shape}, not {soft_shape}")
        if ignore_index >= 0:
            raise ValueError("no class can be ignored in a target of probabilities")
        labels = [0] * len(starts)
    else:
        labels = _checked_labels(target, row_shape, classes, ignore_index, invalid)

    losses, divisors = [], []
    gradients = [0.0] * len(flat)
    rows = []  # where those begin that count, with softmax, a, and sample weight
    for start, label, sample in zip(starts, labels, samples, strict=True):
        row_weight = sample if soft else sample * factors[label] if 0 <= label < classes else 0.0
        used = 0 <= label < classes and label != ignore_index
        if not used or sample == 0 or (row_weight == 0 and label_smoothing == 0):
            losses.append(0.0)
            continue
        if row_weight != 0:
            divisors.append(row_weight)
        row = [flat[start + step] / temperature for step in within]
        if not from_logits:
            for q, step in zip(row, within, strict=True):
                if q < 0 or q == math.inf:
                    raise ValueError(f"logits{place_of(start + step, shape)} is {q}, no probability")
        p = [shares[start + step] for step in within] if soft else [float(j == label) for j in range(classes)]
        a = [(1 - label_smoothing) * q + label_smoothing / classes for q in p]
        a = [w * q if q != 0 else 0.0 for q, w in zip(a, factors, strict=True)]
        surprises = row_surprises(row) if from_logits else share_surprises(row)
        terms = [q * s if q != 0 else 0.0 for q, s in zip(a, surprises, strict=True)]
        losses.append(sample * (math.nan if any(map(math.isnan, surprises)) else exact_sum(terms)))
        rows.append((start, row, a, sample))

    divisor = 1.0
    if reduction == "mean" and divisors:
        divisor = quotient(divisors, [1.0])
    for start, row, a, sample in rows:
        if return_grad:
            for step, g in zip(within, row_gradient(row, a), strict=True):
                gradients[start + step] = sample * g / divisor / temperature
    loss = _reduced(losses, divisors, row_shape, reduction, empty)
    return (loss, nest(gradients, shape)) if return_grad else loss


def nll_loss(
    log_probs: Nested,
    target: Nested,
    weight: Nested = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: Nested = None,
    invalid: str = "raise",
    empty: str = "nan",
) -> Nested:
    """Minus the label's log-probability, weighted and reduced as in `cross_entropy`; `torch.nn.functional.nll_loss`.

    Examples
    --------
    >>> nll_loss([[-1.0, -2.0], [-4.0, -8.0], [0.0, 0.0]], [1, 0, -100])
    3.0
    """
    check_option("reduction", reduction, ("none", "mean", "sum"))
    check_option("invalid", invalid, ("raise", "ignore"))
    check_option("empty", empty, ("nan", "zero", "raise"))
    ignore_index = operator.index(ignore_index)
    flat, shape = as_numbers(log_probs, "log_probs")
    class_axis, others, row_shape = _rows_of(shape, axis)
    classes = shape[class_axis]
    labels = _checked_labels(target, row_shape, classes, ignore_index, invalid)
    factors = _class_factors(weight, classes)
    within = offsets(shape, [class_axis])
    losses, divisors = [], []
    for start, label, sample in zip(
        offsets(shape, others), labels, broadcast(sample_weight, "sample_weight", row_shape), strict=True
    ):
        factor = sample * factors[label] if 0 <= label < classes and label != ignore_index else 0.0
        losses.append(factor * -flat[start + within[label]] if factor != 0 else 0.0)
        divisors += [factor] if factor != 0 else []
    return _reduced(losses, divisors, row_shape, reduction, empty)


def _rows_of(shape: Sequence[int], axis: int | None) -> tuple[int, list[int], tuple[int, ...]]:
    """The class axis, the others, and their shape."""
    if not shape:
        raise ValueError("there must be a class axis, not shape ()")
    class_axis = as_axis(min(1, len(shape) - 1) if axis is None else axis, len(shape))
    if shape[class_axis] == 0:
        raise ValueError(f"shape {shape} has no class along axis {class_axis}")
    others = [i for i in range(len(shape)) if i != class_axis]
    return class_axis, others, tuple(shape[i] for i in others)


def _class_factors(weight: Nested, classes: int) -> list[float]:
    if weight is None:
        return [1.0] * classes
    factors, shape = as_numbers(weight, "weight")
    if shape != (classes,):
        raise ValueError(f"weight must have shape ({classes},), not {shape}")
    return factors


def _checked_labels(
    target: Nested, shape: tuple[int, ...], classes: int, ignore_index: int, invalid: str
) -> list[int]:
    labels = as_labels(target, "target", shape)
    for i, label in enumerate(labels):
        if invalid == "raise" and label != ignore_index and not 0 <= label < classes:
            raise IndexError(f"target{place_of(i, shape)} is {label}, outside [0, {classes})")
    return labels


def _reduced(
    losses: list[float], divisors: list[float], shape: Sequence[int], reduction: str, empty: str
) -> Nested:
    if reduction == "none":
        return nest(losses, shape)
    if reduction == "sum":
        return exact_sum(losses)
    if divisors:
        return quotient(losses, divisors)
    if empty == "raise":
        raise ValueError("the mean is over no row: all are ignored or have weight 0, or there is none")
    return 0.0 if empty == "zero" else math.nan
