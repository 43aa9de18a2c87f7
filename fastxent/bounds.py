"""Bounds of divergences from a reference of which only the largest probabilities are known, as APIs return them."""

from __future__ import annotations

from math import nan, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import as_integers, as_logits, to_numpy
from fastxent._counts import exps, logs
from fastxent._scoring.inputs import Inputs, decoded
from fastxent._threads import default_floats
from fastxent.distributions import log_softmax
from fastxent.sources.array import ArraySource

SLACK = 1e-3  # how far rounded probabilities may be from ones that fit together

Array = NDArray[np.float64]


class Bounds(NamedTuple):
    """What a number is at least and at most, row by row."""

    lower: Array
    upper: Array


def kl_bounds(topk_log_probs: ArrayLike, topk_indices: ArrayLike, q_logits: ArrayLike) -> Bounds:
    """Bounds of KL(P || Q) in nats, where of P the k largest probabilities are known and Q is known by its logits.

    Parameters
    ----------
    topk_log_probs
        Shape (..., k): logarithms of the k largest probabilities of P, in any order.
    topk_indices
        Shape (..., k): their classes; -1 for a place that is empty.
    q_logits
        Shape (..., C), along the last axis.

    Returns
    -------
    Bounds
        `lower` and `upper`, float64 of shape (...). Both are attained by some P that fits what is known, so that
        nothing narrower can be said. NaN where the logits have a NaN or are no distribution.

    Raises
    ------
    TypeError, ValueError
        For dtypes and shapes that do not fit; for a class out of range or named twice, and for probabilities that sum
        to more than 1, or leave more than the other classes can hold (each at most the smallest of the k), by more than
        0.001.

    Notes
    -----
    The other classes share the mass m = 1 - sum p_i, each at most c = min p_i; what they add to the divergence is
    f(p) = sum p_j log(p_j / q_j) over p_j in [0, c] with sum m. f is convex. Its minimum (Karush, Kuhn, Tucker) is at
    p_j = min(c, a q_j), with a such that the sum is m: without the limit c, m log(m / sum q_j), as the log-sum
    inequality has it. Its maximum is at a corner of the polytope, where floor(m / c) classes have c, one has the rest
    and the others nothing; the smallest q_j have the most.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> bounds = fx.kl_bounds(np.log([0.6, 0.2]), [0, 2], np.zeros(4))
    >>> round(float(bounds.lower), 6), round(float(bounds.upper), 6)
    (0.297394, 0.436024)
    """
    return _bounds(topk_log_probs, topk_indices, q_logits, kl=True)


def cross_entropy_bounds(topk_log_probs: ArrayLike, topk_indices: ArrayLike, q_logits: ArrayLike) -> Bounds:
    """Bounds of the cross-entropy -sum p log q in nats, where of P the k largest probabilities are known.

    Arguments, result and errors as `kl_bounds` has them.

    Notes
    -----
    The cross-entropy is linear in what the other classes share, and so both bounds are at corners (`kl_bounds`): the
    most on the largest q_j for the lower, on the smallest for the upper.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> bounds = fx.cross_entropy_bounds(np.log([0.6, 0.2]), [0, 2], np.array([2.0, 1.0, 1.0, 0.0]))
    >>> round(float(bounds.lower), 6), round(float(bounds.upper), 6)
    (1.026523, 1.226523)
    """
    return _bounds(topk_log_probs, topk_indices, q_logits, kl=False)


def _bounds(log_probs: ArrayLike, indices: ArrayLike, logits: ArrayLike, *, kl: bool) -> Bounds:
    known, x = to_numpy(log_probs, "topk_log_probs"), as_logits(logits, "q_logits")
    places, shape = as_integers(indices, "topk_indices").array, x.array.shape
    if known.dtype.kind != "f":
        raise TypeError(f"topk_log_probs has dtype {known.dtype}; it must be floating")
    if known.ndim == 0 or not shape or known.shape != places.shape or known.shape[:-1] != shape[:-1]:
        raise ValueError(
            f"topk_log_probs of shape {known.shape}, topk_indices of {places.shape} and q_logits of {shape} do not "
            "fit: (..., k), (..., k) and (..., C) are wanted"
        )
    if known.shape[-1] == 0 or shape[-1] == 0:
        raise ValueError(f"k is {known.shape[-1]}, the number of classes {shape[-1]}; both must be at least 1")
    out = np.empty((2, prod(shape[:-1])))
    sources = [ArraySource(array) for array in (known, places)]
    with default_floats(), np.errstate(all="ignore"):
        for start, stop, block in Inputs().blocks(x, small=True):
            log_q = log_softmax(decoded(block).astype(np.float64), axis=-1)
            rows = (source.read(start, stop) for source in sources)
            for row, (log_p, columns, logs_q) in enumerate(zip(*rows, log_q, strict=True), start):
                some = columns != -1
                classes = columns[some].astype(np.int64)
                if ((classes < 0) | (classes >= shape[-1])).any() or np.unique(classes).size < classes.size:
                    words = f"are {columns.tolist()}: not all of them classes of {shape[-1]}, or one of them twice"
                    raise ValueError(f"topk_indices of row {row} {words}")
                try:
                    out[:, row] = _row(log_p[some].astype(np.float64), classes, logs_q, kl)
                except ValueError as error:
                    raise ValueError(f"topk_log_probs of row {row} {error}") from None
    lower, upper = out.reshape(2, *shape[:-1])
    return Bounds(lower[()], upper[()])


def _row(log_p: Array, classes: NDArray[np.int64], log_q: Array, kl: bool) -> tuple[float, float]:
    """Both bounds of one row."""
    if np.isnan(log_q).any():
        return nan, nan
    p = exps(log_p)
    mass = 1.0 - _sum(p)
    others = np.sort(np.delete(log_q, classes))
    limit = float(p.min()) if p.size else 1.0
    if np.isnan(mass) or mass < -SLACK:
        raise ValueError(f"sum to {1.0 - mass}, which is no probability")
    if mass > others.size * limit + SLACK:
        raise ValueError(f"leave {mass:.6g} to {others.size} other classes, each at most {limit:.6g}")
    log_ratio = log_p - log_q[classes] if kl else -log_q[classes]
    head = _sum(np.where(p > 0.0, p * log_ratio, 0.0))
    if mass <= 0.0 or not others.size:
        return max(0.0, head), max(0.0, head)
    limit = max(limit, mass / others.size)  # not above it but by rounding
    upper = head + _corner(others, mass, limit, kl)
    lower = head + (_least(others[::-1], mass, limit) if kl else _corner(others[::-1], mass, limit, kl))
    return max(0.0, lower), max(0.0, lower, upper)


def _corner(log_q: Array, mass: float, limit: float, kl: bool) -> float:
    """What is added where the first classes have the limit, the next one the rest."""
    n = min(int(mass / limit), log_q.size)
    rest = max(0.0, mass - n * limit) if n < log_q.size else 0.0
    total = -limit * _sum(log_q[:n])
    if rest > 0.0:
        total -= rest * float(log_q[n])
    if kl:
        total += n * limit * _log(limit) + (rest * _log(rest) if rest > 0.0 else 0.0)
    return total


def _least(log_q: Array, mass: float, limit: float) -> float:
    """The least sum of p log(p / q): p = min(limit, a q), q from the largest on."""
    q = exps(log_q)
    behind = np.cumsum(q[::-1])[::-1]  # of q, from each on
    left = np.maximum(0.0, mass - limit * np.arange(q.size))
    # the first class that does not reach the limit
    n = int(np.argmax(left * q <= limit * behind))
    rest = float(left[n])
    total = n * limit * _log(limit) - limit * _sum(log_q[:n])
    if rest > 0.0:
        total += rest * (_log(rest) - _log(float(behind[n])))
    return total


def _sum(x: Array) -> float:
    """One after the other: NumPy's own order of adding changes with the CPU."""
    return float(np.cumsum(x)[-1]) if x.size else 0.0


def _log(x: float) -> float:
    return float(logs(np.array([x]))[0])
