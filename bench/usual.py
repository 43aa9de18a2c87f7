"""What people write today with NumPy, SciPy and scikit-learn for each public function, from small arrays to large ones.

An entry makes its inputs from a number of rows and classes, and gives two calls of the same meaning: fastxent's and the
usual one. `bench_usual.py` times them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
import sklearn.metrics
from numpy.typing import NDArray
from peers_evaluate import CHUNK_BYTES, _array_chunk, _in_chunks

import fastxent as fx

Array = NDArray[Any]
Calls = tuple[Callable[[], Any], Callable[[], Any]]
WHOLE = {"x", "y", "p", "q", "b", "targets"}
# functions of labels alone, whose table has the square of the classes for its cells
TABLES = ("joint_entropy", "conditional_entropy", "mutual_information", "contingency_table", "mutual_info_score")
DIFFERENT = 10_000_000  # elements that are drawn; a larger array repeats their rows


class Inputs:
    """Arrays of one shape, shared by the functions; each is made when the first one wants it."""

    def __init__(self, rows: int, classes: int, dtype: str) -> None:
        self.rows, self.classes, self.dtype = rows, classes, dtype
        self._drawn = min(rows, max(1, DIFFERENT // classes))
        self._rng = np.random.default_rng(1)
        self.labels: Array = self._rng.integers(0, classes, rows)
        self.weights: Array = self._rng.random(classes) + 0.5

    def _normal(self) -> Array:
        return self._rng.standard_normal((self._drawn, self.classes), np.float32).astype(self.dtype)

    def _tall(self, some: Array) -> Array:
        """As many rows as there are."""
        return np.resize(some, (self.rows, self.classes)) if self._drawn < self.rows else some

    @cached_property
    def _few(self) -> tuple[Array, Array]:
        x = self._normal()
        return x, x + np.asarray(0.1, self.dtype) * self._normal()

    @cached_property
    def x(self) -> Array:
        return self._tall(self._few[0])

    @cached_property
    def y(self) -> Array:
        return self._tall(self._few[1])

    @cached_property
    def p(self) -> Array:
        return self._tall(np.asarray(scipy.special.softmax(self._few[0], axis=1), self.dtype))

    @cached_property
    def q(self) -> Array:
        return self._tall(np.asarray(scipy.special.softmax(self._few[1], axis=1), self.dtype))

    @cached_property
    def b(self) -> Array:
        return self._tall(self._rng.random((self._drawn, self.classes), np.float32).astype(self.dtype))

    @cached_property
    def targets(self) -> Array:
        """Of each element, for binary losses."""
        return self._tall((self._few[0] > 0).astype(self.dtype))

    @cached_property
    def table(self) -> Array:
        return _table(self)

    def part(self, rows: int) -> Inputs:
        """The first rows of what has been made, as views."""
        made = copy(self)
        made.rows, made.labels = rows, self.labels[:rows]
        for name in WHOLE & set(self.__dict__):
            made.__dict__[name] = self.__dict__[name][:rows]
        return made

    def forget(self) -> None:
        """Let go of the arrays of the whole size."""
        for name in WHOLE:
            self.__dict__.pop(name, None)

    def picked(self, a: Array) -> Array:
        """The label's element of each row."""
        return a[np.arange(len(a)), self.labels]

    def log_p(self, a: Array) -> Array:
        return scipy.special.log_softmax(a, axis=1)


def _kl(p: Array, log_p: Array, log_q: Array) -> Array:
    return np.sum(p * (log_p - log_q), axis=1)


def _weighted_mean(data: Inputs) -> Any:
    w = data.weights[data.labels]
    return np.sum(w * -data.picked(data.log_p(data.x))) / np.sum(w)


def _smoothed(data: Inputs) -> Any:
    log_p = data.log_p(data.x)
    return -np.mean(0.9 * data.picked(log_p) + 0.1 * log_p.mean(axis=1))


def _gradient(data: Inputs) -> Any:
    gradient = scipy.special.softmax(data.x, axis=1)
    gradient[np.arange(len(gradient)), data.labels] -= 1
    return gradient / len(gradient)


def _binary(data: Inputs) -> Any:
    x, y = data.x, data.targets
    return np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))))


def _binary_of_probabilities(data: Inputs) -> Any:
    p, y = data.p, data.targets
    return -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))


def _table(data: Inputs) -> Any:
    n = data.classes
    return np.bincount(data.labels * n + data.labels[::-1], minlength=n * n).reshape(n, n)


def _evaluation(data: Inputs) -> Any:
    """The loss, accuracies, ranks, entropy, Brier score and calibration, in chunks."""
    step = max(1, CHUNK_BYTES // (data.classes * data.x.itemsize))
    found = _in_chunks(lambda r: _array_chunk(np, data.x[r], data.labels[r]), data, step)  # type: ignore[arg-type]
    return [found[name] for name in ("cross_entropy", "accuracy", "entropy", "brier", "mean_rank", "ece")]


def _of_fastxent(data: Inputs) -> Any:
    found = fx.evaluate(data.x, data.labels)
    return [found.cross_entropy, found.accuracy, found.entropy, found.brier, found.mean_rank, found.ece]


def _comparison(data: Inputs) -> Any:
    log_p, log_q = data.log_p(data.x), data.log_p(data.y)
    p, q = np.exp(log_p), np.exp(log_q)
    loss = [-np.mean(data.picked(a)) for a in (log_p, log_q)]
    kl, rms = _kl(p, log_p, log_q), np.sqrt(np.mean((data.picked(q) - data.picked(p)) ** 2))
    return [kl.mean(), np.median(kl), kl.max(), *loss, rms, np.mean(log_p.argmax(axis=1) == log_q.argmax(axis=1))]


def _compared(data: Inputs) -> Any:
    found = fx.compare(data.x, data.y, data.labels)
    return [found.kl_mean]


def _entropies(data: Inputs) -> tuple[Array, Array]:
    p = data.table / data.table.sum()
    return scipy.special.entr(p).sum(), scipy.special.entr(p.sum(axis=1)).sum()


# name: what makes the two calls. Functions of elements, of rows, of labels
FUNCTIONS: dict[str, Callable[[Inputs], Calls]] = {
    "sigmoid": lambda d: (lambda: fx.sigmoid(d.x), lambda: scipy.special.expit(d.x)),
    "log_sigmoid": lambda d: (lambda: fx.log_sigmoid(d.x), lambda: scipy.special.log_expit(d.x)),
    "logit": lambda d: (lambda: fx.logit(d.p), lambda: scipy.special.logit(d.p)),
    "surprisal": lambda d: (lambda: fx.surprisal(d.p), lambda: -np.log(d.p)),
    "binary_cross_entropy": lambda d: (
        lambda: fx.binary_cross_entropy(d.p, d.targets), lambda: _binary_of_probabilities(d)),
    "binary_cross_entropy_with_logits": lambda d: (
        lambda: fx.binary_cross_entropy_with_logits(d.x, d.targets), lambda: _binary(d)),
    "logsumexp": lambda d: (lambda: fx.logsumexp(d.x, axis=1), lambda: scipy.special.logsumexp(d.x, axis=1)),
    "logsumexp, all axes": lambda d: (lambda: fx.logsumexp(d.x), lambda: scipy.special.logsumexp(d.x)),
    "logsumexp, weighted": lambda d: (
        lambda: fx.logsumexp(d.x, axis=1, b=d.b), lambda: scipy.special.logsumexp(d.x, axis=1, b=d.b)),
    "softmax": lambda d: (lambda: fx.softmax(d.x, axis=1), lambda: scipy.special.softmax(d.x, axis=1)),
    "log_softmax": lambda d: (lambda: fx.log_softmax(d.x, axis=1), lambda: d.log_p(d.x)),
    "cross_entropy": lambda d: (
        lambda: fx.cross_entropy(d.x, d.labels), lambda: -np.mean(d.picked(d.log_p(d.x)))),
    "cross_entropy, class weights": lambda d: (
        lambda: fx.cross_entropy(d.x, d.labels, d.weights), lambda: _weighted_mean(d)),
    "cross_entropy, smoothed": lambda d: (
        lambda: fx.cross_entropy(d.x, d.labels, label_smoothing=0.1), lambda: _smoothed(d)),
    "cross_entropy, class probabilities": lambda d: (
        lambda: fx.cross_entropy(d.x, d.q), lambda: -np.mean(np.sum(d.q * d.log_p(d.x), axis=1))),
    "cross_entropy, of probabilities": lambda d: (
        lambda: fx.cross_entropy(d.p, d.q, from_logits=False), lambda: -np.mean(np.sum(d.q * np.log(d.p), axis=1))),
    "cross_entropy, gradient": lambda d: (
        lambda: fx.cross_entropy(d.x, d.labels, return_grad=True)[1], lambda: _gradient(d)),
    "nll_loss": lambda d: (lambda: fx.nll_loss(d.x, d.labels), lambda: -np.mean(d.picked(d.x))),
    "log_loss": lambda d: (
        lambda: fx.log_loss(d.labels, d.p, labels=range(d.classes)),
        lambda: sklearn.metrics.log_loss(d.labels, d.p, labels=range(d.classes))),
    "entropy": lambda d: (lambda: fx.entropy(d.p), lambda: scipy.stats.entropy(d.p, axis=1)),
    "entropy_with_logits": lambda d: (
        lambda: fx.entropy_with_logits(d.x), lambda: scipy.stats.entropy(scipy.special.softmax(d.x, axis=1), axis=1)),
    "kl_divergence": lambda d: (lambda: fx.kl_divergence(d.p, d.q), lambda: scipy.stats.entropy(d.p, d.q, axis=1)),
    "kl_divergence_with_logits": lambda d: (
        lambda: fx.kl_divergence_with_logits(d.x, d.y),
        lambda: _kl(scipy.special.softmax(d.x, axis=1), d.log_p(d.x), d.log_p(d.y))),
    "js_divergence": lambda d: (
        lambda: fx.js_divergence(d.p, d.q),
        lambda: 0.5 * (scipy.stats.entropy(d.p, 0.5 * (d.p + d.q), axis=1)
                       + scipy.stats.entropy(d.q, 0.5 * (d.p + d.q), axis=1))),
    "js_divergence_with_logits": lambda d: (
        lambda: fx.js_divergence_with_logits(d.x, d.y),
        lambda: scipy.spatial.distance.jensenshannon(
            scipy.special.softmax(d.x, axis=1), scipy.special.softmax(d.y, axis=1), axis=1) ** 2),
    "evaluate": lambda d: (lambda: _of_fastxent(d), lambda: _evaluation(d)),
    "compare": lambda d: (lambda: _compared(d), lambda: _comparison(d)[:1]),
    "joint_entropy": lambda d: (lambda: fx.joint_entropy(d.table), lambda: _entropies(d)[0]),
    "conditional_entropy": lambda d: (
        lambda: fx.conditional_entropy(d.table), lambda: np.subtract(*_entropies(d))),
    "mutual_information": lambda d: (
        lambda: fx.mutual_information(d.table),
        lambda: sklearn.metrics.mutual_info_score(None, None, contingency=d.table)),
    "contingency_table": lambda d: (
        lambda: fx.contingency_table(d.labels, d.labels[::-1], shape=(d.classes, d.classes)), lambda: _table(d)),
    "mutual_info_score": lambda d: (
        lambda: fx.mutual_info_score(d.labels, d.labels[::-1]),
        lambda: sklearn.metrics.mutual_info_score(d.labels, d.labels[::-1])),
}  # fmt: skip
