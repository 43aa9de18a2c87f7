"""Sigmoid, its logarithm and its inverse with the meaning of ``scipy.special``, and surprisal."""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import as_out
from fastxent._passes.elements import (
    LOG_SIGMOID,
    LOGIT,
    SIGMOID,
    SURPRISAL,
    SURPRISAL_TO_BASE,
    as_operand,
    first_outside,
    run,
)
from fastxent._passes.plain import attempt, plain


def sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logistic sigmoid, ``1 / (1 + exp(-x))``, of each element.

    Parameters
    ----------
    x
        Array of any shape and strides: float64, float32, float16, bfloat16 (``ml_dtypes``, PyTorch), integers or bool.
    out
        Array for the result, of its shape and dtype, that does not overlap `x`.

    Returns
    -------
    numpy.ndarray or scalar
        float64 for float64 and integer input, float32 otherwise.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For an `out` that does not fit.

    Notes
    -----
    Error below 3 ULP, subnormal results included. The bits depend on neither threads, layout nor the instruction set,
    here and below. Meaning: ``scipy.special.expit``,
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.special.expit.html

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.sigmoid([0.0, -40.0])
    array([5.00000000e-01, 4.24835426e-18])
    """
    return _apply(SIGMOID, x, "x", out)


def log_sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Logarithm of the logistic sigmoid, ``-log(1 + exp(-x))``, of each element.

    Parameters, results and errors as of `sigmoid`.

    Parameters
    ----------
    x
        Array of real numbers.
    out
        Array for the result.

    Returns
    -------
    numpy.ndarray or scalar

    Notes
    -----
    Error below 3 ULP, also where the result is next to 0: nothing is subtracted that cancels. Meaning:
    ``scipy.special.log_expit``,
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.special.log_expit.html

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.log_sigmoid([0.0, 40.0])
    array([-6.93147181e-01, -4.24835426e-18])
    """
    return _apply(LOG_SIGMOID, x, "x", out)


def logit(p: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    """Log odds, ``log(p / (1 - p))``, of each element: the inverse of `sigmoid`.

    Parameters, dtypes and errors as of `sigmoid`.

    Parameters
    ----------
    p
        Array of probabilities.
    out
        Array for the result.

    Returns
    -------
    numpy.ndarray or scalar
        -inf for 0, inf for 1, NaN outside [0, 1].

    Notes
    -----
    Error below 3 ULP, also next to ``p = 1/2``, where ``log(p) - log(1 - p)`` cancels. Meaning:
    ``scipy.special.logit``, https://docs.scipy.org/doc/scipy/reference/generated/scipy.special.logit.html

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.logit([0.0, 0.25, 0.5])
    array([       -inf, -1.09861229,  0.        ])
    """
    return _apply(LOGIT, p, "p", out)


def surprisal(p: ArrayLike, *, base: float | None = None, out: NDArray[Any] | None = None) -> Any:
    """Surprisal, ``-log(p)``, of each element: what an event of probability `p` tells when it comes about.

    Parameters
    ----------
    p
        Array of probabilities, of any shape, strides and dtype that `sigmoid` takes. Each is taken as given: above 1
        the result is negative.
    base
        Of the logarithm: None for nats, 2 for bits, or any other positive number but 1.
    out
        Array for the result, of its shape and dtype, that does not overlap `p`. Partly written after an error.

    Returns
    -------
    numpy.ndarray or scalar
        float64 for float64 and integer input, float32 otherwise. inf for 0, NaN for NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers, or a base that is none.
    ValueError
        For a negative or infinite element, naming the first place, for a base that is not positive, or 1, and for an
        `out` that does not fit.

    Notes
    -----
    Error below 1 ULP in nats, below 2 to another base; powers of two are exact in bits.

    Source: C. E. Shannon, "A Mathematical Theory of Communication", Bell System Technical Journal 27, 1948.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.surprisal([0.5, 0.125, 0.0], base=2)
    array([ 1.,  3., inf])
    """
    if base is None:
        return _apply(SURPRISAL, p, "p", out)
    x = as_operand(p, "p")
    if isinstance(base, bool) or not isinstance(base, Real):
        raise TypeError(f"base must be None or a number, got {base!r}")
    number = float(base)
    if not (isfinite(number) and number > 0 and number != 1):
        raise ValueError(f"base must be None, or positive, finite and not 1, got {base!r}")
    return _apply(SURPRISAL_TO_BASE, p, "p", out, _constants(number, x.result_dtype))


@lru_cache(maxsize=64)  # 20 µs
def _constants(number: float, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """log 2 and 1 / log base, both to the base, each as a number of the dtype and what it lacks."""
    # decimal's logarithm is right to the last digit: no libm
    digits = Context(prec=60)
    scale = digits.divide(Decimal(1), digits.ln(Decimal(number)))
    found = []
    for exact in (digits.multiply(digits.ln(Decimal(2)), scale), scale):
        high = float(dtype.type(float(exact)))
        found += [high, float(digits.subtract(exact, Decimal(high)))]
    return found[0], found[1], found[2], found[3]


def _apply(
    function: int,
    a: ArrayLike,
    name: str,
    out: NDArray[Any] | None,
    constants: tuple[float, float, float, float] | None = None,
) -> Any:
    if out is None:
        found = attempt(plain.elements, "-n", None, function, a, constants)
        if found is not None:
            return found
    x = as_operand(a, name)
    result = as_out(out, x.array.shape, x.result_dtype, **{name: x.array})
    if run(function, x, out=result, constants=constants or (0.0, 0.0, 0.0, 0.0)):
        raise first_outside(x, name, probability=False)
    return result[()] if out is None else result
