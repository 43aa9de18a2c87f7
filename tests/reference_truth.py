"""What the oracle is held to: hard rows, their values at 60 digits, comparison with other libraries' results."""

import math
import random

import mpmath
import numpy as np

INF, NAN = math.inf, math.nan
SPECIAL_ROWS = [
    [0.0],
    [-INF],
    [INF],
    [NAN],
    [0.0, -INF],
    [-INF, -INF],
    [INF, 0.0],
    [INF, -INF, 1.0],
    [INF, INF, 0.0],
    [NAN, 0.0, 1.0],
    [NAN, INF, -INF],
    [1.0, NAN, -INF],
    [1.0, INF, NAN],
    [-1e300, 1e300, 0.0],
    [-1.7e308, 1.7e308],
    [1e308, 1e308],
    [3.0, 3.0, 3.0],
    [-0.0, -800.0],
]


def rows_for_accuracy():
    """Rows of every hard kind: flat, peaked, tied, masked, far from 0, long tails, log-sum-exp near 0."""
    rng = random.Random(5)
    rows = []
    for c in (1, 2, 3, 50, 1000):
        plain = [rng.gauss(0, 3) for _ in range(c)]
        rows.append(plain)
        rows.append([x + 1e4 for x in plain])
        rows.append([x - 1e4 for x in plain])
        rows.append([x * 1e-9 for x in plain])
        rows.append([40.0 + plain[0] / 8, *plain[1:]])
        rows.append([max(plain)] * 2 + plain)
        rows.append([-INF, *plain, -INF])
        rows.append([rng.uniform(-700, 0) for _ in range(c)] + [0.1])
        rows.append([0.0] + [rng.uniform(-100, -36) for _ in range(c)])
        # The differences to the largest one are no doubles: their rounding must not reach the tails.
        rows.append([0.3 - rng.random() * 300 for _ in range(c)] + [401.7])
    rows.append([1e300, -1e300, 1e300])
    return rows


def truth(row):
    """Of a row at 60 digits: log-sum-exp, and per element the loss lse - x and the probability.

    The largest one's loss is log1p of the other terms, for they may be far below the 60th digit of 1.
    """
    with mpmath.workdps(60):
        top = mpmath.mpf(max(row))
        terms = [mpmath.exp(mpmath.mpf(x) - top) for x in row]
        peak = row.index(max(row))
        least = mpmath.log1p(mpmath.fsum(terms[:peak] + terms[peak + 1 :]))
        total = mpmath.fsum(terms)
        return top + least, [top - mpmath.mpf(x) + least for x in row], [t / total for t in terms]


def ulps(value, exact, floor=0.0):
    """The distance in units in the last place of max(|exact|, floor)."""
    if math.isinf(value):
        return 0.0 if value == float(exact) else INF
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(value) - exact) / math.ulp(max(abs(float(exact)), floor)))


def scipy_result(function, *args, **kwargs):
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def same(value, expected, rtol=1e-13, atol=0.0):
    np.testing.assert_allclose(np.array(value, dtype=float), expected, rtol=rtol, atol=atol, equal_nan=True)
    assert np.shape(value) == np.shape(expected)
