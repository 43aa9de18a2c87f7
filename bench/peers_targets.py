"""Losses against class probabilities, smoothed labels and their gradients, as each library's users compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from peers import Call, as_torch, load

import fastxent as fx

Array = NDArray[Any]

# a loss a row each, but for the gradients, which are those of the mean
OPERATIONS = ("soft", "soft_weighted", "soft_probabilities", "smoothed", "sampled", "gradient", "soft_gradient")
LIBRARIES = ("fastxent", "pytorch", "numpy")
SMOOTHING = 0.1


class Problem(NamedTuple):
    """Logits, class axis 1, with all that they may be scored against."""

    x: Array
    q: Array  # softmax of x
    p: Array  # class probabilities
    labels: NDArray[np.int64]
    weight: NDArray[np.float64]
    sample: Array


def problem(x: Array, labels: NDArray[np.int64]) -> Problem:
    rng = np.random.default_rng(5)
    q = np.exp(x - x.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    p = np.empty_like(x)
    for row in range(0, len(x), step := max(1, (1 << 22) // (x.size // len(x)))):
        some = x[row : row + step]
        p[row : row + step] = rng.random(some.shape, np.float32)
        p[row : row + step] /= p[row : row + step].sum(axis=1, keepdims=True)
    return Problem(x, q, p, labels, rng.random(x.shape[1]) + 0.5, rng.random(labels.shape).astype(x.dtype))


def read_bytes(operation: str, given: Problem) -> int:
    """Bytes of the inputs, and of the gradient."""
    target = given.p.nbytes if operation.startswith("soft") else given.labels.nbytes
    return given.x.nbytes * (2 if operation.endswith("gradient") else 1) + target


def call(operation: str, name: str, given: Problem, threads: int) -> Call:
    """What computes an operation with a library."""
    if name == "fastxent":
        return _fastxent(operation, given)
    if name == "pytorch":
        return _torch(operation, given, threads)
    return _numpy(operation, given)


def _fastxent(operation: str, given: Problem) -> Call:
    x, q, p, labels, weight, sample = given
    calls: dict[str, Callable[[], Any]] = {
        "soft": lambda: fx.cross_entropy(x, p, reduction="none"),
        "soft_weighted": lambda: fx.cross_entropy(x, p, weight, reduction="none"),
        "soft_probabilities": lambda: fx.cross_entropy(q, p, from_logits=False, reduction="none"),
        "smoothed": lambda: fx.cross_entropy(x, labels, label_smoothing=SMOOTHING, reduction="none"),
        "sampled": lambda: fx.cross_entropy(x, labels, sample_weight=sample, reduction="none"),
        "gradient": lambda: fx.cross_entropy(x, labels, return_grad=True)[1],
        "soft_gradient": lambda: fx.cross_entropy(x, p, return_grad=True)[1],
    }
    return calls[operation]


def _torch(operation: str, given: Problem, threads: int) -> Call:
    torch = load("pytorch", threads)
    x, q, p, sample = (as_torch(torch, a) for a in (given.x, given.q, given.p, given.sample))
    labels, weight = torch.from_numpy(given.labels), torch.from_numpy(given.weight).to(x.dtype)
    loss = torch.nn.functional.cross_entropy

    def gradient(target: Any) -> Any:
        leaf = x.detach().requires_grad_(True)
        loss(leaf, target).backward()
        return leaf.grad

    calls: dict[str, Callable[[], Any]] = {
        "soft": lambda: loss(x, p, reduction="none"),
        "soft_weighted": lambda: loss(x, p, weight, reduction="none"),
        "soft_probabilities": lambda: -(p * (q / q.sum(1, keepdim=True)).log()).sum(1),
        "smoothed": lambda: loss(x, labels, label_smoothing=SMOOTHING, reduction="none"),
        "sampled": lambda: loss(x, labels, reduction="none") * sample,
        "gradient": lambda: gradient(labels),
        "soft_gradient": lambda: gradient(p),
    }
    return calls[operation]


def _numpy(operation: str, given: Problem) -> Call:
    x, q, p, labels, weight, sample = given
    if x.itemsize == 2:
        pytest.skip("NumPy has no bfloat16, and computes float16 in float16")
    place = np.expand_dims(labels, 1)

    def surprisals() -> Array:
        d = x - x.max(axis=1, keepdims=True)
        lse: Array = np.log(np.exp(d).sum(axis=1, keepdims=True))
        return lse - d

    def soft_gradient(target: Array | None) -> Array:
        s = np.exp(x - x.max(axis=1, keepdims=True))
        s /= s.sum(axis=1, keepdims=True)
        if target is None:
            np.put_along_axis(s, place, np.take_along_axis(s, place, 1) - 1, 1)
        else:
            s -= target
        s /= labels.size
        return s

    shape = (-1, *(1,) * (x.ndim - 2))
    calls: dict[str, Callable[[], Any]] = {
        "soft": lambda: (p * surprisals()).sum(axis=1),
        "soft_weighted": lambda: (p * weight.astype(x.dtype).reshape(shape) * surprisals()).sum(axis=1),
        "soft_probabilities": lambda: -(p * np.log(q / q.sum(axis=1, keepdims=True))).sum(axis=1),
        "smoothed": lambda: _smoothed(surprisals(), place),
        "sampled": lambda: np.take_along_axis(surprisals(), place, 1).squeeze(1) * sample,
        "gradient": lambda: soft_gradient(None),
        "soft_gradient": lambda: soft_gradient(p),
    }
    return calls[operation]


def _smoothed(d: Array, place: NDArray[np.int64]) -> Array:
    own: Array = np.take_along_axis(d, place, 1).squeeze(1)
    return (1 - SMOOTHING) * own + SMOOTHING * d.mean(axis=1)
