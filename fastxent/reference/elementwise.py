"""Element by element: sigmoid, its logarithm and inverse, surprisal."""

import math
from collections.abc import Callable
from numbers import Real

from fastxent.reference.arrays import Nested, as_numbers, nest, place_of
from fastxent.reference.sums import exp


def map_elements(x: Nested, name: str, function: Callable[[float], float]) -> Nested:
    flat, shape = as_numbers(x, name)
    return nest([function(value) for value in flat], shape)


def element_sigmoid(x: float) -> float:
    e = exp(-abs(x))
    return e / (1 + e) if x < 0 else 1 / (1 + e)


def element_softplus(x: float) -> float:
    """log(1 + e^x); x itself where that is infinite."""
    return max(x, 0.0) + math.log1p(exp(-abs(x))) if x == x else x


def element_logit(p: float) -> float:
    if not 0 < p < 1:
        return -math.inf if p == 0 else math.inf if p == 1 else math.nan
    # 2 p - 1 is exact in the middle, where the difference of the logarithms would cancel
    return 2 * math.atanh(2 * p - 1) if 0.25 <= p <= 0.75 else math.log(p) - math.log1p(-p)


def sigmoid(x: Nested) -> Nested:
    """Logistic sigmoid, 1 / (1 + exp(-x)), of each element, as `scipy.special.expit` has it.

    Returns a float, or nested lists of the shape of x.

    Examples
    --------
    >>> sigmoid([0.0, -800.0, 800.0])
    [0.5, 0.0, 1.0]
    """
    return map_elements(x, "x", element_sigmoid)


def log_sigmoid(x: Nested) -> Nested:
    """Logarithm of the sigmoid of each element, as `scipy.special.log_expit` has it.

    Examples
    --------
    >>> log_sigmoid([-800.0, 40.0])
    [-800.0, -4.248354255291589e-18]
    """
    return map_elements(x, "x", lambda v: -element_softplus(-v))


def logit(p: Nested) -> Nested:
    """Log odds, log(p / (1 - p)), of each element, as `scipy.special.logit` has it; NaN outside [0, 1].

    Examples
    --------
    >>> logit([0.0, 0.5, 1.0])
    [-inf, 0.0, inf]
    """
    return map_elements(p, "p", element_logit)


def surprisal(p: Nested, *, base: float | None = None) -> Nested:
    """Surprisal, -log(p), of each element: in nats, or to a base (2: in bits). inf for 0, NaN for NaN.

    Besides the module's errors: ValueError for a negative or infinite element, naming the first, and for a base that
    is not positive or is 1; TypeError for a base that is no number.

    Examples
    --------
    >>> surprisal([1.0, 0.5, 0.0], base=2)
    [0.0, 1.0, inf]
    """
    if base is not None:
        if isinstance(base, bool) or not isinstance(base, Real):
            raise TypeError(f"base must be a number, not {base!r}")
        if not (0 < base < math.inf and base != 1):
            raise ValueError(f"base must be positive, finite and not 1, not {base!r}")
    flat, shape = as_numbers(p, "p")
    for i, value in enumerate(flat):
        if value < 0 or value == math.inf:
            raise ValueError(f"p{place_of(i, shape)} is {value!r}, outside [0, inf)")

    def of(value: float) -> float:
        if base is None:
            return 0.0 - math.log(value) if value else math.inf
        if not value:
            return math.inf if base > 1 else -math.inf
        return 0.0 - (math.log2(value) if base == 2 else math.log(value) / math.log(base))

    return nest([of(value) for value in flat], shape)
