"""Accuracy against mpmath at 50 digits, in ULP of the result's dtype: the bounds of numerics.md, at every level.

`pytest -rP` shows the largest error that each test found.
"""

import json
import math
from collections.abc import Iterable
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from accuracy import exact_sum
from hypothesis import given
from hypothesis import strategies as st
from layouts import STORAGES, hard_rows, same_bits, storage_ids
from mpmath import mpf

import fastxent as fx
from fastxent import _dispatch
from fastxent._exact import ExactSum, ExactSums, two_product

INF, NAN = math.inf, math.nan
CLASSES = (1, 2, 3, 10, 31, 32, 33, 255, 256, 257, 1000, 4097, 70000)
HALF_CLASSES = (1, 3, 33, 257, 4097)

mpmath.mp.dps = 50


Exact = tuple[np.ndarray, np.ndarray]  # the nearest float64, and what is left in units of its last place


def split(values: list[mpf]) -> Exact:
    high = np.array([float(v) for v in values])
    units = np.spacing(np.where(np.isfinite(high), abs(high), 1.0))
    rest = [(v - mpf(h)) / mpf(u) if math.isfinite(h) else 0 for v, h, u in zip(values, high, units, strict=True)]
    return high, np.array(rest, float)


def ulps(result: np.ndarray, high: np.ndarray, rest: np.ndarray, at_least: float = 0.0) -> np.ndarray:
    """Errors in units of the last place at max(|truth|, at_least); inf for a NaN or a wrong infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = high.astype(result.dtype)
        unit = np.spacing(np.maximum(abs(rounded), at_least).astype(result.dtype)).astype(float)
        error = abs((result.astype(float) - high) / unit - rest * (np.spacing(abs(high)) / unit))
    return np.where(np.isinf(rounded), np.where(result == rounded, 0.0, INF), np.where(error == error, error, INF))


class Truth:
    """One row, and what its results are."""

    def __init__(self, name: str, row: np.ndarray) -> None:
        self.name, self.row = name, row
        different, self.inverse, counts = np.unique(row.astype(float), return_inverse=True, return_counts=True)
        self.different, self.counts = [mpf(v) for v in different.tolist()], counts.tolist()
        self.top = self.different[-1]
        self.terms = [mpmath.exp(v - self.top) for v in self.different]
        others = [n * t for n, t in zip(self.counts, self.terms, strict=True)]
        # logsumexp less the largest element
        self.log_others = mpmath.log1p(mpmath.fsum([*others[:-1], (self.counts[-1] - 1) * self.terms[-1]]))
        finite = np.flatnonzero(row > -INF)
        smallest = int(finite[row[finite].argmin()])
        self.labels = [int(row.argmax()), smallest, 0, len(row) // 2, len(row) - 1]

    def logsumexp(self) -> Exact:
        high, rest = split([self.top + self.log_others])
        return high[0], rest[0]

    def log_softmax(self) -> Exact:
        high, rest = split([(v - self.top) - self.log_others for v in self.different])
        return high[self.inverse], rest[self.inverse]

    def softmax(self) -> Exact:
        total = mpmath.exp(self.log_others)
        high, rest = split([t / total for t in self.terms])
        return high[self.inverse], rest[self.inverse]

    def loss(self, label: int) -> Exact:
        own = self.inverse[label]
        if self.different[own] == -INF:
            return np.float64(INF), np.float64(0)
        others = [(n - (i == own)) * t for i, (n, t) in enumerate(zip(self.counts, self.terms, strict=True))]
        high, rest = split([mpmath.log1p(mpmath.fsum(others) * mpmath.exp(self.top - self.different[own]))])
        return high[0], rest[0]


class Rows:
    """Rows of one length; the truths are kept, as every level and layout asks for them."""

    def __init__(self, storage: np.dtype, rows: Iterable[tuple[str, np.ndarray]]) -> None:
        with np.errstate(over="ignore"):
            stored = [(name, row.astype(storage)) for name, row in rows]
        # float16 ends at 65504
        self.rows = [Truth(name, row) for name, row in stored if -INF < row.astype(float).max() < INF]
        self.names = np.array([f"{truth.name}, C = {len(truth.row)}" for truth in self.rows])
        self.array = np.stack([truth.row for truth in self.rows])
        self.labels = np.array([truth.labels for truth in self.rows]).T[: 5 if self.array.size < 1e6 else 2]
        self.near_zero = np.array([truth.name.startswith("zero and") for truth in self.rows])

    @cache  # noqa: B019  they live as long as the tests
    def truth(self, what: str, k: int | None = None) -> Exact:
        pairs = [getattr(t, what)() if k is None else t.loss(t.labels[k]) for t in self.rows]
        return np.array([high for high, _ in pairs]), np.array([rest for _, rest in pairs])


# seed and length; from the second on they are where a search found the largest errors of one build or another
RANDOM = ((17, 17), (145, 64), (155, 64), (172, 16), (192, 16))


def random_rows(seed: int, c: int) -> Iterable[tuple[str, np.ndarray]]:
    """Many rows, in all sets but the first with their largest element raised."""
    for row in 3 * np.random.default_rng(seed).standard_normal((150, c)):
        yield f"random {seed}", row + 9 * (seed != RANDOM[0][0]) * (row == row.max())


@cache
def groups(storage: np.dtype) -> list[Rows]:
    half = storage.itemsize == 2
    working = np.dtype(np.float32) if half else storage
    many = [Rows(storage, random_rows(*which)) for which in (RANDOM[:1] if half else RANDOM)]
    return many + [Rows(storage, hard_rows(working, c)) for c in (HALF_CLASSES if half else CLASSES)]


every_kind = pytest.mark.parametrize(
    ("storage", "layout"),
    [pytest.param(s, order, id=f"{storage_ids(s)}-{order}") for s in STORAGES for order in "CF"],
)


def check(names: list[np.ndarray], errors: list[np.ndarray], bound: float) -> None:
    """Show the largest error (pytest -rP), and name the rows whose error is not below the bound."""
    found = sorted(zip(np.concatenate(errors).tolist(), np.concatenate(names).tolist(), strict=True), reverse=True)
    print("{:.3f} ULP ({})".format(*found[0]))
    assert [pair for pair in found if not pair[0] <= bound] == []


@every_kind
def test_logsumexp(level, storage, layout):
    names, errors, near_names, near_errors = [], [], [], []
    for rows in groups(storage):
        y = fx.logsumexp(rows.array.copy(layout), axis=1)
        names.append(rows.names)
        errors.append(ulps(y, *rows.truth("logsumexp"), at_least=1.0))
        near_names.append(rows.names[rows.near_zero])
        near_errors.append(ulps(y, *rows.truth("logsumexp"))[rows.near_zero])
    check(names, errors, 2)
    check(near_names, near_errors, 4)


@every_kind
def test_log_softmax(level, storage, layout):
    names, errors = [], []
    for rows in groups(storage):
        y = fx.log_softmax(rows.array.copy(layout), axis=1)
        names.append(rows.names)
        errors.append(ulps(y, *rows.truth("log_softmax"), at_least=1.0).max(axis=1))
    check(names, errors, 2)


@every_kind
def test_softmax(level, storage, layout):
    names, errors = [], []
    for rows in groups(storage):
        y = fx.softmax(rows.array.copy(layout), axis=1)
        high, rest = rows.truth("softmax")
        normal = high >= np.finfo(y.dtype).smallest_normal
        names.append(rows.names)
        errors.append(np.where(normal, ulps(y, high, rest), 0.0).max(axis=1))
        assert ((y >= 0) & (normal | (y <= np.finfo(y.dtype).smallest_normal))).all()
    check(names, errors, 4)


@every_kind
def test_cross_entropy_rows(level, storage, layout):
    names, errors, losses = [], [], []
    for rows in groups(storage):
        array = rows.array.copy(layout)
        for k, labels in enumerate(rows.labels):
            y = fx.cross_entropy(array, labels, reduction="none")
            high, rest = rows.truth("loss", k)
            meant = (high == 0) | (high >= np.finfo(y.dtype).smallest_normal)
            names.append(rows.names[meant])
            errors.append(ulps(y, high, rest)[meant])
            losses += high[meant].tolist()
    check(names, errors, 4)
    if storage.itemsize > 2:  # the confident rows are among them
        assert sum(1e-21 < y < 1e-19 for y in losses) >= 10
        assert sum(0 < y < (1e-36 if storage == np.float32 else 1e-300) for y in losses) >= 10


# ---- elementary functions ----

INTERVALS = {
    "exp": [(-745.2, 709.7), (-1, 1), (0.34, 0.37), (-746, -708), (-1e-9, 1e-9), (709.5, 710.5)],
    "log": [(0.5, 2), (0.7, 0.72), (0.97, 1.03), (2, 1e300), (1e-323, 2e-308)],
    "log1p": [(-1, 2), (-0.3, -0.29), (0.4, 0.42), (-1e-9, 1e-9), (2, 100), (1e15, 1e300), (-1e-307, 1e-307)],
    "expm1": [(-41, 2), (0.3, 0.4), (-0.4, -0.3), (0.99, 1.2), (-1e-9, 1e-9), (2, 709.7), (-1e-307, 1e-307)],
}
# where a search through 10^6 points an interval found the largest errors of one build or another
WORST = {
    "exp": ["0x1.073ab2beb4708p+9", "0x1.72c0cae4f3677p-2", "-0x1.5f980eb1c8474p+9", "0x1.6ef600180dd17p-2"],
    "log": ["0x1.671fb2f1cbbcbp-1", "0x1.68c7f8537675fp-1", "0x1.43217d90bfc4fp-1"],
    "log1p": ["-0x1.2d45c643f0141p-2", "-0x1.2c1c778b2c729p-2", "0x1.9feaa2cd031b3p-2"],
    "expm1": ["0x1.6f98189f531f4p-2", "0x1.8d50d0aef5f72p-2", "-0x1.0376b3d316a00p-4", "0x1.2e3a08da8b84ap+5"],
}
SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e308, INF), (-1e308, 0.0), (-745.14, 0.0)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-5e-324, NAN), (-INF, NAN), (NAN, NAN)],
    "log1p": [(-0.0, -0.0), (-1.0, -INF), (-1.1, NAN), (INF, INF), (-INF, NAN), (NAN, NAN), (5e-324, 5e-324)],
    "expm1": [(-0.0, -0.0), (INF, INF), (-INF, -1.0), (NAN, NAN), (1e3, INF), (-1e3, -1.0), (5e-324, 5e-324)],
}


@cache
def elementary_truth(name: str) -> tuple[np.ndarray, Exact]:
    rng = np.random.default_rng(1)
    worst = [float.fromhex(h) for h in WORST[name]]
    x = np.concatenate([worst, *(rng.uniform(*ends, 1500) for ends in INTERVALS[name])])
    return x, split([getattr(mpmath, name)(mpf(v)) for v in x.tolist()])


@pytest.mark.parametrize("name", INTERVALS)
def test_elementary(level, name):
    x, truth = elementary_truth(name)
    y = np.empty_like(x)
    kernels = _dispatch.load_level(level)
    kernels.elementary(name, x, y)
    check([x], [ulps(y, *truth)], math.nextafter(1 if kernels.fused else 2, 0))


@pytest.mark.parametrize("name", SPECIAL)
def test_elementary_special_values(level, name):
    x, expected = (np.array(column) for column in zip(*SPECIAL[name], strict=True))
    y = np.empty_like(x)
    _dispatch.load_level(level).elementary(name, x, y)
    assert same_bits(y, expected)


# the vector functions in float32: where a search found the largest errors of one build or another
WORST_SINGLE = {
    "log": ["0x1.6a045ep-1", "0x1.69f4c2p-1"],
    "log1p": ["-0x1.2c1542p-2", "-0x1.7103d6p-2"],
    "expm1": ["0x1.63026ap-2", "0x1.64cd34p-2"],
}


def of_vectors(level: str, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _dispatch.load_level(level).elementary_vectors(name, x, y)
    return y


@pytest.mark.parametrize("name", WORST_SINGLE)
def test_vectors_in_float64_are_the_scalar_functions(level, name):
    special = np.array([x for x, _ in SPECIAL[name]])
    bits = np.random.default_rng(5).integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    x = np.concatenate([elementary_truth(name)[0], special, bits, -special])
    y = np.empty_like(x)
    _dispatch.load_level(level).elementary(name, x, y)
    assert same_bits(of_vectors(level, name, x), y)
    for n in (1, 3, 17):  # a last vector that is not whole
        assert same_bits(of_vectors(level, name, x[:n]), y[:n])


@cache
def single_truth(name: str) -> tuple[np.ndarray, Exact]:
    rng = np.random.default_rng(2)
    with np.errstate(over="ignore"):
        some = [rng.uniform(*ends, 1500).astype(np.float32) for ends in INTERVALS[name]]
    bits = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    subnormal = rng.integers(1, 2**23, 300).astype(np.uint32).view(np.float32)
    worst = np.array([float.fromhex(h) for h in WORST_SINGLE[name]], np.float32)
    x = np.concatenate([worst, *some, bits, subnormal])
    lowest, highest = {"log": (0, INF), "log1p": (-1, INF), "expm1": (-INF, 88)}[name]
    x = x[(x > lowest) & (x < highest)]
    return x, split([getattr(mpmath, name)(mpf(v)) for v in x.tolist()])


@pytest.mark.parametrize("name", WORST_SINGLE)
def test_vectors_in_float32(level, name):
    x, truth = single_truth(name)
    fused = _dispatch.load_level(level).fused
    check([x], [ulps(of_vectors(level, name, x), *truth)], math.nextafter(1 if fused else 2, 0))


@pytest.mark.parametrize("name", WORST_SINGLE)
def test_vectors_in_float32_special_values(level, name):
    with np.errstate(over="ignore", under="ignore"):
        x, expected = (np.array(column).astype(np.float32) for column in zip(*SPECIAL[name], strict=True))
    if name == "log":
        x[x == 0], expected[x == 0] = 0, -INF  # -5e-324 is one, in float32
    assert same_bits(of_vectors(level, name, x), expected)


# ---- exact sums ----


def rounded_sum(values: list[float], counts: list[int] | None = None, divisor: int = 1) -> float:
    """The sum of count x value in fractions, divided, rounded once; by IEEE rules where one is not finite."""
    special = [v for v in values if not math.isfinite(v)]
    if special:
        return sum(special)
    counts = [1] * len(values) if counts is None else counts
    total = sum((n * Fraction(v) for v, n in zip(values, counts, strict=True)), Fraction()) / divisor
    try:
        return float(total)
    except OverflowError:
        return INF if total > 0 else -INF


@given(st.data(), st.lists(st.floats() | st.floats(width=32) | st.sampled_from([5e-324, 1e308, -1e308, 2.0**-72])))
def test_exact_sum(data, values):
    parts = [ExactSum() for _ in range(3)]
    for value in data.draw(st.permutations(values)):
        i = data.draw(st.integers(0, 2))
        parts[i].add(np.array([value]))
        if data.draw(st.booleans()):
            parts[i] = ExactSum.from_state(json.loads(json.dumps(parts[i].state())))
    total, *others = data.draw(st.permutations(parts))
    for other in others:
        total.merge(other)
    assert same_bits(total.value(), rounded_sum(values))
    assert same_bits(total.mean(7), rounded_sum(values, divisor=7))
    finite = [v for v in values if math.isfinite(v)]
    assert total.fraction() == exact_sum(finite) == sum(map(Fraction, finite))


@pytest.mark.parametrize(
    "pool",
    [
        [2.0**26 - 2.0**-24],  # the largest of the fast path, where its integers must not overflow
        [-(2.0**26) + 2.0**-24],
        [2.0**26, -(2.0**26), 2.0**-72, 3 * 2.0**-72],
        [2.0**-73, 1.0, 2.0**-72 + 2.0**-100, -(2.0**-25), 2.0**-24 - 2.0**-72],  # some off the fast path
        [0.1, -0.3, 1e-40, 12.5, 700.0, 1e-300],
        [5e-324, -2e-308, 1.7e308, 1e-320, -1.7e308, 1.0],
        [1.7e308],
        [1.0, INF, -1e300],
        [INF, 2.0, -INF],
        [3.0, NAN],
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exact_sum_of_arrays(level, dtype, pool):
    for n in (0, 1, 7, 8, 9, 4096, 4097, 100_001):
        with np.errstate(over="ignore"):
            values = np.random.default_rng(n).choice(np.array(pool).astype(dtype), n)
        different, counts = np.unique(values, return_counts=True)
        total = ExactSum()
        total.add(values)
        assert same_bits(total.value(), rounded_sum(different.tolist(), counts.tolist()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_sums_of_values_that_are_not_aligned(dtype):
    """As messages between processes bring them; what the sanitizers look at."""
    values = np.random.default_rng(3).normal(size=1003).astype(dtype)
    values[::7] *= 1e30  # beyond the digits of the ordinary value
    room = np.empty(values.nbytes + 1, np.uint8)[1:]
    room[:] = values.view(np.uint8)
    moved = room.view(dtype)
    assert not moved.flags.aligned
    sums = [ExactSum(), ExactSum()]
    for total, some in zip(sums, (values, moved), strict=True):
        total.add(some)
    assert sums[0].value() == sums[1].value()


def test_exact_products(level):
    rng = np.random.default_rng(3)
    x, y = (np.ldexp(rng.standard_normal(700), rng.integers(-235, 245, 700)) for _ in range(2))
    sums = ExactSums(2)
    sums.add_products(0, x, y)
    assert sums[0].fraction() == sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True))
    assert sum(sum(map(Fraction, part.tolist())) for part in two_product(x, y)) == sums[0].fraction()
    sums.add_products(1, np.array([1e300, INF, 3.0]), np.array([1e300, 1.0, 0.5]))
    assert sums[1].state()[1:] == [2, 0, 0]

