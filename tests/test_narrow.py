"""Rows of few classes, and strided ones, to float32 results: where a row lies in memory changes no bit."""

from fractions import Fraction

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx

N = 301


def rows(c, dtype):
    """Among ordinary rows those that only the kernel with references, and only the one of single rows, can do."""
    rng = np.random.default_rng(c)
    x = 4 * rng.standard_normal((N, c))
    x[7::40] += 500
    x[11::40] -= 200
    x[13::40, 0], x[17::40, -1], x[19::40], x[23::40, : c // 2] = np.nan, np.inf, -np.inf, -np.inf
    x[29::40, -1] += 60
    x[31::40] = 0.5
    return x.astype(dtype), rng.integers(0, c, N)


def results(x, y, axis=1):
    y = np.where(np.arange(N) % 9 == 4, -100, y)  # some that do not count
    losses = fx.cross_entropy(x, y.reshape(np.delete(x.shape, axis)), reduction="none")
    return losses.ravel(), fx.logsumexp(x, axis=axis).ravel()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("c", [2, 3, 4, 5, 7, 19, 100, 128, 129, 200, 256])
def test_rows_apart(level, c, dtype):
    x, y = rows(c, dtype)
    wide = np.zeros((N, c + 3), dtype)
    wide[:, 1 : c + 1] = x
    for other in (wide[:, 1 : c + 1], x[::-1].copy()[::-1]):
        for want, got in zip(results(x, y), results(other, y), strict=True):
            assert same_bits(want, got)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("c", [2, 3, 5, 19, 129, 300])
def test_strided_rows_apart(level, c, dtype):
    x, y = rows(c, dtype)
    planes = np.ascontiguousarray(x.T)[None]
    gaps = np.zeros((1, c, 2 * N), dtype)
    gaps[:, :, ::2] = planes
    short = np.ascontiguousarray(x.reshape(43, 7, c).swapaxes(1, 2))  # lines of 7 pixels
    want = results(planes, y)
    for other in (gaps[:, :, ::2], short):
        for one, two in zip(want, results(other, y), strict=True):
            assert same_bits(one, two)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("c", [2, 3, 4, 10, 128, 129, 136, 137, 256])
def test_neighbours_change_nothing(level, c, dtype):
    """Few rows, and many neighbours that are far off, of which no sum is tried without a reference."""
    x, y = rows(c, dtype)
    for far in (0, 90, -90, 3000, -3000):
        moved = x + x.dtype.type(far)
        amid, targets = np.concatenate([moved, x, moved]), np.concatenate([y, y, y])
        each = alone(moved, y), alone(x, y), alone(moved, y)
        losses, lses = (np.concatenate(some) for some in zip(*each, strict=True))
        assert same_bits(losses, fx.cross_entropy(amid, targets, reduction="none"))
        assert same_bits(lses, fx.logsumexp(amid, axis=1))


def alone(x, y):
    """Losses and log-sum-exps of a few rows at a time: 1, 2, ..., 40, 1, ..."""
    losses, lses, start, some = [], [], 0, 1
    while start < len(x):
        part = slice(start, start + some)
        losses.append(fx.cross_entropy(x[part], y[part], reduction="none"))
        lses.append(fx.logsumexp(x[part], axis=1))
        start, some = start + some, some % 40 + 1
    return np.concatenate(losses), np.concatenate(lses)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("c", [2, 3, 10, 100, 129, 256, 257, 1000])  # from 257 on losses of several rows side by side
def test_an_evaluation_has_the_losses_of_cross_entropy(level, c, dtype):
    x, y = rows(c, dtype)
    loss = fx.cross_entropy(x, y, reduction="none")
    some = np.isfinite(loss)
    mean = sum(map(Fraction, loss[some].tolist())) / int(some.sum())  # fsum / n rounds twice
    assert fx.evaluate(x[some], y[some]).cross_entropy == float(mean)


@pytest.mark.parametrize("label", [-(1 << 63), -(1 << 32), -1, 3, 4, (1 << 31) + 1, 1 << 32, (1 << 32) + 1, 2**63 - 1])
@pytest.mark.parametrize("place", [0, 5, 255, 256, N - 1])
def test_a_label_out_of_range_anywhere(level, label, place):
    """What 32 bits of it are does not count; and each is found in lanes and behind the last full vector."""
    x = np.random.default_rng(0).standard_normal((N, 3), np.float32)
    y = np.arange(N) % 3
    want = fx.cross_entropy(x, y, reduction="none")
    y[place] = label
    with pytest.raises(IndexError, match=rf"target\[{place}\] is {label}, outside \[0, 3\)"):
        fx.cross_entropy(x, y)
    got = fx.cross_entropy(x, y, reduction="none", ignore_index=label)
    want[place] = 0
    assert same_bits(got, want)


def test_rows_of_planes_a_power_of_two_apart(level):
    """Eight classes of many rows at a time, and rows that are no whole number of vectors: the same as few at a time."""
    x = 3 * np.random.default_rng(1).standard_normal((1, 21, 16, 64), np.float32)
    y = np.random.default_rng(2).integers(0, 21, (1, 16, 64))
    want = fx.cross_entropy(x, y, reduction="none"), fx.logsumexp(x, axis=1)
    for size in (1, 5, 33, 64, 70, 255, 300):
        pieces = [slice(i, i + size) for i in range(0, 1024, size)]
        lines, labels = x.reshape(1, 21, 1024), y.reshape(1, 1024)
        losses = [fx.cross_entropy(lines[:, :, s], labels[:, s], reduction="none") for s in pieces]
        lses = [fx.logsumexp(lines[:, :, s], axis=1) for s in pieces]
        for got, one in zip((losses, lses), want, strict=True):
            assert same_bits(np.concatenate(got, axis=1), one.reshape(1, 1024))


# ---- two classes: the difference of the logits ----


def exact_differences(x, y):
    """The other logit less the label's, exactly, and the larger one."""
    x = x.astype(np.longdouble)
    rows = np.arange(len(y))
    return x[rows, 1 - y] - x[rows, y], x.max(1)


@pytest.mark.parametrize("scale", [1, 10, 40, 1e4, 1e30])
@pytest.mark.parametrize("order", ["contiguous", "strided"])
def test_two_classes(level, scale, order):
    """Within the bounds at any distance from 0: what the difference lost counts where a loss is e^-80."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((20_000, 2)) * scale).astype(np.float32)
    x[1::2, 1] = x[1::2, 0] + rng.uniform(-86, 86, 10_000)  # confident rows, and wrong ones
    y = rng.integers(0, 2, len(x))
    d, largest = exact_differences(x, y)
    given = x if order == "contiguous" else np.ascontiguousarray(x.T)[None]
    labels = y if order == "contiguous" else y[None]
    losses = fx.cross_entropy(given, labels, reduction="none").ravel()
    tail = np.log1p(np.exp(-abs(d)))
    want = np.maximum(d, 0) + tail
    unit = np.spacing(np.maximum(want, np.finfo(np.float32).tiny).astype(np.float32))
    assert np.max(abs(losses - want) / unit) < 4
    want = largest + tail
    got = fx.logsumexp(given, axis=1).ravel()
    assert np.max(abs(got - want) / np.spacing(np.maximum(abs(want), 1).astype(np.float32))) < 2


@pytest.mark.parametrize("x", [(0.0, 0.0), (1e5, 1e5), (-3e38, 3e38), (3e38, -3e38), (0.0, -87.5), (0.0, -200.0)])
def test_two_classes_at_the_ends(level, x):
    row = np.array([x] * 5, np.float32)
    rest = np.longdouble(x[1]) - np.longdouble(x[0])
    with np.errstate(over="ignore"):
        want = np.float32(rest + np.log1p(np.exp(-rest)) if rest > 0 else np.log1p(np.exp(rest)))
    for got in fx.cross_entropy(row, [0] * 5, reduction="none"):
        assert got == want or abs(got - want) <= 4 * np.spacing(want)


# ---- sums whose terms are all rounded alike ----


@pytest.mark.parametrize("c", [2, 3, 6, 8, 32, 64, 100, 128, 136, 200, 256])
def test_equal_logits(level, c):
    """A lane that added 8 terms, or terms with an error that they share, would be beyond the bound of 2 ULP."""
    x = np.random.default_rng(c).uniform(-4, 4, (40_000, 1)).astype(np.float32)
    want = x[:, 0].astype(np.longdouble) + np.log(np.longdouble(c))
    got = fx.logsumexp(np.repeat(x, c, axis=1), axis=1)
    assert np.max(abs(got - want) / np.spacing(np.maximum(abs(want), 1).astype(np.float32))) < 2
