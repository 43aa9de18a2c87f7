"""Divergences of two arrays of distributions, as each library's users compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peers import Call, as_torch, load
from peers_numba import loop

import fastxent as fx

OPERATIONS = ("kl_with_logits", "js_with_logits", "kl", "js")


def divergence(operation: str, name: str, p: NDArray[np.generic], q: NDArray[np.generic], threads: int) -> Call:
    """A value for each row; the class axis is the last."""
    if name == "fastxent":
        function = getattr(fx, operation.replace("kl", "kl_divergence").replace("js", "js_divergence"))
        return lambda: function(p, q)
    if name == "pytorch":
        return _torch(operation, p, q, threads)
    if name == "jax":
        jax = load(name, threads)
        f, a, b = jax.jit(lambda a, b: _formula(jax.numpy, jax.nn.log_softmax, operation, a, b)), *map(
            jax.numpy.asarray, (p, q)
        )
        return lambda: f(a, b).block_until_ready()
    if name == "numba":
        return loop(operation, threads, p, q)
    if name == "numkong":
        return _numkong(operation, p, q)
    if p.itemsize == 2:
        pytest.skip(f"{name} has no bfloat16, and computes float16 in float16")
    if name == "scipy":
        return _scipy(operation, p, q, threads)
    return lambda: _formula(np, _log_softmax, operation, p, q)


def _formula(xp: Any, log_softmax: Any, operation: str, p: Any, q: Any) -> Any:
    """The textbook's: sum p (log p - log q)."""
    if operation.endswith("logits"):
        a, b = log_softmax(p, axis=1), log_softmax(q, axis=1)
        p, q = xp.exp(a), xp.exp(b)
    else:
        a, b = xp.log(p), xp.log(q)
    if operation.startswith("kl"):
        return (p * (a - b)).sum(axis=1)
    m = xp.log((p + q) / 2)
    return 0.5 * ((p * (a - m)).sum(axis=1) + (q * (b - m)).sum(axis=1))


def _log_softmax(x: NDArray[Any], axis: int) -> NDArray[Any]:
    x = x - x.max(axis=axis, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=axis, keepdims=True))
    return x


def _torch(operation: str, p: NDArray[np.generic], q: NDArray[np.generic], threads: int) -> Call:
    torch = load("pytorch", threads)
    a, b = as_torch(torch, p), as_torch(torch, q)
    functional = torch.nn.functional

    def kl(log_p: Any, log_q: Any) -> Any:
        return functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)

    def run() -> Any:
        if operation.endswith("logits"):
            log_p, log_q = torch.log_softmax(a, 1), torch.log_softmax(b, 1)
        else:
            log_p, log_q = a.log(), b.log()
        if operation.startswith("kl"):
            return kl(log_p, log_q)
        m = torch.logaddexp(log_p, log_q) - 0.6931471805599453
        return (kl(log_p, m) + kl(log_q, m)) / 2

    return run


def _scipy(operation: str, p: NDArray[np.generic], q: NDArray[np.generic], threads: int) -> Call:
    special = load("scipy", threads)
    from scipy.spatial.distance import jensenshannon

    def run() -> Any:
        a, b = (special.softmax(x, axis=1) for x in (p, q)) if operation.endswith("logits") else (p, q)
        return special.rel_entr(a, b).sum(axis=1) if operation.startswith("kl") else jensenshannon(a, b, axis=1) ** 2

    return run


def _numkong(operation: str, p: NDArray[np.generic], q: NDArray[np.generic]) -> Call:
    """SimSIMD's successor: row by row on one thread, from probabilities."""
    if operation.endswith("logits"):
        pytest.skip("numkong takes probabilities only")
    numkong = pytest.importorskip("numkong", reason="a peer")
    # its Jensen-Shannon is a distance, the square root
    run = numkong.kullbackleibler if operation == "kl" else (lambda a, b: np.square(numkong.jensenshannon(a, b)))
    return lambda: np.asarray(run(p, q))
