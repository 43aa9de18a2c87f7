"""Of columns of row values, weighted or not: means, errors, quantiles, a histogram."""

import math
from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import Any

from fastxent.reference.sums import exp, rounded

PERCENTS = ("0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9")

EDGES = [0.0] + [2.0**i for i in range(-40, -4)]
EDGES += [2.0**i * (4 + j) / 4 for i in range(-4, 8) for j in range(4)] + [256.0, math.inf]

Values = Sequence[float]


def total(values: Values, weights: Values) -> Fraction | float:
    """sum(w x), a row of weight 0 counting for nothing; a float where it is not finite."""
    some = [(x, w) for x, w in zip(values, weights, strict=True) if w]
    special = [x for x, _ in some if not math.isfinite(x)]
    return sum(special) if special else sum((Fraction(x) * Fraction(w) for x, w in some), Fraction(0))


def over(top: Fraction | float, bottom: Fraction | float) -> float:
    """A quotient, rounded once; x / 0 is infinite, 0 / 0 NaN."""
    if isinstance(top, float) or isinstance(bottom, float):
        return float(top)
    if not bottom:
        return math.inf if top else math.nan
    return rounded(top / bottom)


def mean(values: Values, weights: Values) -> float:
    """sum(w x) / sum(w)."""
    return over(total(values, weights), total(weights, [1.0] * len(weights)))


def covariance(x: Values, y: Values, weights: Values) -> Fraction | None:
    """Of two means: n / (n - 1) sum(w^2 (x - mean) (y - mean)) / sum(w)^2; None where there is none."""
    some = [(Fraction(w), a, b) for w, a, b in zip(weights, x, y, strict=True) if w]
    n = len(some)
    if n < 2 or not all(math.isfinite(a) and math.isfinite(b) for _, a, b in some):
        return None
    exact = [(w, Fraction(a), Fraction(b)) for w, a, b in some]
    all_w = sum((w for w, _, _ in exact), Fraction(0))
    mean_x = sum((w * a for w, a, _ in exact), Fraction(0)) / all_w
    mean_y = sum((w * b for w, _, b in exact), Fraction(0)) / all_w
    products = sum((w * w * (a - mean_x) * (b - mean_y) for w, a, b in exact), Fraction(0))
    return products * n / ((n - 1) * all_w * all_w)


def root(x: Fraction | None) -> float:
    return math.nan if x is None else math.sqrt(rounded(x))


def error(values: Values, weights: Values) -> float:
    """The standard error of a mean, for independent rows."""
    return root(covariance(values, values, weights))


def cluster_error(values: Values, weights: Values, keys: Sequence[Hashable]) -> float:
    """The same for rows that are independent between groups only: sqrt(G / (G - 1) sum(e_g^2)) / sum(w)."""
    some = [(Fraction(w), x, key) for w, x, key in zip(weights, values, keys, strict=True) if w]
    if not all(math.isfinite(x) for _, x, _ in some):
        return math.nan
    all_w = sum((w for w, _, _ in some), Fraction(0))
    g = len({key for _, _, key in some})
    if g < 2:
        return math.nan
    average = sum((w * Fraction(x) for w, x, _ in some), Fraction(0)) / all_w
    e: dict[Hashable, Fraction] = {}
    for w, x, key in some:
        e[key] = e.get(key, Fraction(0)) + w * (Fraction(x) - average)
    return root(Fraction(g, g - 1) * sum((x * x for x in e.values()), Fraction(0))) / rounded(all_w)


def quantiles(values: Values, percents: Sequence[str] = PERCENTS) -> dict[str, float]:
    """By name, "min", "0.1%" ... "max": linear between the sorted values, at fraction (n - 1)."""
    ordered = sorted(values)
    places = {"min": Fraction(0), **{f"{p}%": Fraction(p) / 100 for p in percents}, "max": Fraction(1)}
    found = {}
    for name, fraction in places.items():
        at = fraction * max(0, len(ordered) - 1)
        low = ordered[int(at)] if ordered else math.nan
        high = ordered[min(int(at) + 1, len(ordered) - 1)] if ordered else math.nan
        part = float(at - int(at))
        found[name] = low if not part or low == high or (low == -math.inf < high) else low + part * (high - low)
    return found


def histogram(values: Values) -> dict[str, Any]:
    """How many values lie from each edge to below the next, the infinite ones in the last bin."""
    counts = [0] * (len(EDGES) - 1)
    for x in values:
        counts[sum(edge <= x for edge in EDGES[1:-1])] += 1
    return {"edges": EDGES, "counts": counts}


def entropy(masses: Values) -> float:
    """Of a distribution that is given up to scale."""
    some = [m for m in masses if m > 0]
    if not some:
        return math.nan
    whole = math.fsum(some)
    return math.fsum(m / whole * math.log(whole / m) for m in some)


def information(pairs: Sequence[tuple[int, int]]) -> float:
    """Mutual information of label and prediction, in nats."""
    n = len(pairs)
    both: dict[tuple[int, int], int] = {}
    one: dict[int, int] = {}
    other: dict[int, int] = {}
    for x, y in pairs:
        both[x, y] = both.get((x, y), 0) + 1
        one[x], other[y] = one.get(x, 0) + 1, other.get(y, 0) + 1
    terms = [m / n * math.log(m * n / (one[x] * other[y])) for (x, y), m in both.items()]
    return max(0.0, math.fsum(terms)) if n else math.nan


def exp_with_error(x: float, spread: float) -> tuple[float, float]:
    """exp(x), and its error to first order."""
    return exp(x), exp(x) * spread
