"""Log-sum-exp and softmax."""

import math

from fastxent.reference.arrays import Axes, Nested, as_axes, as_numbers, broadcast_together, map_rows, nest, offsets
from fastxent.reference.rows import row_log_softmax, row_logsumexp, row_softmax, row_weighted


def logsumexp(
    a: Nested, axis: Axes = None, b: Nested = None, keepdims: bool = False, return_sign: bool = False
) -> Nested:
    """Logarithm of the sum of exponentials over the axes (None: all), as `scipy.special.logsumexp` has it.

    Computed as ``m + log1p(s)``: m is the largest element, s the sum of ``exp(a - m)`` with the largest term
    left out, so that no digit of s is lost beside the 1 [1]_.

    Parameters
    ----------
    a : array_like of any shape; a scalar counts as one element of shape (1,)
    axis : int, tuple of ints or None
    b : weights of either sign, broadcast against a
    keepdims : bool, keep the summed axes with length 1
    return_sign : bool, give log(abs(sum)) and the sign

    Returns
    -------
    float or nested lists
        -inf where nothing is summed or all is -inf, +inf beside a +inf, NaN beside a NaN; NaN where the sum is
        negative.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax
       functions", IMA Journal of Numerical Analysis 41(4), 2021.

    Examples
    --------
    >>> logsumexp([[0.0, 0.0], [float("-inf"), 7.0], [0.0, -40.0]], axis=1)
    [0.6931471805599453, 7.0, 4.248354255291589e-18]
    """
    flat, shape = as_numbers(a, "a")
    weights: list[float] | None = None
    if b is not None:
        weights, of_weights = as_numbers(b, "b")
        flat, weights, shape = broadcast_together(flat, shape, weights, of_weights)
    shape = shape or (1,)
    axes = as_axes(axis, len(shape))
    kept = [i for i in range(len(shape)) if i not in axes]
    within = offsets(shape, axes)
    values, signs = [], []
    for start in offsets(shape, kept):
        row = [flat[start + step] for step in within]
        if weights is None:
            value = row_logsumexp(row)
            sign = value if math.isnan(value) else float(value != -math.inf)
        else:
            value, sign = row_weighted(row, [weights[start + step] for step in within])
        values.append(math.nan if sign < 0 and not return_sign else value)
        signs.append(sign)
    left = [1 if i in axes else n for i, n in enumerate(shape)] if keepdims else [shape[i] for i in kept]
    return (nest(values, left), nest(signs, left)) if return_sign else nest(values, left)


def softmax(x: Nested, axis: Axes = None) -> Nested:
    """Exponentials divided by their sum over the axes (None: all), as `scipy.special.softmax` has it.

    Returns nested lists of the shape of x. A row with a NaN, with a +inf or of nothing but -inf is all NaN:
    so SciPy 1.17 and PyTorch have it. (For a +inf, SciPy's NaN of inf - inf gets into the divisor, and so the
    finite entries are NaN too.) Besides the module's errors, a row without an element is a ValueError, as in
    SciPy.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [-800.0, 0.0]], axis=1)
    [[0.5, 0.5], [0.0, 1.0]]
    """
    return map_rows(x, axis, row_softmax)


def log_softmax(x: Nested, axis: Axes = None) -> Nested:
    """Logarithm of softmax over the axes (None: all), as `scipy.special.log_softmax` has it.

    Returns and raises as `softmax` does, but for a row with a +inf (and no NaN): each +inf gives NaN and
    everything else -inf: so SciPy 1.17 has it, while PyTorch gives all NaN.

    Examples
    --------
    >>> log_softmax([40.0, 0.0])
    [-4.248354255291589e-18, -40.0]
    """
    return map_rows(x, axis, row_log_softmax)
