"""Means and errors of means from the exact totals of a table: integers over one unit, rounded once at the end."""

from __future__ import annotations

from math import inf, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from fastxent._exact import quotient


def quotients(totals: list[int | None], weights: list[int | None]) -> NDArray[np.float64]:
    """Quotients of integers, rounded once; what is not finite is the loss's infinity."""
    return np.array(
        [
            inf if total is None else quotient(total, weight or 0)
            for total, weight in zip(totals, weights, strict=True)
        ],
        np.float64,
    )


def mean_error(n: int, total: int | None, squares: int | None, unit: int) -> float:
    """sqrt((E[x^2] - E[x]^2) / (n - 1))."""
    if n < 2 or total is None or squares is None:
        return nan
    return sqrt(max(0.0, quotient(n * squares * unit - total * total, n * n * (n - 1) * unit * unit)))


def weighted_error(
    n: int, a: int | None, aa: int | None, aw: int | None, w: int | None, ww: int | None, *, unit: int
) -> float:
    """The same with weights, of n rows (Means has the formula): sums of a = w x, a^2, a w, w and w^2."""
    if n < 2 or a is None or aa is None or aw is None or ww is None or not w:
        return nan
    deviations = aa * w * w - 2 * a * aw * w + a * a * ww
    return sqrt(max(0.0, quotient(deviations * n * unit, (n - 1) * w * w * w * w)))


def cluster_error(used: list[int], totals: list[int | None], weights: list[int | None]) -> float:
    """sqrt(G / (G - 1) sum(e_g^2)) / W, e_g = S_g - W_g S / W, over the groups that have used rows."""
    if None in totals or None in weights:
        return nan
    some = [(s, w) for n, s, w in zip(used, totals, weights, strict=True) if n and s is not None and w]
    g = len(some)
    all_s, all_w = sum(s for s, _ in some), sum(w for _, w in some)
    if g < 2 or not all_w:
        return nan
    ss, sw, ww = sum(s * s for s, _ in some), sum(s * w for s, w in some), sum(w * w for _, w in some)
    deviations = ss * all_w * all_w - 2 * sw * all_s * all_w + ww * all_s * all_s
    return sqrt(max(0.0, quotient(g * deviations, (g - 1) * all_w**4)))
