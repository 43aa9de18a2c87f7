"""Log-sum-exp and softmax."""

from fastxent.reference.arrays import Axes, Nested, as_axes, as_numbers, map_rows, nest, offsets
from fastxent.reference.rows import row_log_softmax, row_logsumexp, row_softmax


def logsumexp(a: Nested, axis: Axes = None, *, keepdims: bool = False) -> Nested:
    """Logarithm of the sum of exponentials over the axes (None: all), as `scipy.special.logsumexp` has it.

    Computed as ``m + log1p(s)``: m is the largest element, s the sum of ``exp(a - m)`` with the largest term
    left out, so that no digit of s is lost beside the 1 [1]_.

    Parameters
    ----------
    a : array_like of any shape; a scalar counts as one element of shape (1,)
    axis : int, tuple of ints or None
    keepdims : bool, keep the summed axes with length 1

    Returns
    -------
    float or nested lists
        -inf where nothing is summed or all is -inf, +inf beside a +inf, NaN beside a NaN.

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
    shape = shape or (1,)
    axes = as_axes(axis, len(shape))
    kept = [i for i in range(len(shape)) if i not in axes]
    within = offsets(shape, axes)
    values = [row_logsumexp([flat[start + step] for step in within]) for start in offsets(shape, kept)]
    if keepdims:
        return nest(values, [1 if i in axes else n for i, n in enumerate(shape)])
    return nest(values, [shape[i] for i in kept])


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
