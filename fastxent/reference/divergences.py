"""Measures of distributions.

The sums are formed in 60 digits (``decimal``), for the terms of a divergence cancel all but completely where two
distributions are nearly equal, and rounded once.
"""

import math
from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Any

from fastxent.reference.arrays import Nested, as_axis, as_numbers, check_option, nest, offsets, place_of
from fastxent.reference.rows import has_softmax
from fastxent.reference.sums import exact_mean, exact_sum

DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)
REDUCTIONS = ("none", "mean", "sum", "batchmean")

Distribution = Sequence[Decimal | None]  # log p of each class; None for p = 0
Measure = Callable[..., Decimal]


def entropy(p: Nested, *, axis: int = -1, base: float | None = None, reduction: str = "none") -> Nested:
    """Shannon entropy along the axis of probabilities or counts: rows are divided by their sums.

    Arguments as `entropy_with_logits` has them. NaN for a row with a NaN, or that sums to 0.

    Raises
    ------
    ValueError
        Besides the module's errors: a negative or infinite entry; names the place of the first.

    Examples
    --------
    >>> entropy([[1, 1, 2], [0, 5, 0]], base=2)
    [1.5, 0.0]
    """
    return _measured((p,), ("p",), _log_shares, _entropy, axis, base, reduction)


def kl_divergence(
    p: Nested, q: Nested, *, axis: int = -1, base: float | None = None, reduction: str = "none"
) -> Nested:
    """Kullback-Leibler divergence of probabilities or counts: the rows of both are divided by their sums.

    Errors and NaN as `entropy` has them; q = 0 < p gives +inf.

    Examples
    --------
    >>> kl_divergence([1.0, 1.0], [[3.0, 3.0], [1.0, 0.0]])
    [0.0, inf]
    """
    return _measured((p, q), ("p", "q"), _log_shares, _kl, axis, base, reduction)


def js_divergence(
    p: Nested, q: Nested, *, axis: int = -1, base: float | None = None, reduction: str = "none"
) -> Nested:
    """Jensen-Shannon divergence of probabilities or counts; otherwise as `kl_divergence`.

    Examples
    --------
    >>> js_divergence([1.0, 0.0], [0.0, 1.0], base=2)
    1.0
    """
    return _measured((p, q), ("p", "q"), _log_shares, _js, axis, base, reduction)


def entropy_with_logits(
    logits: Nested, *, axis: int = -1, base: float | None = None, reduction: str = "none"
) -> Nested:
    """Shannon entropy of softmax distributions along the axis: ``-sum(p log p)``, 0 log 0 = 0.

    Parameters
    ----------
    logits : array_like of at least one dimension
    axis : int, the class axis
    base : number above 1, of the logarithm; None is e
    reduction : "none", "sum", or "mean" or "batchmean", which both divide by the number of rows

    Returns
    -------
    float or nested lists
        NaN for a row with a NaN or a +inf or of nothing but -inf.

    Examples
    --------
    >>> entropy_with_logits([[0.0, 0.0], [0.0, float("-inf")]], base=2)
    [1.0, 0.0]
    """
    return _measured((logits,), ("logits",), _log_softmax, _entropy, axis, base, reduction)


def kl_divergence_with_logits(
    p_logits: Nested,
    q_logits: Nested,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: str = "none",
    temperature: float = 1.0,
) -> Nested:
    """Kullback-Leibler divergence of two softmax distributions: ``sum(p log(p / q))``.

    The shapes broadcast, but for the class axis. Both logits are divided by the temperature, rounded to double. A class
    of probability 0 under P counts nothing, one under Q alone makes it +inf. NaN as in `entropy_with_logits`.

    Raises
    ------
    ValueError
        Besides the module's errors: other numbers of classes, a temperature that is not above 0 and finite, a base that
        is not above 1 and finite, an unknown reduction.

    Examples
    --------
    >>> kl_divergence_with_logits([0.0, 0.0], [[0.0, 0.0], [0.0, float("-inf")]])
    [0.0, inf]
    """
    sides, names = _tempered(p_logits, q_logits, temperature)
    return _measured(sides, names, _log_softmax, _kl, axis, base, reduction)


def js_divergence_with_logits(
    p_logits: Nested,
    q_logits: Nested,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: str = "none",
    temperature: float = 1.0,
) -> Nested:
    """Jensen-Shannon divergence of two softmax distributions: the mean of KL(P||M) and KL(Q||M), M = (P + Q) / 2.

    Arguments and errors as `kl_divergence_with_logits` has them.

    Examples
    --------
    >>> js_divergence_with_logits([0.0, float("-inf")], [float("-inf"), 0.0], base=2)
    1.0
    """
    sides, names = _tempered(p_logits, q_logits, temperature)
    return _measured(sides, names, _log_softmax, _js, axis, base, reduction)


def _tempered(p: Nested, q: Nested, temperature: float) -> tuple[tuple[Any, ...], tuple[str, str]]:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, not {temperature!r}")
    names = ("p_logits", "q_logits")
    return tuple(_scaled(x, name, temperature) for x, name in zip((p, q), names, strict=True)), names


def _scaled(x: Nested, name: str, temperature: float) -> Nested:
    flat, shape = as_numbers(x, name)
    return _Flat([value / temperature for value in flat], shape)


class _Flat:
    """Numbers with their shape, as an argument that `as_numbers` takes."""

    def __init__(self, flat: list[float], shape: tuple[int, ...]) -> None:
        self.flat, self.shape = flat, shape

    def tolist(self) -> Nested:
        return nest(self.flat, self.shape) if self.flat or not self.shape else []


def _log_softmax(row: Sequence[float]) -> Distribution | None:
    """log p of each class; None where the row is no distribution."""
    if not row or not has_softmax(row):
        return None
    # less the largest first: at an offset of 1e300 no digit of a logarithm would be left
    top = Decimal(max(row))
    gaps = [None if x == -math.inf else Decimal(x) - top for x in row]
    peak = row.index(max(row))
    rest = sum((x.exp() for i, x in enumerate(gaps) if x is not None and i != peak), Decimal(0))
    return [None if x is None else x - _log1p(rest) for x in gaps]


def _log_shares(row: Sequence[float]) -> Distribution | None:
    """log p of each class; None where the row is no distribution."""
    if any(map(math.isnan, row)) or not any(row):
        return None
    top = Decimal(max(row))
    peak = row.index(max(row))
    rest = sum((Decimal(x) for i, x in enumerate(row) if i != peak), Decimal(0)) / top
    return [None if x == 0 else (Decimal(x) / top).ln() - _log1p(rest) for x in row]


def _log1p(x: Decimal) -> Decimal:
    """log(1 + x), x >= 0: the series to 60 digits where 1 + x would lose x."""
    return x - x * x / 2 + x * x * x / 3 if x < Decimal("1e-20") else (1 + x).ln()


def _exp(log_p: Decimal | None) -> Decimal:
    return Decimal(0) if log_p is None else log_p.exp()


def _entropy(p: Distribution) -> Decimal:
    return sum((-x * x.exp() for x in p if x is not None), Decimal(0))


def _kl(p: Distribution, q: Distribution) -> Decimal:
    pairs = [(x, y) for x, y in zip(p, q, strict=True) if x is not None]
    if any(y is None for _, y in pairs):
        return Decimal("Infinity")
    return sum((x.exp() * (x - y) for x, y in pairs if y is not None), Decimal(0))


def _js(p: Distribution, q: Distribution) -> Decimal:
    sums = [_exp(x) + _exp(y) for x, y in zip(p, q, strict=True)]
    middle = [None if s == 0 else s.ln() - Decimal(2).ln() for s in sums]
    # a probability that is 0 in 60 digits and all their exponents is masked
    sides = ([None if m is None else x for x, m in zip(side, middle, strict=True)] for side in (p, q))
    return sum((_kl(side, middle) for side in sides), Decimal(0)) / 2


def _measured(
    sides: Sequence[Nested],
    names: Sequence[str],
    distribution: Callable[[Sequence[float]], Distribution | None],
    measure: Measure,
    axis: int,
    base: float | None,
    reduction: str,
) -> Nested:
    """A measure of the rows along the axis of one array, or of the rows of two that are broadcast."""
    check_option("reduction", reduction, REDUCTIONS)
    if base is not None and not 1 < base < math.inf:
        raise ValueError(f"base must be above 1 and finite, not {base!r}")
    arrays = [as_numbers(x, name) for x, name in zip(sides, names, strict=True)]
    if any(not shape for _, shape in arrays):
        raise ValueError("there must be a class axis")
    if distribution is _log_shares:
        for name, (flat, own) in zip(names, arrays, strict=True):
            for i, value in enumerate(flat):
                if value < 0 or value == math.inf:
                    raise ValueError(f"{name}{place_of(i, own)} is {value}, neither finite nor non-negative")
    shape, flats = _broadcast(arrays)
    class_axis = as_axis(axis, len(shape))
    if len({s[class_axis - len(shape)] if class_axis - len(shape) >= -len(s) else None for _, s in arrays}) > 1:
        raise ValueError(f"{' and '.join(names)} have other numbers of classes: {[s for _, s in arrays]}")
    within = offsets(shape, [class_axis])
    others = [i for i in range(len(shape)) if i != class_axis]
    values = []
    with localcontext(DIGITS):
        unit = Decimal(1) if base is None else Decimal(base).ln()
        for start in offsets(shape, others):
            rows = [distribution([flat[start + step] for step in within]) for flat in flats]
            sound = [row for row in rows if row is not None]
            values.append(max(0.0, float(measure(*sound) / unit)) if len(sound) == len(rows) else math.nan)
    if reduction == "none":
        return nest(values, [shape[i] for i in others])
    return exact_sum(values) if reduction == "sum" else exact_mean(values)


def _broadcast(
    arrays: Sequence[tuple[list[float], tuple[int, ...]]],
) -> tuple[tuple[int, ...], list[list[float]]]:
    """Arrays brought to one shape, as NumPy broadcasts them."""
    ndim = max(len(shape) for _, shape in arrays)
    padded = [(1,) * (ndim - len(shape)) + shape for _, shape in arrays]
    common = []
    for lengths in zip(*padded, strict=True):
        longest = {n for n in lengths if n != 1} or {1}
        if len(longest) > 1:
            raise ValueError(f"shapes {[shape for _, shape in arrays]} do not broadcast")
        common.append(longest.pop())
    out = []
    for (flat, _), shape in zip(arrays, padded, strict=True):
        places = [0]
        for i, n in enumerate(common):
            step = math.prod(shape[i + 1 :]) if shape[i] > 1 else 0
            places = [place + k * step for place in places for k in range(n)]
        out.append([flat[place] for place in places])
    return tuple(common), out
