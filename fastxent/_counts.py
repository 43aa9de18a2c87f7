"""Entropies of counts, and exponentials and logarithms in the package's own bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastxent._dispatch import kernels
from fastxent._exact import ExactSum


def exps(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e^x of each value."""
    out = np.empty(x.size)
    kernels.elementary("exp", np.ascontiguousarray(x, np.float64), out)
    return out


def logs(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log x of each value."""
    out = np.empty(x.size)
    kernels.elementary("log", np.ascontiguousarray(x, np.float64), out)
    return out


def exp(x: float) -> float:
    """e^x."""
    return float(exps(np.array([x]))[0])


def entropy(masses: NDArray[np.float64]) -> float:
    """Entropy in nats of a distribution given up to scale, by positive numbers or zeros: a sum of p log(1/p)."""
    masses = masses[masses > 0.0]
    one = ExactSum()
    one.add(masses)
    total = one.value()
    sums = ExactSum()
    sums.add(masses / total * logs(total / masses))
    return sums.value()


def mutual_information(
    x: NDArray[np.int64], y: NDArray[np.int64], counts: NDArray[np.int64]
) -> float:
    """Mutual information in nats of a sparse table of counts at (x, y): the sum of p log(p / (p_x p_y)), at least 0."""
    if counts.size == 0:
        return float("nan")
    some = counts > 0
    x, y, counts = x[some], y[some], counts[some]
    total = float(counts.sum())
    of_x, of_y = np.zeros(int(x.max()) + 1, np.int64), np.zeros(int(y.max()) + 1, np.int64)
    np.add.at(of_x, x, counts)
    np.add.at(of_y, y, counts)
    sums = ExactSum()
    sums.add(counts / total * logs(counts / of_x[x] * (total / of_y[y])))
    return max(0.0, sums.value())
