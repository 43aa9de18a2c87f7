"""Over the rows: exact sums and means as rationals, rounded once."""

import math
from collections.abc import Sequence
from fractions import Fraction

UNIT_BITS = 1074  # every finite double is a whole multiple of 2**-1074


def exact(values: Sequence[float], power: int = 1) -> Fraction:
    """The sum of finite values, or of their powers, as a rational."""
    total = 0
    for value in values:
        n, d = value.as_integer_ratio()
        total += (n << (UNIT_BITS + 1 - d.bit_length())) ** power  # d is a power of two
    return Fraction(total, 1 << (UNIT_BITS * power))


def rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def exact_sum(values: Sequence[float]) -> float:
    special = [v for v in values if not math.isfinite(v)]
    return sum(special) if special else rounded(exact(values))


def quotient(values: Sequence[float], divisors: Sequence[float]) -> float:
    """sum(values) / sum(divisors), rounded once; infinities, NaN and a divisor of 0 as IEEE 754 has them."""
    if all(map(math.isfinite, values)) and all(map(math.isfinite, divisors)):
        divisor = exact(divisors)
        if divisor != 0:
            return rounded(exact(values) / divisor)
    top, bottom = exact_sum(values), exact_sum(divisors)
    return top / bottom if bottom != 0 else top * math.inf  # 0 * inf is NaN, as 0 / 0 is


def exact_mean(values: Sequence[float]) -> float:
    return quotient(values, [1.0] * len(values)) if values else math.nan


def stderr(values: Sequence[float]) -> float:
    """Standard error of the mean, sqrt((E[x^2] - E[x]^2) / (n - 1))."""
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return math.nan
    variance = exact(values, 2) / n - (exact(values) / n) ** 2
    return math.sqrt(rounded(variance / (n - 1)))


def exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
