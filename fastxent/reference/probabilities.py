"""Losses of probabilities that a classifier gives."""

import math
from numbers import Real
from typing import Any

from fastxent.reference.arrays import Nested, as_numbers, walk
from fastxent.reference.sums import exact_sum, quotient

EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # of the dtype; any other is float64


def log_loss(
    y_true: Nested,
    y_proba: Nested,
    *,
    normalize: bool = True,
    sample_weight: Nested = None,
    labels: Nested = None,
) -> float:
    """Mean of -log of the probability that each true label was given, as `sklearn.metrics.log_loss` has it.

    Parameters
    ----------
    y_true : labels (N,), whole numbers, bools or strings; or an indicator matrix of 0 and 1, (N, C)
    y_proba : (N, C), columns in the order of the sorted labels; or (N,) or (N, 1), of the second of two. Clipped to
        [eps, 1 - eps], eps that of its dtype
    normalize : False for the sum
    sample_weight : (N,), a factor for each row; the mean divides by their sum
    labels : all the labels there are

    Examples
    --------
    >>> log_loss(["spam", "ham"], [[0.5, 0.5], [0.75, 0.25]])
    0.4904146265058631
    """
    flat, shape = as_numbers(y_proba, "y_proba")
    if len(shape) not in (1, 2) or 0 in shape or not all(0 <= p <= 1 for p in flat):
        raise ValueError(f"y_proba must be numbers in [0, 1], of shape (N,) or (N, C), not {shape}")
    rows = shape[0]
    columns = len(flat) // rows
    proba = [flat[i * columns : (i + 1) * columns] for i in range(rows)]
    if columns == 1:
        proba = [[1 - p, p] for (p,) in proba]

    true, true_shape = walk(y_true, "y_true")
    if len(true_shape) not in (1, 2) or true_shape[0] != rows:
        raise ValueError(f"y_true must hold {rows} labels, not {true_shape}")
    chosen = _chosen(true, true_shape, None if labels is None else walk(labels, "labels")[0], len(proba[0]))
    weights = [1.0] * rows
    if sample_weight is not None:
        weights, weight_shape = as_numbers(sample_weight, "sample_weight")
        if weight_shape != (rows,) or not any(weights) or not all(map(math.isfinite, weights)):
            raise ValueError(f"sample_weight must be {rows} finite numbers, not all 0")
    eps = EPS.get(str(getattr(y_proba, "dtype", "")).removeprefix("torch."), 2.0**-52)
    losses = [
        w * sum(-math.log(min(max(p, eps), 1 - eps)) for p, one in zip(row, ones, strict=True) if one)
        for w, row, ones in zip(weights, proba, chosen, strict=True)
    ]
    return quotient(losses, weights) if normalize else exact_sum(losses)


def _chosen(true: list[Any], shape: tuple[int, ...], labels: list[Any] | None, columns: int) -> list[list[bool]]:
    """Which columns each row's labels are."""
    if len(shape) == 2 and shape[1] > 1:
        if shape[1] != columns or not all(x in (0, 1) for x in true):
            raise ValueError(f"y_true must be an indicator matrix of {columns} columns")
        return [[x == 1 for x in true[i : i + columns]] for i in range(0, len(true), columns)]
    given = true if labels is None else labels
    for x in [*true, *given]:
        if not isinstance(x, str) and not (isinstance(x, Real) and math.isfinite(x) and x == math.floor(x)):
            raise ValueError(f"labels must be whole numbers, bools or strings, not {x!r}")
    if len({isinstance(x, str) for x in [*true, *given]}) > 1:
        raise ValueError("labels must not mix strings and numbers")
    classes = sorted(set(given))
    if len(classes) < 2 or len(classes) != columns or (labels is not None and len(classes) != len(labels)):
        raise ValueError(f"there must be two labels at least, as many as columns ({columns}), each once: {given}")
    if any(x not in classes for x in true):
        raise ValueError(f"y_true must hold only the labels {classes}")
    return [[x == c for c in classes] for x in true]
