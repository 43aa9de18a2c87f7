"""Log-sum-exp, softmax and log-softmax, with the meaning of ``scipy.special``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import Logits, as_axes, as_logits, as_out, join_axes, to_numpy
from fastxent._passes.plain import attempt, plain
from fastxent._passes.rows import LOG_SOFTMAX, LSE, SOFTMAX, run
from fastxent._passes.weighted import weighted_rows

Axis = int | tuple[int, ...] | None


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: NDArray[Any] | None = None,
) -> Any:
    """Logarithm of the sum of exponentials, ``log(sum(b * exp(a)))``, in one read.

    Parameters
    ----------
    a
        Array of any shape and strides: float64, float32, float16, bfloat16 (``ml_dtypes``, PyTorch), integers or bool.
    axis
        Axis or axes to sum over; all by default. Several that do not lie as one are read through a buffer, row
        by row.
    b
        Weights of either sign, of the dtypes of `a`; `a` and `b` are broadcast against each other. An element of weight
        0 is left out.
    keepdims
        Keep the reduced axes with length 1.
    return_sign
        Give ``(log(abs(sum)), sign)``: 1, -1, 0 for a sum of 0, NaN for a NaN.
    out
        Array for the result, of its shape and dtype.

    Returns
    -------
    numpy.ndarray or scalar, or two of them
        float64 for float64 and integer input (`a` or `b`), float32 otherwise. -inf where all is -inf or there is
        nothing to sum, inf where an element is inf, NaN where one is NaN; NaN where the sum is negative without
        `return_sign`. Complex for complex input; the sign is a phase then.

    Raises
    ------
    TypeError
        For a dtype that holds no numbers.
    ValueError
        For an axis out of bounds or named twice, for shapes that do not broadcast, or an `out` that does not fit.

    Notes
    -----
    Error at most 2 ULP at ``max(abs(result), 1)``; 4 ULP relative where the largest element is 0 and the rest
    is tiny: the largest term is left out of the sum there, ``y = m + log1p(s)`` [1]_. The bits do not depend on
    threads, blocks or the instruction set.

    Weighted sums are added up in pairs of doubles. Where the sum is not finite, a weight of 0 at an inf or NaN gives
    NaN, as in SciPy. Complex input goes through NumPy.

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
    if b is out is None and keepdims is return_sign is False:
        found = attempt(plain.rows, "-s", axis, LSE, a, axis)
        if found is not None:
            return found
    arrays = {"a": to_numpy(a, "a")} | ({} if b is None else {"b": to_numpy(b, "b")})
    if any(array.dtype.kind == "c" for array in arrays.values()):
        return _complex_logsumexp(arrays, axis, keepdims, return_sign, out)
    x, *weights = _broadcast({name: as_logits(array, name) for name, array in arrays.items()})
    # a plain number does not widen the result
    wide = [w for w in weights if w.row_dtype == np.float64 and not isinstance(b, (int, float))]
    axes, shape = _reduced(x.array.shape, axis, keepdims)
    result = as_out(out, shape, wide[0].row_dtype if wide else x.row_dtype, **arrays)
    # the kernels' view of the result has no reduced axes
    rows = np.squeeze(result, axis=axes) if keepdims else result
    sign = np.empty(shape, result.dtype) if return_sign else None
    if weights:
        flat, signs = np.empty(rows.size, result.dtype), np.empty(rows.size, result.dtype)
        for some, values, of_values in weighted_rows(x, weights[0], axes):
            flat[some] = values if return_sign else np.where(of_values < 0, np.nan, values)
            signs[some] = of_values
        rows[...] = flat.reshape(rows.shape)
        if sign is not None:
            sign[...] = signs.reshape(shape)
    else:
        (joined,), class_axis = _one_axis(axes, x)
        for _ in run(LSE, joined, class_axis, out=rows):
            pass
        if sign is not None:
            # of a sum of exponentials: 0 only where the logarithm is -inf
            np.copyto(sign, np.where(np.isnan(result), np.nan, result != -np.inf))
    return _returned(result, sign, out)


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


def _broadcast(arrays: dict[str, Logits]) -> list[Logits]:
    """The arrays as views of one shape, of one axis at least: SciPy takes a number for an array of one element."""
    shapes = [x.array.shape for x in arrays.values()]
    if len(shapes) == 1 and shapes[0]:
        return list(arrays.values())
    try:
        shape = np.broadcast_shapes(*shapes) or (1,)
    except ValueError:
        raise ValueError(f"a has shape {shapes[0]} and b {shapes[1]}, which do not broadcast") from None
    return [Logits(np.broadcast_to(x.array, shape), x.kind, x.convert) for x in arrays.values()]


def _reduced(shape: tuple[int, ...], axis: Axis, keepdims: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to reduce over, and the result's shape."""
    axes = as_axes(axis, len(shape))
    return axes, tuple(1 if d in axes else n for d, n in enumerate(shape) if keepdims or d not in axes)


def _returned(result: NDArray[Any], sign: NDArray[Any] | None, out: NDArray[Any] | None) -> Any:
    value = result[()] if out is None else result
    return value if sign is None else (value, sign[()])


def _complex_logsumexp(
    arrays: dict[str, NDArray[Any]], axis: Axis, keepdims: bool, return_sign: bool, out: NDArray[Any] | None
) -> Any:
    """Of complex numbers, by NumPy: relative to the largest real part."""
    for name, array in arrays.items():
        if array.dtype.kind != "c":
            as_logits(array, name)
    x, *weights = np.broadcast_arrays(*arrays.values())
    x = np.atleast_1d(x)
    axes, shape = _reduced(x.shape, axis, keepdims)
    dtype = np.result_type(np.complex64, *arrays.values())
    real = np.empty(0, dtype).real.dtype
    result = as_out(out, shape, real if return_sign else dtype, **arrays)
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        if weights:
            x[np.atleast_1d(weights[0]) == 0] = -np.inf
        top = np.max(x.real, axis=axes, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0)
        terms = np.exp(x - top) if not weights else weights[0] * np.exp(x - top)
        total = np.sum(terms, axis=axes, keepdims=keepdims)
        top = top.reshape(shape)
        if return_sign:
            size = np.abs(total)
            result[...] = np.log(size) + top
            return _returned(result, np.asarray(np.where(size == 0, 0, total / size), dtype), out)
        result[...] = np.log(total) + top
    return _returned(result, None, out)


def _one_axis(axes: tuple[int, ...], *arrays: Logits) -> tuple[list[Logits], int]:
    """Arrays of one shape with one class axis; no axis to reduce over is a row of one element."""
    if not axes:
        if arrays[0].array.ndim == 64:
            raise ValueError("an array of 64 dimensions, NumPy's most, wants an axis other than ()")
        return [Logits(x.array[..., np.newaxis], x.kind, x.convert) for x in arrays], arrays[0].array.ndim
    return join_axes(axes, *arrays)


def _normalised(mode: int, a: ArrayLike, axis: Axis, out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        found: NDArray[Any] | None = attempt(plain.rows, "-s", axis, mode, a, axis)
        if found is not None:
            return found
    x = as_logits(a, "x")
    shape = x.array.shape
    # SciPy takes a number for an array of one element
    axes = as_axes(axis, len(shape)) if shape else as_axes(axis, 1)[1:]
    if any(shape[d] == 0 for d in axes):
        raise ValueError(f"x of shape {shape} has rows without elements along axis {axis}")
    result = as_out(out, shape, x.row_dtype, x=x.array)
    (joined, target), class_axis = _one_axis(axes, x, Logits(result, x.kind, None))
    for _ in run(mode, joined, class_axis, out=target.array):
        pass
    return result[()] if out is None else result  # a number for a number, as SciPy has it
