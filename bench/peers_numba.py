"""Loops as one writes them for Numba: a thread a row, its maximum, then its sum; no fast-math, whose NaN are wrong.

Compiled at the first call, which is no part of the time.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]


def _two_axes(x: Array) -> None:
    if x.ndim > 2:
        pytest.skip("no numba version for classes along another axis than the last")
    if x.itemsize == 2:
        pytest.skip("numba has no 16-bit floats on CPUs")


@lru_cache(maxsize=1)
def _loops(threads: int) -> dict[str, Any]:
    """The compiled functions, by operation."""
    numba = pytest.importorskip("numba", reason="a peer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numba.set_num_threads(threads)
    jit = numba.njit(parallel=True)

    @numba.njit
    def lse_of(row: Array) -> Any:
        top = row[0]
        for v in row:
            top = max(top, v)
        total = np.exp(row[0] - top)
        for j in range(1, len(row)):
            total += np.exp(row[j] - top)
        return top + np.log(total)

    @jit
    def logsumexp(x: Array) -> Array:
        out = np.empty(len(x), x.dtype)
        for i in numba.prange(len(x)):
            out[i] = lse_of(x[i])
        return out

    @jit
    def cross_entropy(x: Array, labels: Array) -> Array:
        out = np.empty(len(x), x.dtype)
        for i in numba.prange(len(x)):
            out[i] = lse_of(x[i]) - x[i, labels[i]]
        return out

    @jit
    def softmax(x: Array, out: Array) -> Array:
        for i in numba.prange(len(x)):
            lse = lse_of(x[i])
            for j in range(x.shape[1]):
                out[i, j] = np.exp(x[i, j] - lse)
        return out

    @jit
    def kl_with_logits(p: Array, q: Array) -> Array:
        out = np.empty(len(p), p.dtype)
        for i in numba.prange(len(p)):
            a, b = lse_of(p[i]), lse_of(q[i])
            total = p[i, 0] * 0
            for j in range(p.shape[1]):
                total += np.exp(p[i, j] - a) * ((p[i, j] - a) - (q[i, j] - b))
            out[i] = total
        return out

    @jit
    def kl(p: Array, q: Array) -> Array:
        out = np.empty(len(p), p.dtype)
        for i in numba.prange(len(p)):
            total = p[i, 0] * 0
            for j in range(p.shape[1]):
                if p[i, j] > 0:
                    total += p[i, j] * (np.log(p[i, j]) - np.log(q[i, j]))
            out[i] = total
        return out

    @jit
    def binary(x: Array, y: Array) -> Any:
        total = 0.0
        for i in numba.prange(len(x)):
            total += max(x[i], 0) - x[i] * y[i] + np.log1p(np.exp(-abs(x[i])))
        return total / len(x)

    @jit
    def sigmoid(x: Array, out: Array) -> Array:
        one = x.dtype.type(1)
        for i in numba.prange(len(x)):
            out[i] = one / (one + np.exp(-x[i]))
        return out

    found = locals()
    names = ("logsumexp", "cross_entropy", "softmax", "kl_with_logits", "kl", "binary", "sigmoid")
    return {name: found[name] for name in names}


def loop(operation: str, threads: int, x: Array, *more: Array) -> Any:
    """A call of the operation with these arrays, the first of which has the logits."""
    _two_axes(x)
    if x.ndim == 2 and x.shape[1] >= 1 << 24:
        pytest.skip("numba's plain float32 sum stops growing at 2^24 terms")
    function = _loops(threads).get(operation)
    if function is None:
        pytest.skip(f"no numba version of {operation}")
    return lambda: function(x, *more)
