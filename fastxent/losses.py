"""Losses with the meaning of ``torch.nn.functional``."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import as_labels, as_logits, as_weight
from fastxent._cross_entropy import CrossEntropy, class_axis_of
from fastxent._exact import ExactSum
from fastxent._passes.elements import as_operand, operand_of
from fastxent._passes.picks import BLOCK_ROWS as PICKED
from fastxent._passes.picks import pick_losses
from fastxent._passes.plain import attempt, plain
from fastxent._passes.rows import block_rows
from fastxent._passes.targets import NormalizedInputWarning
from fastxent._reduction import Blocks, Divisor, added, check_options, checked, reduced

Reduction = Literal["mean", "sum", "none"]
Invalid = Literal["raise", "ignore"]
Empty = Literal["nan", "zero", "raise"]


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    from_logits: bool = True,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    invalid: Invalid = "raise",
    empty: Empty = "nan",
    logits_dtype: str | None = None,
    return_grad: bool = False,
    out: NDArray[Any] | None = None,
) -> Any:
    """Cross-entropy of logits and labels, or class probabilities, in nats; the logits are read from memory once.

    Parameters
    ----------
    logits
        Unnormalised scores of shape (C,), (N, C) or (N, C, d1, ...): float64, float32, float16, bfloat16, integers
        or bool, of any strides.
    target
        Class indices of the logits' shape without the class axis, of any integer dtype or bool; or probabilities of
        the logits' shape, of any float dtype, taken as they are.
    weight
        A number for each class, shape (C,). A row counts with the weight of its label, and for nothing where that is
        0; with probabilities each class's term has its weight.
    axis
        The class axis: 1 by default, 0 for 1-d logits.
    ignore_index
        Rows with this label are left out; 0 under ``reduction="none"``. Compared in the labels' own dtype. Not for
        probabilities, where it must be negative.
    reduction
        "mean" divides the sum by the sum of the weights of the labels used, or for probabilities by the number of
        rows; "none" gives a loss for each row.
    label_smoothing
        In [0, 1]: the share of the target that is spread evenly over all classes.
    from_logits
        False where the rows are probabilities, up to scale: they are divided by their sums. A row with NaN, or whose
        sum is 0, gives NaN.
    temperature
        Divides the logits, in the dtype of the row results; nothing is multiplied back.
    sample_weight
        A factor for each row, of a shape that broadcasts to theirs; the mean's divisor has it too. A row of weight 0
        counts nothing.
    invalid
        "raise" for a label outside [0, C), or "ignore" to leave its row out as an ignored one.
    empty
        What the mean over no row is: "nan", "zero" (0.0) or "raise" (ValueError).
    logits_dtype
        "bfloat16" where the logits are raw 16-bit integers that stand for it.
    return_grad
        Give the gradient by the logits too.
    out
        Array for the losses under ``reduction="none"``. Partly written after an error.

    Returns
    -------
    loss : float or numpy.ndarray
        float64 for "mean" and "sum": the exact sum of the row losses as "none" gives them, rounded once. For "none"
        the shape without the class axis, float64 for float64 and integer logits, float32 otherwise. A label, or a
        share of the target, on a class of logit -inf has the loss inf; a share of 0 there costs nothing. A row with
        NaN or inf, or all -inf, has NaN.
    gradient : numpy.ndarray
        With `return_grad`: of the logits' shape and the row losses' dtype. For "none" each row has the gradient of
        its own loss. Rows that count nothing have 0.

    Raises
    ------
    TypeError
        For a dtype that is none of the above.
    ValueError
        For shapes that do not match, no classes, an unknown option, a number out of its bounds, the mean over no row
        with ``empty="raise"``, `temperature` or `return_grad` with ``from_logits=False``, and then for the first
        entry that is negative or infinite.
    IndexError
        For a label out of range, naming its place and value.

    Warns
    -----
    NormalizedInputWarning
        Where the rows of a small sample are all distributions already: in [0, 1], with the sum 1.

    Notes
    -----
    Error of a row with a label at most 4 ULP, down to the smallest normal number: the label's own term is left out of
    the sum S, and the loss is ``log1p(S / exp(x_label))`` [1]_, so that a confident right answer costs 1e-20 and not
    0. With probabilities or smoothing the loss is the sum of ``p_j (lse - x_j)``, whose terms have one sign, to the
    same bound. Gradient: 5 ULP of the larger of the two terms of ``softmax - p``, 5 ULP outright where the target is
    one label. The bits depend on neither threads, blocks, merges nor the instruction set.

    Meaning: ``torch.nn.functional.cross_entropy``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html. It differs on purpose in
    this: a share of 0 on a class of logit -inf is no NaN, nor is a class of weight 0; a negative `label_smoothing` is
    an error, which PyTorch passes over.

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
    >>> loss, gradient = fx.cross_entropy([[0.0, 0.0]], [[0.75, 0.25]], return_grad=True)
    >>> f"{loss:.5g}", gradient.tolist()
    ('0.69315', [[-0.25, 0.25]])
    """
    plainly = sample_weight is None and axis is None and logits_dtype is None and out is None
    if plainly and invalid == "raise" and empty == "nan":
        options = (weight, ignore_index, reduction, label_smoothing, from_logits, temperature, return_grad)
        found = plain.losses(logits, target, *options)  # before `attempt`, a tenth of the smallest call
        if found is None:
            found = attempt(plain.losses, "sgw", 1, logits, target, *options)
        if found is not None:
            return found
    check_options(reduction, invalid, empty, out)
    rows = CrossEntropy.of(
        logits,
        target,
        weight,
        axis=axis,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        from_logits=from_logits,
        temperature=temperature,
        sample_weight=sample_weight,
        invalid=invalid,
        logits_dtype=logits_dtype,
        return_grad=return_grad,
    )
    if rows.suspicious:
        warnings.warn(
            "the rows of logits look like probabilities, whose softmax is taken here; if so, pass from_logits=False",
            NormalizedInputWarning,
            stacklevel=2,
        )
    x = rows.x
    block = block_rows(x.array.size // rows.classes, rows.classes)
    mean_divisor = Divisor(block, rows.weighted and reduction == "mean")
    score, gradient = rows.score, None
    if return_grad:
        gradient, denominator = np.empty(x.array.shape, x.row_dtype), 1.0
        if reduction == "mean":
            # labels and weights alone tell it
            ahead = Divisor(block, rows.weighted)
            for n, left_out in rows.score(gradient=gradient, row_weights=ahead.row_weights, count_only=True):
                ahead.add(n, left_out)
            denominator = ahead.value()
        score = partial(rows.score, gradient=gradient, denominator=denominator)
    inputs = {"logits": x.array, "target": rows.goal.array}
    loss = reduced(score, reduction, empty, out, rows.shape, x.row_dtype, block, mean_divisor, inputs)
    return loss if gradient is None else (loss, gradient)


def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    invalid: Invalid = "raise",
    empty: Empty = "nan",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Negative log-likelihood of integer labels under log-probabilities: minus the label's own, which alone is read.

    Parameters
    ----------
    log_probs
        Log-probabilities of shape (C,), (N, C) or (N, C, d1, ...), of the dtypes that `cross_entropy` takes.
    target
        Class indices of that shape without the class axis.
    weight, axis, ignore_index, reduction, sample_weight, invalid, empty, logits_dtype, out
        As `cross_entropy` has them.

    Returns
    -------
    float or numpy.ndarray
        In the unit of `log_probs`; float64 for "mean" and "sum"; for "none" of the target's shape, float64 for float64
        and integer input, float32 otherwise.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`.

    Notes
    -----
    Meaning: ``torch.nn.functional.nll_loss``,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html; but a label of weight 0 counts
    nothing, also where its log-probability is -inf.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> log_probs = np.log([[0.5, 0.5], [0.75, 0.25]])
    >>> f"{fx.nll_loss(log_probs, [0, 1]):.5f}"
    '1.03972'
    """
    plainly = sample_weight is None and axis is None and logits_dtype is None and out is None
    if plainly and invalid == "raise" and empty == "nan":
        picked = attempt(plain.picks, "slw", 1, log_probs, target, weight, ignore_index, reduction)
        if picked is not None:
            return picked
    check_options(reduction, invalid, empty, out)
    found = as_logits(log_probs, "log_probs", logits_dtype)
    x = operand_of(found)
    class_axis, shape = class_axis_of(x.array.shape, axis, "log_probs")
    classes = x.array.shape[class_axis]
    labels = as_labels(target, shape, ignore_index, logits=x.array.shape, axis=class_axis)
    weights = as_weight(weight, classes)
    sample = None if sample_weight is None else as_operand(sample_weight, "sample_weight").broadcast(
        "sample_weight", shape, "the rows"
    )
    block = min(labels.array.size, PICKED)
    divisor = Divisor(block, reduction == "mean" and (weights is not None or sample is not None))

    def score(total: ExactSum | None = None, **results: Any) -> Blocks:
        blocks = pick_losses(x, class_axis, labels, weights=weights, sample=sample, **results)
        return added(checked(blocks, labels, invalid, classes), total, results.get("flat"))

    inputs = {"log_probs": x.array, "target": labels.array}
    return reduced(score, reduction, empty, out, shape, x.result_dtype, block, divisor, inputs)
