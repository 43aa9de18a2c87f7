"""A model against what is known of another: its largest probabilities."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from fastxent.reference.arrays import Nested, as_numbers, nest, walk
from fastxent.reference.rows import has_softmax, row_softmax

SLACK = 1e-3  # how far rounded probabilities may be from ones that fit together

Row = Callable[[list[float], list[int], list[float]], tuple[float, float]]


def kl_bounds(topk_log_probs: Nested, topk_indices: Nested, q_logits: Nested) -> tuple[Any, Any]:
    """Bounds of KL(P || Q), row by row, where of P the k largest probabilities are known; a class of -1 is none.

    The upper one by trying every order in which the other classes could be filled, the lower one by bisection for the
    a of p = min(limit, a q).

    Raises
    ------
    ValueError
        Besides the module's errors: shapes that do not fit, a class out of range or twice, and probabilities that do
        not go together.

    Examples
    --------
    >>> [round(x, 6) for x in kl_bounds([math.log(0.6), math.log(0.2)], [0, 2], [0.0] * 4)]
    [0.297394, 0.436024]
    """
    return _by_row(topk_log_probs, topk_indices, q_logits, _kl)


def cross_entropy_bounds(topk_log_probs: Nested, topk_indices: Nested, q_logits: Nested) -> tuple[Any, Any]:
    """Bounds of -sum p log q, as `kl_bounds`, both by trying every order.

    Examples
    --------
    >>> [round(x, 6) for x in cross_entropy_bounds([math.log(0.6), math.log(0.2)], [0, 2], [2.0, 1.0, 1.0, 0.0])]
    [1.026523, 1.226523]
    """
    return _by_row(topk_log_probs, topk_indices, q_logits, _cross_entropy)


def _by_row(log_probs: Nested, indices: Nested, logits: Nested, row: Row) -> tuple[Any, Any]:
    known, shape = as_numbers(log_probs, "topk_log_probs")
    places, places_shape = walk(indices, "topk_indices")
    x, x_shape = as_numbers(logits, "q_logits")
    if not shape or shape != places_shape or shape[:-1] != x_shape[:-1] or 0 in (shape[-1], x_shape[-1]):
        raise ValueError(f"shapes {shape}, {places_shape} and {x_shape} do not fit")
    k, c = shape[-1], x_shape[-1]
    found = []
    for i in range(math.prod(shape[:-1])):
        pairs = list(zip(known[i * k : (i + 1) * k], places[i * k : (i + 1) * k], strict=True))
        classes = [j for _, j in pairs if j != -1]
        if any(not 0 <= j < c for j in classes) or len(set(classes)) < len(classes):
            raise ValueError(f"topk_indices of row {i} are {classes}")
        if not has_softmax(x[i * c : (i + 1) * c]):
            found.append((math.nan, math.nan))
            continue
        p, q = [math.exp(log_p) for log_p, j in pairs if j != -1], row_softmax(x[i * c : (i + 1) * c])
        mass, most = 1.0 - math.fsum(p), (c - len(p)) * min(p, default=1.0)
        if not -SLACK <= mass <= most + SLACK:
            raise ValueError(f"topk_log_probs of row {i} leave {mass}, of at most {most}")
        found.append(row(p, classes, q))
    # a NaN stays where it is the first argument
    lower, upper = ([max(bound, 0.0) for bound in side] for side in (zip(*found, strict=True) if found else ((), ())))
    return nest(lower, shape[:-1]), nest(upper, shape[:-1])


def _kl(p: list[float], classes: list[int], q: list[float]) -> tuple[float, float]:
    head, others, mass, limit = _rest(p, classes, q, _kl_term)
    if mass <= 0 or not others:
        return head, head
    upper = _most(others, mass, limit, _kl_term)
    some = [x for x in others if x > 0]
    if len(some) * limit < mass * (1 - 1e-12):  # what Q rules out must have some of it
        return math.inf, math.inf
    low, high = 0.0, limit / min(some)
    while low < (middle := (low + high) / 2) < high:  # to the last bit, however far apart the q are
        low, high = (middle, high) if math.fsum(min(limit, middle * x) for x in some) < mass else (low, middle)
    return head + math.fsum(_kl_term(min(limit, high * x), x) for x in some), head + upper


def _cross_entropy(p: list[float], classes: list[int], q: list[float]) -> tuple[float, float]:
    head, others, mass, limit = _rest(p, classes, q, _loss_term)
    if mass <= 0 or not others:
        return head, head
    least = -_most(others, mass, limit, lambda a, x: -_loss_term(a, x))
    return head + least, head + _most(others, mass, limit, _loss_term)


def _kl_term(a: float, x: float) -> float:
    return 0.0 if a <= 0 else math.inf if x == 0 else a * math.log(a / x)


def _loss_term(a: float, x: float) -> float:
    return 0.0 if a <= 0 else math.inf if x == 0 else -a * math.log(x)


Term = Callable[[float, float], float]


def _rest(p: list[float], classes: list[int], q: list[float], term: Term) -> tuple[float, list[float], float, float]:
    """What the known classes add; the other ones' q; what they share, and the most that one of them can have."""
    head = math.fsum(term(a, q[j]) for a, j in zip(p, classes, strict=True))
    others = [x for j, x in enumerate(q) if j not in classes]
    mass = 1.0 - math.fsum(p)
    return head, others, mass, max(min(p, default=1.0), mass / max(1, len(others)))


def _most(others: Sequence[float], mass: float, limit: float, term: Term) -> float:
    """The largest sum over every order in which classes are filled: whole ones, one with the rest, empty ones."""
    n = min(int(mass / limit), len(others))
    corner = ([limit] * n + [max(0.0, mass - n * limit)] + [0.0] * len(others))[: len(others)]
    orders = itertools.permutations(others)
    return max(math.fsum(term(a, x) for a, x in zip(corner, order, strict=True)) for order in orders)
