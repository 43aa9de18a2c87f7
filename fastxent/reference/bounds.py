"""A model against what is known of another: its largest probabilities."""

import itertools
import math
from collections.abc import Iterable, Sequence

from fastxent.reference.rows import row_softmax


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
