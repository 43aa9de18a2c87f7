"""Calls of every public function that computes, drawn at random: what the guard pages, the fuzz and memcheck run.

Arrays are C-ordered and the class axis is the last; whoever runs a call lays them out as he likes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from layouts import BFLOAT16

STORAGES = (*tuple(np.dtype(t) for t in ("f4", "f8", "f2")), BFLOAT16)
LABEL_DTYPES = tuple(np.dtype(t) for t in ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"))
WILD = (-1, -100, -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 100, (1 << 64) - 1, 1 << 31, -(1 << 31), 1 << 16)
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-38, 88.8, -104.0, 6e4, 3e38, -3e38, 1e300, -1.7e308, 5e-324)


class Call(NamedTuple):
    """A public function, its arrays and other arguments by name, and the shape of `out` where it takes one."""

    name: str
    arrays: dict[str, np.ndarray]
    options: dict[str, Any]
    out: tuple[int, ...] | None = None


class Draw:
    """What a call is made of, n rows of c classes of a storage dtype; `wild` labels are anything their dtype holds."""

    def __init__(self, rng: np.random.Generator, dtype: np.dtype, n: int, c: int, *, wild: bool) -> None:
        self.rng, self.dtype, self.n, self.c, self.wild = rng, dtype, n, c, wild

    def some(self, *choices: Any) -> Any:
        """One of them."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, p: float) -> bool:
        """True, p of the time."""
        return bool(self.rng.random() < p)

    def cast(self, values: np.ndarray) -> np.ndarray:
        """As the storage holds them."""
        with np.errstate(all="ignore"):
            return values.astype(self.dtype)

    def logits(self) -> np.ndarray:
        """Rows of one kind, perhaps with a few of another among them."""
        rng, shape = self.rng, (self.n, self.c)
        x = self.some(3.0, 3.0, 0.1, 30.0) * rng.standard_normal(shape)
        kind = rng.integers(12)
        if kind == 0:
            x += self.some(1e4, -1e4, 300.0, -6e4, 1e30)
        elif kind == 1:
            x = np.round(x)
        elif kind == 2:
            x[rng.random(shape) < self.some(0.1, 0.5, 0.95)] = -np.inf
        elif kind == 3:
            x[np.arange(self.n), rng.integers(self.c, size=self.n)] += self.some(20.0, 60.0, 800.0)
        elif kind == 4:
            x *= self.some(1e-30, 1e-44, 1e-310, 1e20)
        elif kind == 5:
            x[rng.random(shape) < self.some(0.02, 0.3)] = self.some(*SPECIAL)
        elif kind == 6:
            x[...] = self.some(*SPECIAL)
        elif kind == 7:
            return np.frombuffer(rng.bytes(self.n * self.c * self.dtype.itemsize), self.dtype).reshape(shape).copy()
        if kind > 3 and self.n and self.chance(0.3):
            x[rng.integers(self.n)] = self.some(*SPECIAL)
        return self.cast(x)

    def near(self, x: np.ndarray) -> np.ndarray:
        """Logits of another model, or the same."""
        with np.errstate(all="ignore"):
            noise = self.some(0.0, 1e-4, 0.3, 5.0) * self.rng.standard_normal(x.shape)
            return self.cast(x.astype("f8") + noise) if self.chance(0.8) else self.logits()

    def shares(self) -> np.ndarray:
        """Probabilities, up to scale perhaps, or what is none."""
        rng, shape = self.rng, (self.n, self.c)
        p = rng.gamma(self.some(0.1, 1.0, 5.0), size=shape) + 1e-6
        kind = rng.integers(8)
        if kind == 0:
            p[rng.random(shape) < 0.4] = 0.0
        elif kind == 1:
            p[...] = np.arange(self.c) == rng.integers(self.c, size=(self.n, 1))
        elif kind == 2 and p.size:
            p.flat[rng.integers(p.size)] = self.some(*SPECIAL)
        elif kind == 3 and self.n:
            p[rng.integers(self.n)] = 0.0
        if self.chance(0.8):
            with np.errstate(all="ignore"):
                p = np.where(p == 0, 0, p / p.sum(axis=1, keepdims=True))
        return self.cast(p)

    def integers(self, high: int, size: int, dtype: np.dtype | None = None) -> np.ndarray:
        """From 0 on and below high, wild ones among them if those are wanted."""
        dtype = self.some(*LABEL_DTYPES) if dtype is None else dtype
        info = np.iinfo(dtype)
        found = self.rng.integers(0, min(high, int(info.max) + 1), size).astype(dtype)
        if self.wild and size:
            for value in (*WILD, high, high - 1, high + 1):
                if info.min <= value <= info.max and self.chance(0.3):
                    found[self.rng.integers(size)] = value
        return found

    def labels(self) -> np.ndarray:
        """A label a row, some of them ignored."""
        if self.c == 2 and self.chance(0.1):
            return self.rng.integers(0, 2, self.n).astype(bool)
        found = self.integers(self.c, self.n)
        if found.dtype.kind == "i" and self.chance(0.3):
            found[self.rng.random(self.n) < 0.3] = -100
        return found

    def weights(self, size: int) -> np.ndarray:
        """Not negative, some of them 0."""
        w = self.rng.choice([0.0, 0.5, 1.0, 3.7, 1e-3], size)
        return w.astype(self.some("f8", "f4", "f2"))

    def maybe(self, p: float, **more: Any) -> dict[str, Any]:
        """These, p of the time; functions are called for them."""
        return {k: v() if callable(v) else v for k, v in more.items()} if self.chance(p) else {}


# ---- the functions ----


def _logsumexp(d: Draw) -> Call:
    return Call("logsumexp", {"a": d.logits()}, {"axis": -1}, (d.n,))


def _weighted(d: Draw) -> Call:
    b = d.weights(d.c if d.chance(0.5) else d.n * d.c)
    b = b if b.size == d.c else b.reshape(d.n, d.c)
    b = b * d.rng.choice([-1, 1], b.shape).astype(b.dtype) if d.chance(0.5) else b
    return Call("logsumexp", {"a": d.logits(), "b": b}, {"axis": -1, "return_sign": d.chance(0.5)})


def _softmax(name: str) -> Callable[[Draw], Call]:
    return lambda d: Call(name, {"x": d.logits()}, {"axis": -1}, (d.n, d.c))


def _losses(d: Draw, options: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, ...] | None]:
    """Reduction and the like; the shape of `out`."""
    options |= {"reduction": d.some("none", "none", "mean", "sum"), "invalid": d.some("raise", "ignore")}
    rows = options["reduction"] == "none" and not options.get("return_grad")
    return options, (d.n,) if rows else None


def _cross_entropy(d: Draw) -> Call:
    arrays = {"logits": d.logits(), "target": d.labels(), **d.maybe(0.3, weight=lambda: d.weights(d.c))}
    more = d.maybe(0.2, label_smoothing=0.1) | d.maybe(0.2, temperature=1.7) | d.maybe(0.2, return_grad=True)
    return Call("cross_entropy", arrays | d.maybe(0.2, sample_weight=lambda: d.weights(d.n)), *_losses(d, more))


def _soft(d: Draw) -> Call:
    arrays = {"logits": d.logits(), "target": d.shares()}
    if d.chance(0.3):
        arrays["target"] = arrays["target"].astype(d.some("f8", "f4"))
    arrays |= d.maybe(0.3, weight=lambda: d.weights(d.c)) | d.maybe(0.2, sample_weight=lambda: d.weights(d.n))
    more = d.maybe(0.2, label_smoothing=0.1) | d.maybe(0.2, temperature=1.7) | d.maybe(0.3, return_grad=True)
    return Call("cross_entropy", arrays, *_losses(d, more))


def _from_probabilities(d: Draw) -> Call:
    target = d.labels() if d.chance(0.5) else d.shares()
    return Call("cross_entropy", {"logits": d.shares(), "target": target}, *_losses(d, {"from_logits": False}))


def _nll(d: Draw) -> Call:
    arrays = {"log_probs": -np.abs(d.logits()), "target": d.labels(), **d.maybe(0.3, weight=lambda: d.weights(d.c))}
    return Call("nll_loss", arrays, *_losses(d, {}))


def _one(name: str) -> Callable[[Draw], Call]:
    def call(d: Draw) -> Call:
        key = "logits" if name.endswith("logits") else "p"
        return Call(name, {key: d.logits() if key == "logits" else d.shares()}, {}, (d.n,))

    return call


def _two(name: str) -> Callable[[Draw], Call]:
    def call(d: Draw) -> Call:
        if not name.endswith("logits"):
            return Call(name, {"p": d.shares(), "q": d.shares()}, {}, (d.n,))
        p = d.logits()
        return Call(name, {"p_logits": p, "q_logits": d.near(p)}, d.maybe(0.2, temperature=1.7), (d.n,))

    return call


def _beside(d: Draw) -> dict[str, Any]:
    """What may stand beside the rows."""
    found = d.maybe(0.2, sample_weight=lambda: d.weights(d.n)) | d.maybe(0.2, mask=lambda: d.rng.random(d.n) < 0.8)
    return found | d.maybe(0.2, groups=lambda: d.rng.integers(-3, 3, d.n).astype(d.some("i8", "i2")))


def _evaluate(d: Draw) -> Call:
    arrays = {"logits": d.logits(), "labels": d.labels(), **_beside(d)}
    arrays |= d.maybe(0.1, byte_counts=lambda: d.rng.integers(0, 9, d.n))
    more = {"worst": 0, **d.maybe(0.2, temperature=1.7), **d.maybe(0.1, temperatures=(0.5, 2.0))}
    return Call("evaluate", arrays, more | d.maybe(0.2, topk=(1, 2, 3)))


def _compare(d: Draw) -> Call:
    base = d.logits()
    arrays = {"base": base, "other": d.near(base), **d.maybe(0.6, labels=d.labels), **_beside(d)}
    return Call("compare", arrays, {"worst": 0, "kl_cutoff": None, **d.maybe(0.2, temperature=1.7)})


def _fit(d: Draw) -> Call:
    return Call("fit_temperature", {"logits": d.logits(), "labels": d.labels()}, {})


def _log_loss(d: Draw) -> Call:
    p = d.shares()
    arrays = {"y_true": d.rng.integers(0, d.c, d.n), "y_proba": p, "labels": np.arange(d.c)}
    return Call("log_loss", arrays | d.maybe(0.3, sample_weight=lambda: d.weights(d.n)), {"normalize": d.chance(0.5)})


def _element(name: str, key: str) -> Callable[[Draw], Call]:
    return lambda d: Call(name, {key: d.logits() if key == "x" else d.shares()}, {}, (d.n, d.c))


def _bce(d: Draw) -> Call:
    arrays = {"probs": d.shares(), "target": d.shares() if d.chance(0.7) else d.rng.random((d.n, d.c)) < 0.5}
    arrays |= d.maybe(0.3, weight=lambda: d.weights(d.some(d.c, 1)))
    return Call("binary_cross_entropy", arrays, {"reduction": d.some("none", "mean", "sum")})


def _bce_logits(d: Draw) -> Call:
    arrays = {"logits": d.logits(), "target": d.shares() if d.chance(0.7) else d.rng.random((d.n, d.c)) < 0.5}
    arrays |= d.maybe(0.3, weight=lambda: d.weights(d.some(d.c, 1)))
    arrays |= d.maybe(0.3, pos_weight=lambda: d.weights(d.c))
    more = {"reduction": d.some("none", "mean", "sum"), **d.maybe(0.3, return_grad=True)}
    return Call("binary_cross_entropy_with_logits", arrays, more)


def _bounds(name: str) -> Callable[[Draw], Call]:
    def call(d: Draw) -> Call:
        k = int(d.rng.integers(1, min(d.c, 5) + 1))
        p = d.rng.dirichlet(np.ones(d.c), d.n).reshape(d.n, d.c)
        order = np.argsort(-p, axis=1, kind="stable")[:, :k].astype(np.int64)
        arrays = {"topk_log_probs": np.log(np.take_along_axis(p, order, 1)), "topk_indices": order}
        if d.wild and order.size and d.chance(0.5):
            order.flat[d.rng.integers(order.size)] = d.some(-1, -2, d.c, 1 << 62, -(1 << 63))
        return Call(name, arrays | {"q_logits": d.logits()}, {})

    return call


def _counts(name: str, x: str, y: str) -> Callable[[Draw], Call]:
    def call(d: Draw) -> Call:
        high, size = min(d.c, 300), d.n * min(d.c, 64)
        arrays = {x: d.integers(high, size), y: d.integers(high, size)}
        more = d.maybe(0.3, shape=(high, high)) if name == "contingency_table" else {}
        return Call(name, arrays, more)

    return call


def _table(name: str) -> Callable[[Draw], Call]:
    def call(d: Draw) -> Call:
        table = d.rng.integers(0, 9, (d.n, d.c)) if d.chance(0.5) else d.shares()
        return Call(name, {"table": table}, d.maybe(0.5, given=1) if name == "conditional_entropy" else {})

    return call


CALLS: dict[str, Callable[[Draw], Call]] = {
    "logsumexp": _logsumexp,
    "logsumexp, weights": _weighted,
    **{name: _softmax(name) for name in ("softmax", "log_softmax")},
    "cross_entropy": _cross_entropy,
    "cross_entropy, soft": _soft,
    "cross_entropy, probabilities": _from_probabilities,
    "nll_loss": _nll,
    **{name: _one(name) for name in ("entropy", "entropy_with_logits")},
    **{
        f"{name}_divergence{logits}": _two(f"{name}_divergence{logits}")
        for name in ("kl", "js")
        for logits in ("", "_with_logits")
    },
    "evaluate": _evaluate,
    "compare": _compare,
    "fit_temperature": _fit,
    "log_loss": _log_loss,
    **{name: _element(name, "x") for name in ("sigmoid", "log_sigmoid")},
    **{name: _element(name, "p") for name in ("logit", "surprisal")},
    "binary_cross_entropy": _bce,
    "binary_cross_entropy_with_logits": _bce_logits,
    **{name: _bounds(name) for name in ("kl_bounds", "cross_entropy_bounds")},
    "contingency_table": _counts("contingency_table", "x", "y"),
    "mutual_info_score": _counts("mutual_info_score", "labels_true", "labels_pred"),
    **{name: _table(name) for name in ("joint_entropy", "conditional_entropy", "mutual_information")},
}
