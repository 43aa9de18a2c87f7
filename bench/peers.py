"""The libraries by name: how each takes the data, and the version and threads that it runs with.

A function of a library is made for given data, so that conversions (all without a copy but JAX's) are no part of the
time. Where a library is not installed, or has nothing to compare with, the benchmark is skipped and says why.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peers_numba import loop
from workloads import Case, Data

import fastxent as fx

LIBRARIES = ("fastxent", "pytorch", "jax", "numba", "scipy", "numpy")
# NumPy and SciPy use one thread for these operations, whatever the machine has
SINGLE_THREADED = ("scipy", "numpy", "histogram2d", "sklearn")
_DISTRIBUTION = {"pytorch": "torch", "histogram2d": "numpy", "sklearn": "scikit-learn"}

Call = Callable[[], Any]


def pairs(cases: Iterable[Case], libraries: Iterable[str] = LIBRARIES) -> list[Any]:
    """What to measure: all libraries on normal rows, fastxent alone on hard ones."""
    return [
        pytest.param(case, library, id=f"{case}-{library}")
        for case in cases
        for library in libraries
        if library == "fastxent" or case.kind == "normal"
    ]


def set_threads(threads: int) -> None:
    """The same number of threads for all, before any peer is imported."""
    # XLA has no function for it: the size of its pool is read once, from here
    os.environ["NPROC"] = str(threads)
    fx.set_num_threads(threads)


def load(name: str, threads: int) -> ModuleType:
    """Import a peer, or skip."""
    module = {"pytorch": "torch", "scipy": "scipy.special"}.get(name, name)
    with warnings.catch_warnings():
        # not ours: pytest would make errors of them
        warnings.simplefilter("ignore")
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{name} is not installed ({error})")
    if name == "pytorch":
        found.set_num_threads(threads)
    elif name == "jax":
        found.config.update("jax_platforms", "cpu")
        found.config.update("jax_enable_x64", True)
    return found


def library_version(name: str, own: str) -> str:
    return own if name == "fastxent" else version(_DISTRIBUTION.get(name, name))


def as_torch(torch: ModuleType, a: NDArray[np.generic]) -> Any:
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def as_numpy(result: Any) -> NDArray[np.generic]:
    """A library's array as NumPy's; 16-bit floats as float32."""
    if hasattr(result, "detach"):  # PyTorch, which cannot hand over bfloat16
        result = result.detach()
        result = result.float().numpy() if result.dtype.itemsize == 2 else result.numpy()
    return np.asarray(result)


def _numpy_input(data: Data) -> Callable[[], NDArray[np.generic]]:
    """What one-liners start from: 16-bit floats are converted first, which is part of the time."""
    return (lambda: data.x) if data.x.itemsize > 2 else (lambda: data.x.astype(np.float32))


def _scipy(data: Data, threads: int) -> ModuleType:
    if data.x.itemsize == 2:
        pytest.skip("scipy has no bfloat16, and computes float16 in float16")
    return load("scipy", threads)


def logsumexp(name: str, data: Data, threads: int) -> Call:
    x = data.x
    if name == "fastxent":
        return lambda: fx.logsumexp(x, axis=1)
    if name == "pytorch":
        torch = load(name, threads)
        t = as_torch(torch, x)
        return lambda: torch.logsumexp(t, 1)
    if name == "jax":
        jax = load(name, threads)
        f, j = jax.jit(lambda a: jax.nn.logsumexp(a, axis=1)), jax.numpy.asarray(x)
        return lambda: f(j).block_until_ready()
    if name == "numba":
        return loop("logsumexp", threads, x)
    if name == "scipy":
        special = _scipy(data, threads)
        return lambda: special.logsumexp(x, axis=1)
    take = _numpy_input(data)

    def one_liner() -> Any:
        a = take()
        m = a.max(axis=1, keepdims=True)
        return np.log(np.exp(a - m).sum(axis=1)) + m.squeeze(1)

    return one_liner


def cross_entropy(name: str, data: Data, threads: int, reduction: str) -> Call:
    x, labels = data.x, data.labels
    if name == "fastxent" and reduction == "out":
        losses = np.empty(labels.shape, np.float64 if x.dtype == np.float64 else np.float32)
        return lambda: fx.cross_entropy(x, labels, reduction="none", out=losses)
    if name == "fastxent":
        return lambda: fx.cross_entropy(x, labels, reduction=reduction)
    if name == "pytorch":
        torch = load(name, threads)
        t, y = as_torch(torch, x), torch.from_numpy(labels)
        return lambda: torch.nn.functional.cross_entropy(t, y, reduction=reduction)
    if name == "jax":
        jax = load(name, threads)

        @jax.jit
        def loss(a: Any, y: Any) -> Any:
            own = jax.numpy.take_along_axis(a, jax.numpy.expand_dims(y, 1), axis=1).squeeze(1)
            rows = jax.nn.logsumexp(a, axis=1) - own
            return rows.mean() if reduction == "mean" else rows

        j, k = jax.numpy.asarray(x), jax.numpy.asarray(labels)
        return lambda: loss(j, k).block_until_ready()
    if name == "numba":
        return loop("cross_entropy", threads, x, labels)
    row_lse = logsumexp(name, data, threads)

    def one_liner() -> Any:
        rows = row_lse() - np.take_along_axis(x, np.expand_dims(labels, 1), axis=1).squeeze(1).astype(np.float64)
        return rows.mean() if reduction == "mean" else rows

    return one_liner


def softmax(name: str, data: Data, threads: int, out: NDArray[np.generic]) -> Call:
    """fastxent, PyTorch and NumPy write into `out`; JAX and SciPy have no such argument."""
    x = data.x
    if name == "fastxent":
        return lambda: fx.softmax(x, axis=1, out=out)
    if name == "pytorch":
        torch = load(name, threads)
        t, o = as_torch(torch, x), torch.from_numpy(out)
        return lambda: torch.softmax(t, 1, dtype=o.dtype, out=o)
    if name == "jax":
        jax = load(name, threads)
        f, j = jax.jit(lambda a: jax.nn.softmax(a.astype(out.dtype), axis=1)), jax.numpy.asarray(x)
        return lambda: f(j).block_until_ready()
    if name == "numba":
        return loop("softmax", threads, x, out)
    if name == "scipy":
        special = _scipy(data, threads)
        return lambda: special.softmax(x, axis=1)
    take = _numpy_input(data)

    def one_liner() -> Any:
        a = take()
        np.exp(np.subtract(a, a.max(axis=1, keepdims=True), out=out), out=out)
        return np.divide(out, out.sum(axis=1, keepdims=True), out=out)

    return one_liner
