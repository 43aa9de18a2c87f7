"""The oracle: public functions in plain Python, slow and exact, with the same names and meanings.

The tests hold the compiled kernels to these functions, so nothing here shares a line with them: only the
standard library is used, and nothing of the package. Inputs are nested lists or tuples of numbers, or
anything with ``tolist()`` (NumPy arrays, CPU tensors); outputs are nested lists of floats, or one float. All
of it is in double precision, however the input was stored: sums over a row are correctly rounded
(``math.fsum``), sums and means over rows are exact rationals, rounded once.

Everywhere: TypeError where elements are not real numbers (labels: integers) or an axis is no integer;
ValueError where lists are ragged, shapes don't fit, or an axis is out of range or given twice.
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, NamedTuple

__all__ = ["cross_entropy", "evaluate", "log_softmax", "logsumexp", "softmax"]

Nested = Any  # a number, or nested lists of numbers, or an array: the type checker can't say it more narrowly
Axes = int | tuple[int, ...] | None
_UNIT_BITS = 1074  # every finite double is a whole multiple of 2**-1074


# ---- The public functions ----


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
    flat, shape = _numbers(a, "a")
    shape = shape or (1,)
    axes = _axes(axis, len(shape))
    kept = [i for i in range(len(shape)) if i not in axes]
    within = _offsets(shape, axes)
    values = [_row_logsumexp([flat[start + step] for step in within]) for start in _offsets(shape, kept)]
    if keepdims:
        return _nest(values, [1 if i in axes else n for i, n in enumerate(shape)])
    return _nest(values, [shape[i] for i in kept])


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
    return _map_rows(x, axis, _row_softmax)


def log_softmax(x: Nested, axis: Axes = None) -> Nested:
    """Logarithm of softmax over the axes (None: all), as `scipy.special.log_softmax` has it.

    Returns and raises as `softmax` does, but for a row with a +inf (and no NaN): each +inf gives NaN and
    everything else -inf: so SciPy 1.17 has it, while PyTorch gives all NaN.

    Examples
    --------
    >>> log_softmax([40.0, 0.0])
    [-4.248354255291589e-18, -40.0]
    """
    return _map_rows(x, axis, _row_log_softmax)


def cross_entropy(
    logits: Nested,
    target: Nested,
    weight: Nested = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    invalid: str = "raise",
    empty: str = "nan",
) -> Nested:
    """Cross-entropy of logits against integer labels, as `torch.nn.functional.cross_entropy` has it.

    A row that is ignored, left out for a bad label, or whose label has weight 0 counts nothing, whatever its
    logits: it is 0 under "none" and in no sum. (PyTorch gives NaN for weight 0 times an infinite loss.)

    Parameters
    ----------
    logits : array_like, (C,), (N, C) or (N, C, d1, ...)
    target : array_like of integers or bools, the shape of logits without the class axis
    weight : array_like, (C,): a factor for each class, optional
    axis : int, the class axis: 1 unless given, 0 for one dimension
    ignore_index : int, rows with this label are left out; it may lie outside [0, C), or inside
    reduction : "mean" (divides by the sum of the weights of the labels used), "sum" or "none"
    invalid : "raise" or "ignore", what to do about a label outside [0, C)
    empty : "nan", "zero" or "raise" (ValueError), what the mean over no row gives

    Returns
    -------
    float, or for "none" nested lists of the shape of target
        In nats. +inf for a label whose logit is -inf; NaN for a row with a NaN, a +inf or nothing but -inf.

    Raises
    ------
    ValueError
        Besides the module's errors: there is no class, or an unknown option.
    IndexError
        A label outside [0, C) with ``invalid="raise"``; names the place of the first.

    Examples
    --------
    >>> cross_entropy([[0.0, 40.0], [0.0, 0.0], [0.0, 0.0]], [1, 0, -100], reduction="none")
    [4.248354255291589e-18, 0.6931471805599453, 0.0]
    >>> cross_entropy([0.0, 0.0, 0.0], 3)
    Traceback (most recent call last):
    IndexError: target is 3, outside [0, 3)
    """
    _check_option("reduction", reduction, ("none", "mean", "sum"))
    _check_option("invalid", invalid, ("raise", "ignore"))
    _check_option("empty", empty, ("nan", "zero", "raise"))
    ignore_index = operator.index(ignore_index)

    flat, shape = _numbers(logits, "logits")
    if not shape:
        raise ValueError("logits must have a class axis, not shape ()")
    class_axis = _axis(min(1, len(shape) - 1) if axis is None else axis, len(shape))
    classes = shape[class_axis]
    if classes == 0:
        raise ValueError(f"logits of shape {shape} have no class along axis {class_axis}")
    others = [i for i in range(len(shape)) if i != class_axis]
    label_shape = tuple(shape[i] for i in others)
    labels = _labels(target, "target", label_shape)
    factors = [1.0] * classes
    if weight is not None:
        factors, weight_shape = _numbers(weight, "weight")
        if weight_shape != (classes,):
            raise ValueError(f"weight must have shape ({classes},), not {weight_shape}")
    for i, label in enumerate(labels):
        if invalid == "raise" and label != ignore_index and not 0 <= label < classes:
            raise IndexError(f"target{_place(i, label_shape)} is {label}, outside [0, {classes})")

    within = _offsets(shape, [class_axis])
    losses, divisors = [], []
    for start, label in zip(_offsets(shape, others), labels, strict=True):
        if label == ignore_index or not 0 <= label < classes or factors[label] == 0:
            losses.append(0.0)
        else:
            loss = _row_loss([flat[start + step] for step in within], label)
            losses.append(factors[label] * loss)
            divisors.append(factors[label])

    if reduction == "none":
        return _nest(losses, label_shape)
    if reduction == "sum":
        return _sum(losses)
    if divisors:
        return _quotient(losses, divisors)
    if empty == "raise":
        raise ValueError("the mean is over no row: all are ignored or have weight 0, or there is none")
    return 0.0 if empty == "zero" else math.nan


def evaluate(
    logits: Nested, labels: Nested, *, topk: Iterable[int] = (1, 5), bins: int = 15, ignore_index: int = -100
) -> dict[str, Any]:
    """Evaluate one model's logits (N, C) against labels (N,): loss, hits and calibration.

    Left out and counted, each row once and in this order: ignored labels, labels outside [0, C) (invalid),
    rows with a NaN, a +inf or nothing but -inf (nonfinite). Means are over the rest (used), NaN over no row.

    Returns
    -------
    dict
        Counts: rows, used, ignored, invalid, nonfinite, and infinite (used rows whose loss is +inf). Loss in
        nats: cross_entropy, bits, perplexity, z_loss (mean lse**2), accuracy_bound (exp of minus the loss),
        expected_accuracy (mean probability of the label). Hits, the first among equals before the next:
        accuracy, topk ({k: share}), mean_rank (0 is best), mean_reciprocal_rank (of rank + 1). Confidence:
        entropy, brier, ece, mce, and reliability, for each of the equal-width bins of the largest probability
        a dict of lower, upper, count, confidence and accuracy. Standard errors of means: <name>_stderr.

    Raises
    ------
    ValueError
        Besides the module's errors: there is no class; a k or a number of bins is below 1.

    Examples
    --------
    >>> report = evaluate([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0, 1, -100])
    >>> report["used"], report["accuracy"], report["topk"]
    (2, 0.5, {1: 0.5, 5: 1.0})
    """
    ks = [operator.index(k) for k in topk]
    bins = operator.index(bins)
    ignore_index = operator.index(ignore_index)
    if bins < 1 or any(k < 1 for k in ks):
        raise ValueError(f"bins and every k must be at least 1, not bins={bins}, topk={tuple(ks)}")
    flat, shape = _numbers(logits, "logits")
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"logits must have shape (N, C) with at least one class, not {shape}")
    rows, classes = shape
    counts = {"rows": rows, "used": 0, "ignored": 0, "invalid": 0, "nonfinite": 0}
    scores = []
    for i, label in enumerate(_labels(labels, "labels", (rows,))):
        row = flat[i * classes : (i + 1) * classes]
        if label == ignore_index:
            counts["ignored"] += 1
        elif not 0 <= label < classes:
            counts["invalid"] += 1
        elif not _has_softmax(row):
            counts["nonfinite"] += 1
        else:
            counts["used"] += 1
            scores.append(_score(row, label))

    losses, hits = [s.loss for s in scores], [s.hit for s in scores]
    loss, loss_stderr = _mean(losses), _stderr(losses)
    perplexity = _exp(loss)
    reliability, ece, mce = _calibration(scores, bins)
    return {
        **counts,
        "infinite": losses.count(math.inf),
        "cross_entropy": loss,
        "cross_entropy_stderr": loss_stderr,
        "bits": loss / math.log(2.0),
        "perplexity": perplexity,
        "perplexity_stderr": perplexity * loss_stderr,
        "z_loss": _mean([s.lse * s.lse for s in scores]),
        "accuracy_bound": math.exp(-loss),
        "expected_accuracy": _mean([s.probability for s in scores]),
        "accuracy": _mean(hits),
        "accuracy_stderr": _stderr(hits),
        "topk": {k: _mean([float(s.rank < k) for s in scores]) for k in ks},
        "mean_rank": _mean([float(s.rank) for s in scores]),
        "mean_reciprocal_rank": _mean([1.0 / (s.rank + 1) for s in scores]),
        "entropy": _mean([s.entropy for s in scores]),
        "brier": _mean([s.brier for s in scores]),
        "ece": ece,
        "mce": mce,
        "reliability": reliability,
    }


# ---- One row ----


class _Score(NamedTuple):
    """What `evaluate` keeps of one row."""

    loss: float
    lse: float
    probability: float  # of the label
    confidence: float  # the largest probability
    entropy: float
    brier: float
    rank: int
    hit: float


def _has_softmax(row: Sequence[float]) -> bool:
    return not any(map(math.isnan, row)) and math.isfinite(max(row))


def _exp_difference(x: float, top: float) -> float:
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


def _terms(row: Sequence[float]) -> tuple[float, list[float], float]:
    """The largest element, exp(x - largest) of all, and the sum of these without one largest term.

    Of several equally large elements any may be left out: the sum is the same.
    """
    top = max(row)
    terms = [_exp_difference(x, top) for x in row]
    peak = row.index(top)
    return top, terms, math.fsum(terms[:peak] + terms[peak + 1 :])


def _surprise(x: float, top: float, rest: float) -> float:
    """lse - x: no term is negative, so confident rows keep all their digits (their rest may be e^-40)."""
    try:
        return math.fsum((top, -x, math.log1p(rest)))
    except OverflowError:  # top - x is beyond the largest double
        return math.inf


def _row_logsumexp(row: Sequence[float]) -> float:
    if any(map(math.isnan, row)):
        return math.nan
    top = max(row, default=-math.inf)
    if math.isinf(top):
        return top
    top, _, rest = _terms(row)
    return top + math.log1p(rest)


def _row_softmax(row: Sequence[float]) -> list[float]:
    if not _has_softmax(row):
        return [math.nan] * len(row)
    terms = _terms(row)[1]
    total = math.fsum(terms)
    return [term / total for term in terms]


def _row_log_softmax(row: Sequence[float]) -> list[float]:
    if _has_softmax(row):
        top, _, rest = _terms(row)
        return [0.0 - _surprise(x, top, rest) for x in row]  # 0.0 - 0.0 is 0.0, as SciPy gives it, not -0.0
    if any(map(math.isnan, row)) or max(row) < 0:
        return [math.nan] * len(row)
    return [math.nan if x == math.inf else -math.inf for x in row]


def _row_loss(row: Sequence[float], label: int) -> float:
    if not _has_softmax(row):
        return math.nan
    top, _, rest = _terms(row)
    return _surprise(row[label], top, rest)


def _score(row: Sequence[float], label: int) -> _Score:
    x, p = row[label], _row_softmax(row)
    top, terms, rest = _terms(row)
    # 1 - p[label] as the others' sum, for 1 - p would cancel in a confident row.
    others = math.fsum(terms[:label] + terms[label + 1 :]) / math.fsum(terms)
    squares = [others * others] + [q * q for j, q in enumerate(p) if j != label]
    rank = sum(y > x for y in row) + sum(y == x for y in row[:label])
    return _Score(
        loss=_surprise(x, top, rest),
        lse=top + math.log1p(rest),
        probability=p[label],
        confidence=max(p),
        entropy=math.fsum(q * _surprise(y, top, rest) for q, y in zip(p, row, strict=True) if q > 0),
        brier=math.fsum(squares),
        rank=rank,
        hit=float(rank == 0),
    )


# ---- Over the rows ----


def _exact(values: Sequence[float], power: int = 1) -> Fraction:
    """The sum of finite values, or of their powers, as a rational."""
    total = 0
    for value in values:
        n, d = value.as_integer_ratio()
        total += (n << (_UNIT_BITS + 1 - d.bit_length())) ** power  # d is a power of two
    return Fraction(total, 1 << (_UNIT_BITS * power))


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _sum(values: Sequence[float]) -> float:
    special = [v for v in values if not math.isfinite(v)]
    return sum(special) if special else _rounded(_exact(values))


def _quotient(values: Sequence[float], divisors: Sequence[float]) -> float:
    """sum(values) / sum(divisors), rounded once; infinities, NaN and a divisor of 0 as IEEE 754 has them."""
    if all(map(math.isfinite, values)) and all(map(math.isfinite, divisors)):
        divisor = _exact(divisors)
        if divisor != 0:
            return _rounded(_exact(values) / divisor)
    top, bottom = _sum(values), _sum(divisors)
    return top / bottom if bottom != 0 else top * math.inf  # 0 * inf is NaN, as 0 / 0 is


def _mean(values: Sequence[float]) -> float:
    return _quotient(values, [1.0] * len(values)) if values else math.nan


def _stderr(values: Sequence[float]) -> float:
    """Standard error of the mean, sqrt((E[x^2] - E[x]^2) / (n - 1))."""
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return math.nan
    variance = _exact(values, 2) / n - (_exact(values) / n) ** 2
    return math.sqrt(_rounded(variance / (n - 1)))


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _calibration(scores: Sequence[_Score], bins: int) -> tuple[list[dict[str, float]], float, float]:
    """The reliability table, the expected and the maximum calibration error."""
    members: list[list[_Score]] = [[] for _ in range(bins)]
    for score in scores:
        members[min(int(score.confidence * bins), bins - 1)].append(score)
    table = []
    gaps = []  # |hits - sum of confidences| of each bin
    for i, group in enumerate(members):
        confidences = [s.confidence for s in group]
        hits = [s.hit for s in group]
        gaps.append(abs(_exact(hits) - _exact(confidences)))
        means = {"confidence": _mean(confidences), "accuracy": _mean(hits)}
        table.append({"lower": i / bins, "upper": (i + 1) / bins, "count": len(group), **means})
    if not scores:
        return table, math.nan, math.nan
    largest = max(gap / len(group) for gap, group in zip(gaps, members, strict=True) if group)
    return table, _rounded(sum(gaps, Fraction(0)) / len(scores)), _rounded(largest)


# ---- Shapes and arguments ----


def _walk(a: Nested, name: str) -> tuple[list[Any], tuple[int, ...]]:
    """The elements in C order, and the shape."""
    # tolist() of an array of shape (0, 3) is [], so the array's own word on its shape is taken.
    declared = getattr(a, "shape", None)
    if hasattr(a, "tolist"):
        a = a.tolist()
    if not isinstance(a, list | tuple):
        return [a], ()
    flat: list[Any] = []
    inner: tuple[int, ...] | None = None
    for item in a:
        values, shape = _walk(item, name)
        if inner is not None and shape != inner:
            raise ValueError(f"{name} is ragged: parts of shapes {inner} and {shape} stand side by side")
        inner = shape
        flat += values
    return flat, tuple(declared) if declared is not None else (len(a), *(inner or ()))


def _numbers(a: Nested, name: str) -> tuple[list[float], tuple[int, ...]]:
    flat, shape = _walk(a, name)
    for value in flat:
        if not isinstance(value, Real):
            raise TypeError(f"{name} must hold real numbers, not {value!r}")
    return [float(value) for value in flat], shape


def _labels(a: Nested, name: str, expected: tuple[int, ...]) -> list[int]:
    """Labels as Python's integers, which are exact: uint64 2**64 - 100 stays what it is."""
    flat, shape = _walk(a, name)
    for value in flat:
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must hold integers, not {value!r}")
    if shape != expected:
        raise ValueError(f"{name} must have shape {expected}, not {shape}")
    return [int(value) for value in flat]


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _axis(axis: int, ndim: int) -> int:
    """The axis counted from the front. A scalar has axis 0, as in NumPy's reductions."""
    if isinstance(axis, bool):
        raise TypeError("axis must be an integer, not a bool")
    index = operator.index(axis)
    ndim = max(ndim, 1)
    if not -ndim <= index < ndim:
        raise ValueError(f"axis {index} is out of bounds for {ndim} dimensions")
    return index % ndim


def _axes(axis: Axes, ndim: int) -> list[int]:
    if axis is None:
        return list(range(ndim))
    axes = sorted(_axis(i, ndim) for i in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) < len(axes):
        raise ValueError(f"duplicate value in axis {axis}")
    return axes[:ndim]  # none for a scalar


def _offsets(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Places in the flat list of all the index combinations along the axes, in C order, other indices 0."""
    places = [0]
    for axis in axes:
        stride = math.prod(shape[axis + 1 :])
        places = [place + i * stride for place in places for i in range(shape[axis])]
    return places


def _map_rows(x: Nested, axis: Axes, row: Callable[[list[float]], list[float]]) -> Nested:
    """Apply a function that keeps the length to every row along the axes."""
    flat, shape = _numbers(x, "x")
    axes = _axes(axis, len(shape))
    within = _offsets(shape, axes)
    if not within:
        raise ValueError(f"x of shape {shape} has no element along axis {axis}")
    out = [math.nan] * len(flat)
    for start in _offsets(shape, [i for i in range(len(shape)) if i not in axes]):
        for step, value in zip(within, row([flat[start + step] for step in within]), strict=True):
            out[start + step] = value
    return _nest(out, shape)


def _nest(flat: Sequence[float], shape: Sequence[int]) -> Nested:
    if not shape:
        return flat[0]
    size = math.prod(shape[1:])
    return [_nest(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def _place(index: int, shape: Sequence[int]) -> str:
    """A place as a user would write it: "[3, 7]"; nothing for a scalar."""
    indices: list[int] = []
    for n in reversed(shape):
        index, i = divmod(index, n)
        indices.insert(0, i)
    return str(indices) if indices else ""
