"""Losses with the meaning of ``torch.nn.functional``."""

from __future__ import annotations

from fractions import Fraction
from math import nan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import as_axis, as_labels, as_logits, as_out, as_weight, bad_label
from fastxent._exact import ExactSum
from fastxent._rows import LOSS, block_rows, run


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    invalid: Literal["raise", "ignore"] = "raise",
    empty: Literal["nan", "zero", "raise"] = "nan",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Softmax cross-entropy of logits and integer labels, in nats, in one read.

    Parameters
    ----------
    logits
        Unnormalised scores of shape (C,), (N, C) or (N, C, d1, ...): float64, float32, float16, bfloat16, integers
        or bool, of any strides.
    target
        Class indices of the logits' shape without the class axis, of any integer dtype or bool.
    weight
        A number for each class, shape (C,). A row counts with the weight of its label; one of weight 0 counts nothing.
    axis
        The class axis: 1 by default, 0 for 1-d logits.
    ignore_index
        Rows with this label are left out; 0 under ``reduction="none"``. Compared in the labels' own dtype.
    reduction
        "mean" divides the sum by the sum of the weights of the labels used; "none" gives a loss for each row.
    invalid
        "raise" for a label outside [0, C), or "ignore" to leave its row out as an ignored one.
    empty
        What the mean over no row is: "nan", "zero" (0.0) or "raise" (ValueError).
    logits_dtype
        "bfloat16" where the logits are raw 16-bit integers that stand for it.
    out
        Array for ``reduction="none"``. Partly written after an error.

    Returns
    -------
    float or numpy.ndarray
        float64 for "mean" and "sum": the exact sum of the row losses as "none" gives them, rounded once. For "none"
        the target's shape, float64 for float64 and integer logits, float32 otherwise. A label on a class of logit
        -inf has the loss inf; a row with NaN or inf, or all -inf, has NaN.

    Raises
    ------
    TypeError
        For a dtype that is none of the above.
    ValueError
        For shapes that do not match, no classes, an unknown option, or the mean over no row with ``empty="raise"``.
    IndexError
        For a label out of range, naming its place and value.

    Notes
    -----
    Error of a row at most 4 ULP, down to the smallest normal number: the label's own term is left out of the sum S,
    and the loss is ``log1p(S / exp(x_label))`` [1]_, so that a confident right answer costs 1e-20 and not 0. The bits
    depend on neither threads, blocks, merges nor the instruction set.

    Meaning: ``torch.nn.functional.cross_entropy``, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> logits = np.array([[2.0, 0.0], [0.0, 50.0]], dtype=np.float32)
    >>> [f"{loss:.5g}" for loss in fx.cross_entropy(logits, [0, 1], reduction="none")]
    ['0.12693', '1.9287e-22']
    >>> f"{fx.cross_entropy(logits, [0, -100]):.5g}"
    '0.12693'
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if invalid not in ("raise", "ignore"):
        raise ValueError(f"invalid must be 'raise' or 'ignore', got {invalid!r}")
    if empty not in ("nan", "zero", "raise"):
        raise ValueError(f"empty must be 'nan', 'zero' or 'raise', got {empty!r}")
    x = as_logits(logits, logits_dtype=logits_dtype)
    if x.array.ndim == 0:
        raise ValueError("logits must have at least one dimension, the classes")
    class_axis = as_axis((1 if x.array.ndim > 1 else 0) if axis is None else axis, x.array.ndim)
    classes = x.array.shape[class_axis]
    if classes == 0:
        raise ValueError(f"logits of shape {x.array.shape} have no class along axis {class_axis}")
    shape = x.array.shape[:class_axis] + x.array.shape[class_axis + 1 :]
    labels = as_labels(target, shape, ignore_index)
    weights = as_weight(weight, classes)

    if reduction == "none":
        result = as_out(out, shape, x.row_dtype, logits=x.array, target=labels.array)
        for _, _, bad in run(LOSS, x, class_axis, labels=labels, out=result, weights=weights):
            if bad and invalid == "raise":
                raise bad_label(labels, ignore_index, classes)
        return result[()] if out is None else result
    if out is not None:
        raise ValueError(f"out is taken with reduction='none' only, not with {reduction!r}")

    total, weight_total = ExactSum(), ExactSum()
    size = block_rows(labels.array.size, classes)
    losses = np.empty(size, x.row_dtype)
    row_weights = None if weights is None else np.empty(size)
    used = 0
    for rows, ignored, bad in run(
        LOSS, x, class_axis, labels=labels, flat=losses, weights=weights, row_weights=row_weights
    ):
        if bad and invalid == "raise":
            raise bad_label(labels, ignore_index, classes)
        total.add(losses[:rows])
        used += rows - ignored - bad
        if row_weights is not None:
            weight_total.add(row_weights[:rows])
            used -= rows - ignored - bad - int(np.count_nonzero(row_weights[:rows]))
    if reduction == "sum":
        return np.float64(total.value())
    if used == 0:
        if empty == "raise":
            raise ValueError("the mean over no row: every label is ignored or out of range, or there is none")
        return np.float64(0.0 if empty == "zero" else nan)
    if weights is None:
        return np.float64(total.mean(used))
    special = weight_total.special()
    return np.float64(nan if special is not None else total.mean(Fraction(weight_total.fraction())))
