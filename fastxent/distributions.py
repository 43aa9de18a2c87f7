"""Log-sum-exp, softmax and log-softmax, with the meaning of ``scipy.special``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import Logits, as_axes, as_logits, as_out, join_axes
from fastxent._rows import LOG_SOFTMAX, LSE, SOFTMAX, run

Axis = int | tuple[int, ...] | None


def logsumexp(a: ArrayLike, axis: Axis = None, *, keepdims: bool = False, out: NDArray[Any] | None = None) -> Any:
    """Logarithm of the sum of exponentials, ``log(sum(exp(a)))``, in one read.

    Parameters
    ----------
    a
        Array of any shape and strides: float64, float32, float16, bfloat16 (``ml_dtypes``, PyTorch), integers or bool.
    axis
        Axis or axes to sum over; all by default. Several axes whose strides do not join are copied.
    keepdims
        Keep the reduced axes with length 1.
    out
        Array for the result, of its shape and dtype.

    Returns
    -------
    numpy.ndarray or scalar
        float64 for float64 and integer input, float32 otherwise. -inf where all is -inf or there is nothing to sum,
        inf where an element is inf, NaN where one is NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For an axis out of bounds or named twice, or an `out` that does not fit.

    Notes
    -----
    Error at most 2 ULP at ``max(abs(result), 1)``; 4 ULP relative where the largest element is 0 and the rest
    is tiny: the largest term is left out of the sum there, ``y = m + log1p(s)`` [1]_. The bits do not depend on
    threads, blocks or the instruction set.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
       IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> float(fx.logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    >>> fx.logsumexp(np.array([[0.0, 0.0], [-np.inf, 3.0]]), axis=1)
    array([0.69314718, 3.        ])
    """
    x = as_logits(a, "a")
    if x.array.ndim == 0:  # SciPy takes a number for an array of one element
        x = Logits(x.array[np.newaxis], x.kind, x.convert)
    axes = as_axes(axis, x.array.ndim)
    shape = tuple(1 if d in axes else n for d, n in enumerate(x.array.shape) if keepdims or d not in axes)
    result = as_out(out, shape, x.row_dtype, a=x.array)
    # the kernel's view of the result has no reduced axes
    rows = np.squeeze(result, axis=axes) if keepdims else result
    joined, class_axis = _one_axis(x, axes)
    for _ in run(LSE, joined, class_axis, out=rows):
        pass
    return result[()] if out is None else result


def softmax(x: ArrayLike, axis: Axis = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Softmax, ``exp(x) / sum(exp(x))``; each row is read from memory once and written once.

    Parameters
    ----------
    x
        Array of any shape and strides, of the dtypes that `logsumexp` takes.
    axis
        Axis or axes over which the result sums to 1; all by default.
    out
        Array for the result, of x's shape and the result's dtype. It must not overlap `x`.

    Returns
    -------
    numpy.ndarray
        x's shape; float64 for float64 and integer input, float32 otherwise. A row with NaN or inf, or that is all
        -inf, gives NaN, as ``scipy.special.softmax`` has it.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For an axis out of bounds or named twice, for rows without elements, for an `out` that does not fit.

    Notes
    -----
    Error at most 4 ULP for entries above the smallest normal number. Entries below it may be 0.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    """
    return _normalised(SOFTMAX, x, axis, out)


def log_softmax(x: ArrayLike, axis: Axis = None, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Logarithm of the softmax, ``x - logsumexp(x)``; each row is read from memory once and written once.

    Parameters, errors and dtypes are those of `softmax`.

    Returns
    -------
    numpy.ndarray
        x's shape. Beside an inf the other elements give -inf and the inf itself NaN, as ``scipy.special.log_softmax``
        has it; NaN where the row has a NaN or is all -inf.

    Notes
    -----
    Error at most 2 ULP at ``max(abs(result), 1)``, whatever offset the row has in common.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.log_softmax(np.array([1e4, 1e4], dtype=np.float32))
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    return _normalised(LOG_SOFTMAX, x, axis, out)


def _one_axis(x: Logits, axes: tuple[int, ...]) -> tuple[Logits, int]:
    """`x` with one class axis; a 0-d array, or no axis to reduce over, is a row of one element."""
    if not axes:
        return Logits(x.array[..., np.newaxis], x.kind, x.convert), x.array.ndim
    return join_axes(x, axes)


def _normalised(mode: int, a: ArrayLike, axis: Axis, out: NDArray[Any] | None) -> NDArray[Any]:
    x = as_logits(a, "x")
    shape = x.array.shape
    # SciPy takes a number for an array of one element
    axes = as_axes(axis, len(shape)) if shape else as_axes(axis, 1)[1:]
    if any(shape[d] == 0 for d in axes):
        raise ValueError(f"x of shape {shape} has rows without elements along axis {axis}")
    result = as_out(out, shape, x.row_dtype, x=x.array)
    joined, class_axis = _one_axis(x, axes)
    target, _ = _one_axis(Logits(result, x.kind, None), axes)
    for _ in run(mode, joined, class_axis, out=target.array):
        pass
    if not np.may_share_memory(target.array, result):
        # joining several axes copied it: bring it back
        rest = [d for d in range(len(shape)) if d not in axes]
        order = [*rest, *sorted(axes)]
        result.transpose(order)[...] = target.array.reshape([shape[d] for d in order])
    return result
