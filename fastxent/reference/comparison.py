"""Two models' logits of the same rows, and a model against what is known of another."""

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from fastxent.reference.arrays import Nested, as_labels, as_numbers
from fastxent.reference.divergences import (
    entropy_with_logits,
    js_divergence_with_logits,
    kl_divergence_with_logits,
)
from fastxent.reference.rows import has_softmax, row_softmax, surprise, terms_of
from fastxent.reference.sums import exact, exact_mean, exp, rounded, stderr


def compare(
    base: Nested, other: Nested, labels: Nested | None = None, *, topk: Iterable[int] = (1, 5), ignore_index: int = -100
) -> dict[str, Any]:
    """Compare two models' logits (N, C), P and Q, with labels (N,) or without.

    Rows are left out and counted as `evaluate` does it; nonfinite are those of which either model is no distribution.

    Returns
    -------
    dict
        Counts: rows, used, ignored, invalid, nonfinite. Means with errors `<name>_stderr`: kl_mean (of KL(P || Q)),
        reverse_kl_mean, js_mean, tv_mean, same_top, entropy, entropy_base, and with labels cross_entropy,
        cross_entropy_base, delta_p_mean, accuracy, accuracy_base. kl_min, kl_max; topk_agreement ({k: {"ordered",
        "set"}}). With labels: ppl, ppl_base, log_ppl_ratio, ppl_ratio, ppl_difference with errors,
        log_ppl_correlation, delta_p_rms.

    Raises
    ------
    ValueError
        Besides the module's errors: other shapes, no class, a k below 1.

    Examples
    --------
    >>> report = compare([[0.0, 0.0]], [[0.0, 0.0]], [1])
    >>> report["kl_mean"], report["ppl"], report["same_top"]
    (0.0, 2.0, 1.0)
    """
    ks = tuple(topk)
    (p, shape), (q, other_shape) = as_numbers(base, "base"), as_numbers(other, "other")
    if len(shape) != 2 or shape[1] == 0 or other_shape != shape or any(k < 1 for k in ks):
        raise ValueError(f"base and other must be of one shape (N, C), not {shape} and {other_shape}; k from 1 on")
    n, classes = shape
    numbers = None if labels is None else as_labels(labels, "labels", (n,))
    counts = {"rows": n, "used": 0, "ignored": 0, "invalid": 0, "nonfinite": 0}
    columns: dict[Any, list[float]] = {}
    for i in range(n):
        row, against = (flat[i * classes : (i + 1) * classes] for flat in (p, q))
        label = None if numbers is None else numbers[i]
        if label == ignore_index:
            counts["ignored"] += 1
        elif label is not None and not 0 <= label < classes:
            counts["invalid"] += 1
        elif not has_softmax(row) or not has_softmax(against):
            counts["nonfinite"] += 1
        else:
            counts["used"] += 1
            for name, value in _row(row, against, label, ks).items():
                columns.setdefault(name, []).append(value)
    found: dict[str, Any] = dict(counts)
    agreement: dict[int, dict[str, float]] = {k: {} for k in ks}
    for name, values in columns.items():
        if isinstance(name, tuple):
            agreement[name[1]] |= {name[0]: exact_mean(values), f"{name[0]}_stderr": stderr(values)}
        else:
            found[name], found[f"{name}_stderr"] = exact_mean(values), stderr(values)
    if columns:
        found |= {"kl_min": min(columns["kl_mean"]), "kl_max": max(columns["kl_mean"])}
        if numbers is not None:
            found |= _perplexities(columns["cross_entropy"], columns["cross_entropy_base"])
            found["delta_p_rms"] = math.sqrt(exact_mean([d * d for d in columns["delta_p_mean"]]))
    return found | {"topk_agreement": agreement}


def _row(p: Sequence[float], q: Sequence[float], label: int | None, ks: Sequence[int]) -> dict[Any, float]:
    a, b = row_softmax(p), row_softmax(q)
    first, second = _order(p), _order(q)
    found: dict[Any, Any] = {
        "kl_mean": kl_divergence_with_logits(p, q),
        "reverse_kl_mean": kl_divergence_with_logits(q, p),
        "js_mean": js_divergence_with_logits(p, q),
        "tv_mean": math.fsum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2,
        "same_top": float(first[0] == second[0]),
        "entropy": entropy_with_logits(q),
        "entropy_base": entropy_with_logits(p),
    }
    for k in ks:
        found["ordered", k] = float(first[:k] == second[:k])
        found["set", k] = float(set(first[:k]) == set(second[:k]))
    if label is not None:
        for name, row, order in (("", q, second), ("_base", p, first)):
            top, _, rest = terms_of(row)
            found[f"cross_entropy{name}"] = surprise(row[label], top, rest)
            found[f"accuracy{name}"] = float(order[0] == label)
        found["delta_p_mean"] = b[label] - a[label]
    return found


def _order(row: Sequence[float]) -> list[int]:
    """The classes, the largest logit first and equal ones by column."""
    return sorted(range(len(row)), key=lambda j: (-row[j], j))


def _perplexities(loss: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """llama.cpp's lines; the covariance of two means is (E[x y] - E[x] E[y]) / (n - 1)."""
    ppl, ppl_base = exp(exact_mean(loss)), exp(exact_mean(base))
    found = {"ppl": ppl, "ppl_base": ppl_base}
    if not all(map(math.isfinite, (*loss, *base))):
        return found
    n = len(loss)
    ratio = rounded((exact(loss) - exact(base)) / n)
    found |= {"log_ppl_ratio": ratio, "ppl_ratio": exp(ratio), "ppl_difference": ppl - ppl_base}
    if n < 2:
        return found

    def covariance(x: Sequence[float], y: Sequence[float]) -> Fraction:
        products = sum((Fraction(a) * Fraction(b) for a, b in zip(x, y, strict=True)), Fraction(0))
        return (products / n - exact(x) / n * (exact(y) / n)) / (n - 1)

    own, own_base, both = covariance(loss, loss), covariance(base, base), covariance(loss, base)
    s, s_base = math.sqrt(rounded(own)), math.sqrt(rounded(own_base))
    a, b = Fraction(ppl), Fraction(ppl_base)
    error = math.sqrt(rounded(own + own_base - 2 * both))
    found |= {
        "ppl_stderr": ppl * s,
        "ppl_base_stderr": ppl_base * s_base,
        "log_ppl_correlation": rounded(both) / (s * s_base) if s and s_base else math.nan,
        "log_ppl_ratio_stderr": error,
        "ppl_ratio_stderr": exp(ratio) * error,
        "ppl_difference_stderr": math.sqrt(rounded(a * a * own + b * b * own_base - 2 * a * b * both)),
    }
    return found


def kl_bounds(
    topk_log_probs: Sequence[float], topk_indices: Sequence[int], q_logits: Sequence[float]
) -> tuple[float, float]:
    """Bounds of KL(P || Q) for one row, where of P the k largest probabilities are known.

    The upper one by trying every order in which the other classes could be filled, the lower one by bisection for the
    a of p = min(limit, a q).

    Examples
    --------
    >>> [round(x, 6) for x in kl_bounds([math.log(0.6), math.log(0.2)], [0, 2], [0.0] * 4)]
    [0.297394, 0.436024]
    """
    p, q = [math.exp(x) for x in topk_log_probs], row_softmax(q_logits)
    head = math.fsum(a * math.log(a / q[j]) for a, j in zip(p, topk_indices, strict=True))
    mass, limit = 1.0 - math.fsum(p), min(p)
    others = [x for j, x in enumerate(q) if j not in topk_indices]
    if mass <= 0 or not others:
        return max(0.0, head), max(0.0, head)

    def total(shares: Iterable[float], order: Sequence[float]) -> float:
        return math.fsum(a * math.log(a / x) for a, x in zip(shares, order, strict=True) if a > 0)

    n = min(int(mass / limit), len(others))
    corner = ([limit] * n + [max(0.0, mass - n * limit)] + [0.0] * len(others))[: len(others)]
    upper = max(total(corner, order) for order in itertools.permutations(others))
    low, high = 0.0, limit / min(others)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if math.fsum(min(limit, middle * x) for x in others) < mass else (low, middle)
    lower = total([min(limit, high * x) for x in others], others)
    return max(0.0, head + lower), max(0.0, head + upper)


def cross_entropy_bounds(
    topk_log_probs: Sequence[float], topk_indices: Sequence[int], q_logits: Sequence[float]
) -> tuple[float, float]:
    """Bounds of -sum p log q for one row, as `kl_bounds`, both by trying every order.

    Examples
    --------
    >>> [round(x, 6) for x in cross_entropy_bounds([math.log(0.6), math.log(0.2)], [0, 2], [2.0, 1.0, 1.0, 0.0])]
    [1.026523, 1.226523]
    """
    p, q = [math.exp(x) for x in topk_log_probs], row_softmax(q_logits)
    mass, limit = max(0.0, 1.0 - math.fsum(p)), min(p)
    others = [x for j, x in enumerate(q) if j not in topk_indices]
    n = min(int(mass / limit), len(others))
    corner = ([limit] * n + [max(0.0, mass - n * limit)] + [0.0] * len(others))[: len(others)]
    head = -math.fsum(a * math.log(q[j]) for a, j in zip(p, topk_indices, strict=True))
    rest = [
        -math.fsum(a * math.log(x) for a, x in zip(corner, order, strict=True))
        for order in itertools.permutations(others)
    ]
    return head + min(rest), head + max(rest)
