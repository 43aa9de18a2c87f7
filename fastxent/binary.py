"""Binary cross-entropy with the meaning of ``torch.nn.functional``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastxent._exact import ExactSum
from fastxent._passes.elements import BAD_X, BINARY, BINARY_LOGITS, Operand, as_operand, first_outside, run
from fastxent._passes.plain import attempt, plain

Reduction = Literal["mean", "sum", "none"]


def binary_cross_entropy(
    probs: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: Reduction = "mean"
) -> Any:
    """Cross-entropy of probabilities and binary targets, ``-(y log p + (1 - y) log(1 - p))``, in nats.

    Parameters
    ----------
    probs
        Probabilities in [0, 1], of any shape and strides: float64, float32, float16, bfloat16, integers or bool. For
        unnormalised scores there is `binary_cross_entropy_with_logits`.
    target
        Targets in [0, 1], soft ones too, of the shape of `probs` and of any such dtype.
    weight
        A factor for each element, of any shape that broadcasts to that of `probs`.
    reduction
        "mean" divides by the number of elements, also where there are weights; "none" gives a loss for each.

    Returns
    -------
    float or numpy.ndarray
        float64 for "mean" and "sum": the exact sum of the losses as "none" gives them, rounded once; the mean over no
        element is NaN. For "none" float64 for float64 and integer probabilities, float32 otherwise.

    Raises
    ------
    TypeError
        For a dtype that is none of the above.
    ValueError
        For shapes that do not match, for a probability or target outside [0, 1] (or NaN), naming the first place, or
        for an unknown `reduction`.

    Notes
    -----
    Error below 4 ULP. Both logarithms are cut off at -100, as PyTorch does, so that the loss is finite. Meaning:
    ``torch.nn.functional.binary_cross_entropy``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.binary_cross_entropy([0.5, 0.0], [1, 1], reduction="none")
    array([  0.69314718, 100.        ])
    """
    if weight is None:
        found = attempt(plain.binary, "-nf", None, BINARY, probs, target, reduction)
        if found is not None:
            return found
    x, y, w = _operands(probs, target, weight, "probs", reduction)
    return _reduced(BINARY, x, y, w, None, "probs", reduction, False)


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    pos_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Any:
    """Cross-entropy of binary targets and the sigmoid of logits, in nats, without cancellation.

    Parameters
    ----------
    logits
        Unnormalised scores of any shape and strides: float64, float32, float16, bfloat16, integers or bool.
    target
        Targets of the shape of `logits`, of any such dtype; soft ones too.
    weight
        A factor for each element, of any shape that broadcasts to that of `logits`.
    pos_weight
        A factor for the positive part of the loss, ``y log sigmoid(x)``; broadcast likewise.
    reduction
        "mean" divides by the number of elements, also where there are weights; "none" gives a loss for each.
    return_grad
        Give the pair (loss, gradient of the reduced loss by the logits; of the sum for "none").

    Returns
    -------
    float or numpy.ndarray, or a pair of the loss and a numpy.ndarray
        float64 for "mean" and "sum": the exact sum of the losses as "none" gives them, rounded once; the mean over no
        element is NaN. "none" and gradients are float64 for float64 and integer logits, float32 otherwise.

    Raises
    ------
    TypeError
        For a dtype that is none of the above.
    ValueError
        For shapes that do not match, or for an unknown `reduction`.

    Notes
    -----
    Error of a loss below 4 ULP for targets in [0, 1] and factors >= 0: all terms are >= 0, and a confident right answer
    costs 1e-20 and not 0. Two factors of an ULP or so come on top of that. The gradient is as accurate where the target
    is 0 or 1; beside a soft one its two terms cancel as the target meets the sigmoid.

    Meaning: ``torch.nn.functional.binary_cross_entropy_with_logits``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    Where a logit is infinite, PyTorch has NaN in most cases; here the loss is its limit: 0 where all of the target is
    on that side, inf otherwise.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.binary_cross_entropy_with_logits([0.0, 40.0, -2.0], [1, 1, 0], reduction="none")
    array([6.93147181e-01, 4.24835426e-18, 1.26928011e-01])
    >>> loss, gradient = fx.binary_cross_entropy_with_logits([0.0, 40.0], [1, 0], return_grad=True)
    >>> gradient
    array([-0.25,  0.5 ])
    """
    if weight is pos_weight is None:
        found = attempt(plain.binary, "-nf", None, BINARY_LOGITS, logits, target, reduction, return_grad)
        if found is not None:
            return found
    x, y, w = _operands(logits, target, weight, "logits", reduction)
    positive = None
    if pos_weight is not None:
        positive = as_operand(pos_weight, "pos_weight").broadcast("pos_weight", x.array.shape, "logits")
    return _reduced(BINARY_LOGITS, x, y, w, positive, "logits", reduction, return_grad)


def _operands(
    inputs: Any, target: Any, weight: Any, name: str, reduction: str
) -> tuple[Operand, Operand, Operand | None]:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    x, y = as_operand(inputs, name), as_operand(target, "target")
    if y.array.shape != x.array.shape:
        raise ValueError(f"target has shape {y.array.shape}; it must be that of {name}, {x.array.shape}")
    return x, y, None if weight is None else as_operand(weight, "weight").broadcast("weight", x.array.shape, name)


def _reduced(
    function: int,
    x: Operand,
    target: Operand,
    weight: Operand | None,
    pos_weight: Operand | None,
    name: str,
    reduction: str,
    return_grad: bool,
) -> Any:
    shape, count = x.array.shape, x.array.size
    out = np.empty(shape, x.result_dtype) if reduction == "none" else None
    total = None if reduction == "none" else ExactSum()
    gradient = np.empty(shape, x.result_dtype) if return_grad else None
    divisor = float(count) if reduction == "mean" else 1.0
    wrong = run(function, x, target, weight, pos_weight, out=out, gradient=gradient, total=total, divisor=divisor)
    if wrong:
        where = (x, name) if wrong & BAD_X else (target, "target")
        raise first_outside(*where, probability=True)
    loss = out[()] if out is not None else None
    if total is not None:
        loss = np.float64(total.value() if reduction == "sum" else total.mean(count))
    return (loss, gradient) if return_grad else loss
