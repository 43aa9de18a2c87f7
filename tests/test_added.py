"""Sums of losses, which each thread takes of those that it has in cache: exact, whoever adds what."""

from fractions import Fraction

import numpy as np
import pytest

import fastxent as fx
from fastxent import _dispatch
from fastxent._arrays import as_labels
from fastxent._exact import ExactSum
from fastxent._passes import rows as _rows

SHAPES = [(30_000, 2), (9000, 3), (7000, 10), (5000, 100), (600, 1000), (9, 30_000), (2, 19, 50, 61), (3, 70_000)]


def inputs(shape, dtype):
    rng = np.random.default_rng(shape[1])
    x = (rng.standard_normal(shape) * 4).astype(dtype)
    return x, rng.integers(0, shape[1], shape[:1] + shape[2:])


def exact_sum(losses):
    return sum(map(Fraction, losses.reshape(-1).tolist()), Fraction(0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mean_and_sum(level, monkeypatch, shape, dtype):
    x, y = inputs(shape, dtype)
    y.reshape(-1)[3::7] = -100
    losses = fx.cross_entropy(x, y, reduction="none")
    total, count = exact_sum(losses), int((y != -100).sum())
    assert total
    monkeypatch.setattr(_rows, "SERIAL_ELEMENTS", 0)
    for rows, elements, seconds in ((1 << 15, 1 << 19, 0.02), (700, 1 << 19, 0.0), (1 << 15, 5000, 0.0), (1, 1, 0.001)):
        monkeypatch.setattr(_rows, "ADDED_ROWS", rows)
        monkeypatch.setattr(_rows, "ADDED_ELEMENTS", elements)
        monkeypatch.setattr(_rows, "SECONDS", seconds)
        for threads in (1, 3):
            with fx.num_threads(threads):
                assert fx.cross_entropy(x, y, reduction="sum", temperature=1.0) == float(total)
                assert fx.cross_entropy(x, y) == float(total / count)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 2048, 70_001])
@pytest.mark.parametrize("least", [-149, -120, -90, -40])
def test_float32_of_any_size(level, n, least):
    """Each digit of 23 bits, and what lies below the normal numbers, among larger ones and zeros."""
    rng = np.random.default_rng(n)
    values = np.ldexp(rng.random(n), rng.integers(least, 8, n)).astype(np.float32)
    values[::5] *= -1
    values[::3] = 0.0
    total = ExactSum()
    total.add(values)
    assert total.fraction() == exact_sum(values)
    large = np.ldexp(rng.random(n), 12).astype(np.float32)  # beyond the first digit, and in one sum with it
    total.add(np.concatenate([values, large]))
    assert total.fraction() == 2 * exact_sum(values) + exact_sum(large)


def test_class_weights(level):
    x, y = inputs((40_000, 10), "float32")
    weight = np.linspace(0, 2, 10)
    losses = fx.cross_entropy(x, y, weight, reduction="none")
    assert fx.cross_entropy(x, y, weight, reduction="sum") == float(exact_sum(losses))
    assert fx.cross_entropy(x, y, weight) == float(exact_sum(losses) / exact_sum(weight[y]))


def test_a_wrong_label_far_behind(level):
    x, y = inputs((90_000, 3), "float32")
    y[[70_123, 80_000]] = 3, -7
    with pytest.raises(IndexError, match=r"target\[70123\] is 3, outside \[0, 3\)"):
        fx.cross_entropy(x, y)
    used = np.delete(np.arange(len(y)), [70_123, 80_000])
    assert fx.cross_entropy(x, y, invalid="ignore") == fx.cross_entropy(x[used], y[used])


def test_what_is_not_finite(level):
    x, y = inputs((90_000, 3), "float32")
    x[60_000, y[60_000]] = -np.inf
    assert fx.cross_entropy(x, y) == np.inf
    x[3] = np.nan
    assert np.isnan(fx.cross_entropy(x, y))


def test_no_room(level):
    kernels = _dispatch.kernels
    x, y = inputs((1000, 3), "float32")
    rows = kernels.Rows(x, 0, 1, y, as_labels(y, y.shape, -100).code)
    sums, room = np.zeros((2, kernels.exact_size), np.int64), np.empty((2, 400), np.uint8)
    assert rows.add_losses(0, 1000, 2, sums, room) == (1000, 0, 0)
    for bad in (
        lambda: rows.add_losses(0, 1001, 2, sums, room),
        lambda: rows.add_losses(5, 5, 2, sums, room),
        lambda: rows.add_losses(0, 1000, 3, sums, room),
        lambda: rows.add_losses(0, 1000, 3, sums, np.empty((3, 400), np.uint8)),
        lambda: rows.add_losses(0, 1000, 2, sums[:, :-1].copy(), room),
        lambda: rows.add_losses(0, 1000, 2, sums, np.empty((2, 3), np.uint8)),
        lambda: kernels.Rows(x, 0, 1).add_losses(0, 1000, 2, sums, room),
        lambda: rows.add_losses(0, 1000, 2, sums, room, weights=np.ones(2)),
    ):
        with pytest.raises(ValueError, match=r"out of range|no room|do not match|are wanted"):
            bad()
