"""One row of logits."""

import math
from collections.abc import Sequence


def has_softmax(row: Sequence[float]) -> bool:
    return not any(map(math.isnan, row)) and math.isfinite(max(row))


def exp_difference(x: float, top: float) -> float:
    """exp(x - top) for x <= top, the rounding of the difference made good.

    At x - top = -700 that rounding alone would cost up to 2**8 ULP. It is found exactly (Knuth's two-sum) and
    enters to first order, the second being below 2**-88.
    """
    d = x - top
    if d < -746.0:  # exp is 0 here, and an overflow to -inf would make the correction NaN
        return 0.0
    back = d - x
    error = (x - (d - back)) - (top + back)
    e = math.exp(d)
    return e + e * error


def terms_of(row: Sequence[float]) -> tuple[float, list[float], float]:
    """The largest element, exp(x - largest) of all, and the sum of these without one largest term.

    Of several equally large elements any may be left out: the sum is the same.
    """
    top = max(row)
    terms = [exp_difference(x, top) for x in row]
    peak = row.index(top)
    return top, terms, math.fsum(terms[:peak] + terms[peak + 1 :])


def surprise(x: float, top: float, rest: float) -> float:
    """lse - x: no term is negative, so confident rows keep all their digits (their rest may be e^-40)."""
    try:
        return math.fsum((top, -x, math.log1p(rest)))
    except OverflowError:  # top - x is beyond the largest double
        return math.inf


def row_logsumexp(row: Sequence[float]) -> float:
    if any(map(math.isnan, row)):
        return math.nan
    top = max(row, default=-math.inf)
    if math.isinf(top):
        return top
    top, _, rest = terms_of(row)
    return top + math.log1p(rest)


def row_weighted(row: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """log |sum b e^x| and the sum's sign. A weight of 0 leaves its element out, as SciPy has it.

    Near the largest element b e^d is b + b expm1(d), so that a difference of nearly equal terms keeps its digits.
    """
    counting = [(x, b) for x, b in zip(row, weights, strict=True) if b != 0]
    special = 0.0
    for x, b in counting:
        if math.isnan(x) or math.isnan(b) or (x == -math.inf and math.isinf(b)):
            special = math.nan
        elif x == math.inf or math.isinf(b):
            special += math.copysign(math.inf, b)
    top = max((x for x, _ in counting), default=-math.inf)
    total = 0.0
    if special == 0 and top > -math.inf:
        terms = []
        for x, b in counting:
            terms += [b, b * math.expm1(x - top)] if x - top > -0.5 else [b * exp_difference(x, top)]
        total = math.fsum(terms)
        if total != 0:
            size = math.fsum([-1.0, *terms]) if total > 0 else math.fsum([-1.0, *(-t for t in terms)])
            near = abs(size) < 0.5
            return top + (math.log1p(size) if near else math.log(abs(total))), math.copysign(1.0, total)
    # SciPy has 0 times infinity here
    if math.isnan(special) or any(b == 0 and not x < math.inf for x, b in zip(row, weights, strict=True)):
        return math.nan, math.nan
    return (math.inf, math.copysign(1.0, special)) if special else (-math.inf, 0.0)


def row_softmax(row: Sequence[float]) -> list[float]:
    if not has_softmax(row):
        return [math.nan] * len(row)
    terms = terms_of(row)[1]
    total = math.fsum(terms)
    return [term / total for term in terms]


def row_log_softmax(row: Sequence[float]) -> list[float]:
    if has_softmax(row):
        top, _, rest = terms_of(row)
        return [0.0 - surprise(x, top, rest) for x in row]  # 0.0 - 0.0 is 0.0, as SciPy gives it, not -0.0
    if any(map(math.isnan, row)) or max(row) < 0:
        return [math.nan] * len(row)
    return [math.nan if x == math.inf else -math.inf for x in row]


def row_surprises(row: Sequence[float]) -> list[float]:
    """lse - x for every x."""
    if not has_softmax(row):
        return [math.nan] * len(row)
    top, _, rest = terms_of(row)
    return [surprise(x, top, rest) for x in row]


def share_surprises(row: Sequence[float]) -> list[float]:
    """-log(q / sum) for every q >= 0: log1p of the others' sum over q, where q is more than half of it."""
    total = math.fsum(row)
    if math.isnan(total) or total == 0:
        return [math.nan] * len(row)
    return [
        math.inf if q == 0
        else math.log1p(math.fsum([*row, -q]) / q) if q > total / 2
        else math.log(total / q) if total / q < 1e300
        else math.log(total) - math.log(q)
        for q in row
    ]  # fmt: skip


def row_gradient(row: Sequence[float], a: Sequence[float]) -> list[float]:
    """The gradient of sum a_j (lse - x_j): s_k sum of the other a - a_k times the sum of the other s."""
    s = row_softmax(row)
    if any(map(math.isnan, s)):
        return s
    if not all(map(math.isfinite, a)):
        return [sum(a) * p - weight for p, weight in zip(s, a, strict=True)]
    out = []
    for k in range(len(row)):
        # exact but for the products: the others' sums do not cancel
        rest_a, rest_s = math.fsum([*a, -a[k]]), math.fsum(s[:k] + s[k + 1 :])
        out.append(rest_a * s[k] - a[k] * rest_s)
    return out
