"""Accuracy against mpmath at 50 digits, in ULP of the result's dtype: the bounds of numerics.md, at every level.

A long row draws its elements from a small pool of numbers, so that mpmath has a few hundred exponentials to work out and
the row is as hard to sum as any. `pytest -rP` shows the largest error that each test found.
"""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache, cached_property

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import BFLOAT16, STORAGES, storage_ids
from mpmath import mpf

import fastxent as fx
from fastxent import _dispatch, _exact
from fastxent._exact import ExactSum

INF, NAN = math.inf, math.nan
CLASSES = (1, 2, 3, 10, 31, 32, 33, 255, 256, 257, 1000, 4097, 70000)
HALF_CLASSES = (1, 3, 33, 257, 4097)
POOL = 200
# where the kernels begin to subtract a reference first, at one level or another (simd.h, FX_FAR_F and FX_FAR_D)
FAR = (1024.0, 65536.0, 524288.0, 2.0**40)

mpmath.mp.dps = 50


def hard_rows(dtype: np.dtype, c: int) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of c classes of every hard kind, in the working precision."""
    rng = np.random.default_rng(c)
    single = dtype == np.float32
    plain = rng.permutation(np.resize(3 * rng.standard_normal(POOL), c))
    deep = rng.permutation(np.resize(rng.uniform(-85 if single else -690, -36, POOL), c))
    lse = plain.max() + np.log(np.exp(plain - plain.max()).sum())
    odd, late = np.arange(c) % 2 == 1, np.arange(c) >= c // 2
    huge, offset = (3e38, 1e4) if single else (1.7e308, 1e300)

    def put(row: np.ndarray, value: float) -> np.ndarray:
        row = row.copy()
        row[c // 2] = value
        return row

    yield "normal", plain
    yield "uniform distribution", np.full(c, -math.log(c))
    yield "equal", np.zeros(c)
    yield "peaked", put(plain, 30.0)
    yield "tied", np.where(odd, plain.max(), plain)
    yield "half masked", np.where(odd, -INF, plain)
    yield "one finite", put(np.full(c, -INF), 1.7)
    yield "zero and tiny", put(deep, 0.0)
    yield "zero and tiniest", put(np.full(c, deep.min()), 0.0)
    yield "ramp up", np.sort(deep)
    yield "ramp down", np.sort(deep)[::-1]
    yield "far up", plain + offset
    yield "far down", plain - offset
    yield "both ends", np.where(odd, -huge, huge)
    yield "huge and masked", np.where(odd, -INF, huge)
    yield "subnormal", plain.round() * np.finfo(dtype).smallest_subnormal
    yield "one far above", put(plain - 50, 40.0)
    yield "one out of sight above", put(plain - 1000, 40.0)
    # the running reference is raised by more than 32 binades only (rows.pxi, JUMP)
    yield "later half 31.9 binades above", np.where(late, 0.3, -21.8)
    yield "later one 31.9 binades above", put(np.where(late, -90.0, -21.8), 0.3)
    yield "confident, 1e-20", put(plain, lse + 46)
    yield "confident, least", put(plain, lse + (85 if single else 700))
    for far in FAR:
        for sign in (1, -1):
            yield f"about {sign * far}", plain + sign * far
            yield f"halves either side of {sign * far}", np.where(late, 0.5, -0.5) + sign * far
            # one large element in each column segment
            some = put(np.full(c, -huge), sign * far + 0.5)
            some[-1] = sign * far - 0.5
            yield f"two either side of {sign * far}", some


def split(values: list[mpf]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as pairs of float64 whose sum is good for 100 bits."""
    high = np.array([float(v) for v in values])
    low = [float(v - mpf(h)) if math.isfinite(h) else 0.0 for v, h in zip(values, high, strict=True)]
    return high, np.array(low)


def ulps(result: np.ndarray, high: np.ndarray, low: np.ndarray, at_least: float = 0.0) -> np.ndarray:
    """Errors in units of the last place at max(|truth|, at_least); inf for a NaN or a wrong infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = high.astype(result.dtype)
        unit = np.spacing(np.maximum(abs(rounded), at_least).astype(result.dtype)).astype(float)
        error = abs((result.astype(float) - high) - low) / unit
    return np.where(np.isinf(rounded), np.where(result == rounded, 0.0, INF), np.nan_to_num(error, nan=INF))


class Truth:
    """One row, and what its results are."""

    def __init__(self, name: str, row: np.ndarray) -> None:
        self.name, self.row = name, row
        different, self.inverse, counts = np.unique(row.astype(float), return_inverse=True, return_counts=True)
        self.different, self.counts = [mpf(v) for v in different.tolist()], counts.tolist()
        self.top = self.different[-1]
        finite = np.flatnonzero(row > -INF)
        self.labels = {0, len(row) // 2, len(row) - 1, int(row.argmax()), int(finite[row[finite].argmin()])}

    @cached_property
    def terms(self) -> list[mpf]:
        return [mpmath.exp(v - self.top) for v in self.different]

    @cached_property
    def log_others(self) -> mpf:
        """logsumexp less the largest element."""
        others = [n * t for n, t in zip(self.counts, self.terms, strict=True)]
        return mpmath.log1p(mpmath.fsum([*others[:-1], (self.counts[-1] - 1) * self.terms[-1]]))

    @cached_property
    def logsumexp(self) -> tuple[np.ndarray, np.ndarray]:
        return split([self.top + self.log_others])

    @cached_property
    def log_softmax(self) -> tuple[np.ndarray, np.ndarray]:
        high, low = split([(v - self.top) - self.log_others for v in self.different])
        return high[self.inverse], low[self.inverse]

    @cached_property
    def softmax(self) -> tuple[np.ndarray, np.ndarray]:
        total = mpmath.exp(self.log_others)
        high, low = split([t / total for t in self.terms])
        return high[self.inverse], low[self.inverse]

    @cache  # noqa: B019  rows live as long as the tests
    def loss(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        own = self.inverse[label]
        if self.different[own] == -INF:
            return np.array([INF]), np.zeros(1)
        others = [(n - (i == own)) * t for i, (n, t) in enumerate(zip(self.counts, self.terms, strict=True))]
        return split([mpmath.log1p(mpmath.fsum(others) * mpmath.exp(self.top - self.different[own]))])


@cache
def truths(storage: np.dtype) -> list[list[Truth]]:
    """Rows, together by their number of classes, of a storage dtype."""
    half = storage.itemsize == 2
    found = []
    for c in HALF_CLASSES if half else CLASSES:
        rows = hard_rows(np.dtype(np.float32) if half else storage, c)
        with np.errstate(over="ignore"):
            stored = [(name, row.astype(storage)) for name, row in rows]
        # float16 ends at 65504
        found.append([Truth(name, row) for name, row in stored if -INF < row.astype(float).max() < INF])
    return found


def stack(rows: list[Truth], layout: str) -> np.ndarray:
    array = np.stack([truth.row for truth in rows])
    return np.asfortranarray(array) if layout == "strided" else array


def check(errors: dict[tuple[str, int], float], bound: float) -> None:
    """Show the largest error (pytest -rP), and name every row whose error is not within the bound."""
    print(f"{max(errors.values()):.3f} ULP")
    assert {key: error for key, error in errors.items() if not error <= bound} == {}


every_kind = pytest.mark.parametrize(
    ("storage", "layout"),
    [pytest.param(s, k, id=f"{storage_ids(s)}-{k}") for s in STORAGES for k in ("contiguous", "strided")],
)


@every_kind
def test_logsumexp(level, storage, layout):
    errors = {}
    for rows in truths(storage):
        result = fx.logsumexp(stack(rows, layout), axis=1)
        for y, truth in zip(result, rows, strict=True):
            errors[truth.name, len(truth.row)] = ulps(y, *truth.logsumexp, at_least=1.0).max()
    check(errors, 2)


@every_kind
def test_logsumexp_near_zero(level, storage, layout):
    errors = {}
    for rows in truths(storage):
        rows = [truth for truth in rows if truth.name.startswith("zero and")]
        result = fx.logsumexp(stack(rows, layout), axis=1)
        for y, truth in zip(result, rows, strict=True):
            errors[truth.name, len(truth.row)] = ulps(y, *truth.logsumexp).max()
    check(errors, 4)


@every_kind
def test_log_softmax(level, storage, layout):
    errors = {}
    for rows in truths(storage):
        result = fx.log_softmax(stack(rows, layout), axis=1)
        for y, truth in zip(result, rows, strict=True):
            errors[truth.name, len(truth.row)] = ulps(y, *truth.log_softmax, at_least=1.0).max()
    check(errors, 2)


@every_kind
def test_softmax(level, storage, layout):
    errors = {}
    for rows in truths(storage):
        result = fx.softmax(stack(rows, layout), axis=1)
        least = np.finfo(result.dtype).smallest_normal
        for y, truth in zip(result, rows, strict=True):
            high, low = truth.softmax
            errors[truth.name, len(truth.row)] = np.where(high >= least, ulps(y, high, low), 0).max()
            assert ((y >= 0) & (high >= least) | (y <= least)).all()
    check(errors, 4)


@every_kind
def test_cross_entropy_rows(level, storage, layout):
    errors, losses = {}, []
    for rows in truths(storage):
        array = stack(rows, layout)
        for k in range(max(len(truth.labels) for truth in rows)):
            labels = [sorted(truth.labels)[k % len(truth.labels)] for truth in rows]
            result = fx.cross_entropy(array, labels, reduction="none")
            for y, truth, label in zip(result, rows, labels, strict=True):
                high, low = truth.loss(label)
                if high == 0 or high >= np.finfo(y.dtype).smallest_normal:
                    errors[f"{truth.name}, label {label}", len(truth.row)] = ulps(y, high, low).max()
                    losses.append(high[0])
    check(errors, 4)
    # the confident rows are among them
    assert sum(0 < y < (1e-30 if storage != np.float64 else 1e-295) for y in losses) or storage == np.float16
    assert storage in (np.float16, BFLOAT16) or sum(1e-21 < y < 1e-19 for y in losses) >= len(CLASSES) - 1
