"""Binary losses and sigmoid, as each library's users compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import Call, as_torch, load
from peers_numba import loop

import fastxent as fx

LIBRARIES = ("fastxent", "pytorch", "jax", "numba", "numexpr", "scipy")
Array = NDArray[Any]


def _numexpr(threads: int) -> Any:
    module = load("numexpr", threads)
    module.set_num_threads(threads)
    return module


def binary(name: str, x: Array, y: Array, threads: int) -> Call:
    """The mean loss."""
    if name == "fastxent":
        return lambda: fx.binary_cross_entropy_with_logits(x, y)
    if name == "pytorch":
        torch = load(name, threads)
        a, b = as_torch(torch, x), as_torch(torch, y)
        return lambda: torch.nn.functional.binary_cross_entropy_with_logits(a, b)
    if name == "jax":
        jax = load(name, threads)
        jnp = jax.numpy
        loss = jax.jit(lambda a, b: jnp.mean(jnp.maximum(a, 0) - a * b + jnp.log1p(jnp.exp(-jnp.abs(a)))))
        j, k = jnp.asarray(x), jnp.asarray(y)
        return lambda: loss(j, k).block_until_ready()
    if name == "numba":
        return loop("binary", threads, x, y)
    if name == "numexpr":
        # the mean is NumPy's, for its own sum of float32 values is a plain one; it has no maximum of two
        module = _numexpr(threads)
        terms = "where(x > 0, x, 0) - x * y + log1p(exp(-abs(x)))"
        return lambda: np.mean(module.evaluate(terms, {"x": x, "y": y}))
    special = load("scipy", threads)
    return lambda: -np.mean(y * special.log_expit(x) + (1 - y) * special.log_expit(-x))


def sigmoid(name: str, x: Array, out: Array, threads: int) -> Call:
    """All but JAX write into `out`."""
    if name == "fastxent":
        return lambda: fx.sigmoid(x, out=out)
    if name == "pytorch":
        torch = load(name, threads)
        a, o = as_torch(torch, x), torch.from_numpy(out)
        return lambda: torch.sigmoid(a, out=o)
    if name == "jax":
        jax = load(name, threads)
        function, j = jax.jit(jax.nn.sigmoid), jax.numpy.asarray(x)
        return lambda: function(j).block_until_ready()
    if name == "numba":
        return loop("sigmoid", threads, x, out)
    if name == "numexpr":
        module = _numexpr(threads)
        return lambda: module.evaluate("1 / (1 + exp(-x))", {"x": x}, out=out)
    special = load("scipy", threads)
    return lambda: special.expit(x, out=out)
