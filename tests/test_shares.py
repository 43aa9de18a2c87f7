"""KL and JS of wide float32 rows of probabilities, which are read once where that suffices: digits, hard rows, bits."""

import math

import numpy as np
import pytest
from layouts import BFLOAT16, fused_levels, layouts, same_bits, use_level

import fastxent as fx

NAMES = ("kl_divergence", "js_divergence")
every_name = pytest.mark.parametrize("name", NAMES)


def rows(count, classes, noise, seed=0, dtype=np.float32):
    """Probabilities, and those of noisy logits."""
    rng = np.random.default_rng(seed)
    x = 2 * rng.standard_normal((count, classes))
    return (softmax(x).astype(dtype), softmax(x + noise * rng.standard_normal(x.shape)).astype(dtype))


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def terms(a, b):
    """a log(a / b) - a + b; a times e^-d - 1 + d, d = log(a / b), by its series where that cancels."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = np.where(a > 0, (b - a) / a, 0.0)
        near = abs(x) < 0.02
        d = np.where(near, -np.log1p(np.where(near, x, 0.0)), np.log(a) - np.log(b))
        series = d * d * (1 / 2 - d * (1 / 6 - d * (1 / 24 - d * (1 / 120 - d * (1 / 720 - d / 5040)))))
        return np.where(a > 0, np.where(near, a * series, a * d + (b - a)), b)


def truth(name, p, q):
    """In float64, as a sum of terms that are not negative."""
    p, q = (x.astype(float) / np.array([[math.fsum(row)] for row in x.tolist()]) for x in (p, q))

    def kl(a, b):
        return np.array([math.fsum(row) if np.isfinite(row).all() else math.inf for row in terms(a, b)])

    return kl(p, q) if name == "kl_divergence" else (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def digits(name, p, q):
    found, wanted = getattr(fx, name)(p, q), truth(name, p, q)
    assert (found >= 0).all()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@every_name
@pytest.mark.parametrize("classes", [33, 100, 256, 1000, 5003])
@pytest.mark.parametrize("noise", [1e-4, 1e-2, 0.1, 0.5, 2.0, 30.0])
def test_to_all_digits(level, name, classes, noise):
    """Near and far pairs, and both in one row; a float32 softmax's sums differ in the last digits."""
    p, q = rows(12, classes, noise)
    digits(name, p, q)
    digits(name, q, p)
    p[:, ::3] = q[:, ::3]
    digits(name, p, q)


@every_name
def test_ratios_of_every_size(level, name):
    rng = np.random.default_rng(1)
    p = rng.random((150, 64)).astype(np.float32)
    q = (p * 2.0 ** rng.uniform(-1.8, 1.8, (150, 1)).astype(np.float32)).astype(np.float32)
    # about the border between near and far, and 2^k beyond it
    q[:, ::2] = p[:, ::2] * (np.float32(2.0) ** rng.integers(-40, 40, (150, 32))).astype(np.float32)
    about = 1 + 2.0**-22 * rng.integers(-4, 4, (150, 16))
    q[:, 1::4] = (3 * p[:, 1::4] * about).astype(np.float32)
    digits(name, p, q)
    digits(name, q, p)


@every_name
def test_sums_that_differ(level, name):
    """Rows up to scale: by little, by much, by powers of two, which change no bit."""
    p, q = rows(6, 300, 0.05)
    for factor in (1 + 2.0**-20, 1 + 2.0**-12, 1.01, 1.4, 3.0, 1000.0):
        digits(name, p, q * np.float32(factor))
        digits(name, p * np.float32(factor), q)
    found = getattr(fx, name)(p, q)
    for a, b in ((2.0**20, 2.0**-7), (2.0**-70, 1.0), (2.0**60, 2.0**60), (2.0**-30, 2.0**-30)):
        assert same_bits(getattr(fx, name)(p * np.float32(a), q * np.float32(b)), found), (a, b)


@every_name
def test_zeros(level, name):
    p, q = rows(8, 200, 0.1)
    p[:, ::7] = 0
    p[1] = q[1]
    p[2:4, 5] = q[2:4, 5] = 0
    digits(name, p, q)
    assert getattr(fx, name)(p, q)[1] == 0
    q[4, 3] = 0
    q[5, 7] = -0.0
    digits(name, p, q)
    assert (getattr(fx, name)(p, q)[4] == math.inf) == (name == "kl_divergence")
    one = np.eye(2, 90, dtype=np.float32)
    assert getattr(fx, name)(one[:1], one[1:])[0] == (math.inf if name == "kl_divergence" else np.float32(0.6931471))


@every_name
def test_tiny_and_huge_entries(level, name):
    rng = np.random.default_rng(2)
    p, q = (rng.random((40, 128)) * 10.0 ** rng.uniform(-44, 0, (40, 128)) for _ in range(2))
    p, q = p.astype(np.float32), q.astype(np.float32)
    found, wanted = getattr(fx, name)(p, q), truth(name, p, q)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # beside huge ones, which are not made smaller to meet the others; without a fused multiply-add the share underflows
    p, q = (np.array([x] + [1e30] * 40, np.float32) for x in (1.0, 1e-30))
    if level != "baseline" or name != "kl_divergence":
        assert getattr(fx, name)(p, q) == pytest.approx(truth(name, p[None], q[None])[0], rel=1e-5, abs=0)


@every_name
@pytest.mark.parametrize("value", [-1e-30, -0.5, -5.0, -math.inf, math.inf])
def test_what_is_no_probability(level, name, value):
    for place in (0, 150, 299):
        for other in (0.0, 0.1, -value):
            p, q = rows(3, 300, 0.1)
            p[1, place] = value
            q[1, place] = max(other, 0.0) if math.isfinite(other) else 0.0
            for args, who in (((p, q), "p"), ((q, p), "q")):
                with pytest.raises(ValueError, match=rf"{who}\[1, {place}\] is"):
                    getattr(fx, name)(*args)
    both = rows(2, 300, 0.1)
    for x in both:
        x[0, 5] = value
    with pytest.raises(ValueError, match=r"p\[0, 5\] is"):
        getattr(fx, name)(*both)
    p, q = rows(3, 300, 0.1)
    p[1, 7] = math.nan
    assert np.isnan(getattr(fx, name)(p, q)).tolist() == [False, True, False]


@pytest.mark.parametrize("classes", [2, 40, 300, 70_000])
def test_shares_that_float32_cannot_hold(level, classes):
    """A class of one row alone, of a share of 1e-68 there and none in the other."""
    p, q = np.ones((2, 3, classes), np.float32)
    q *= 1e30
    p[:, 1], q[:, 1] = 0.0, np.finfo(np.float32).tiny
    for a, b in ((p, q), (q, p)):
        assert (fx.js_divergence(a, b) < 1e-28).all()
        assert same_bits(fx.js_divergence(a, b), fx.js_divergence(b, a))
    assert (fx.kl_divergence(p, q) < 1e-28).all()
    if level != "baseline":  # numerics.md
        assert (fx.kl_divergence(q, p) == math.inf).all()


def test_js_is_symmetric(level):
    for noise in (0.01, 1.0, 30.0):
        p, q = rows(20, 333, noise)
        assert same_bits(fx.js_divergence(p, q), fx.js_divergence(q, p))


@every_name
@pytest.mark.parametrize("shape", [(9, 700), (3, 70_001)], ids=str)
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_bits(monkeypatch, name, shape, noise):
    """Of levels, threads and layouts, in rows of one segment and of several."""
    p, q = rows(*shape, noise)
    function = getattr(fx, name)
    with fx.num_threads(1):
        expected = function(p, q)
    for level in fused_levels():
        with monkeypatch.context() as patch:
            use_level(patch, level)
            for threads in (1, 3):
                with fx.num_threads(threads):
                    assert same_bits(function(p, q), expected), (level, threads)
    for (layout, a), (_, b) in zip(layouts(p), list(layouts(q))[::-1], strict=False):
        assert same_bits(function(a, b), expected), layout


@every_name
def test_rows_of_several_segments(level, name):
    p, q = rows(2, 140_000, 0.2)
    digits(name, p, q)
    q[1] *= np.float32(1.5)
    digits(name, p, q)
    q[0, 100_000] = -1
    with pytest.raises(ValueError, match=r"q\[0, 100000\] is -1"):
        getattr(fx, name)(p, q)


@every_name
@pytest.mark.parametrize("dtype", ["float16", BFLOAT16], ids=str)
def test_halves(level, name, dtype):
    """Their sums differ by more."""
    p, q = (x.astype(dtype) for x in rows(5, 400, 0.3))
    digits(name, p.astype(np.float32), q.astype(np.float32))
    np.testing.assert_allclose(getattr(fx, name)(p, q), truth(name, p, q), rtol=1e-6)
