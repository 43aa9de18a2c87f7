"""logsumexp with weights, signs and complex numbers: SciPy's meaning, mpmath's digits, the reference's values."""

import itertools
import math
import tracemalloc

import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from layouts import BFLOAT16, fused_levels, layouts, same_bits, use_level

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan


def scipys(*args, **options):
    with np.errstate(all="ignore"):
        return scipy.special.logsumexp(*args, **options)


def check(a, axis=None, b=None, **options):
    """SciPy's values, shapes and dtypes, with and without the sign."""
    for sign in (False, True):
        result = fx.logsumexp(a, axis, b, return_sign=sign, **options)
        expected = scipys(a, axis, b, return_sign=sign, **options)
        for got, want in zip(result if sign else [result], expected if sign else [expected], strict=True):
            assert got.dtype == want.dtype
            tolerance = 2e-6 if got.dtype.itemsize == 4 * (1 + (got.dtype.kind == "c")) else 1e-13
            np.testing.assert_allclose(got, want, tolerance, 10 * tolerance, strict=True)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4,)), ((3, 4), (3, 1)), ((4,), (3, 4)), ((), (3,)), ((3,), ()), ((), ()), ((2, 3, 4), (3, 1)),
        ((2, 70_000), (70_000,)), ((300_000,), (300_000,)), ((4000, 2), (2,)), ((2, 0), (2, 1)), ((0, 3), (3,)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_are_scipys(a, b, dtype):
    rng = np.random.default_rng(0)
    a, b = np.asarray(rng.normal(0, 5, a), dtype), np.asarray(rng.random(b) + 0.1, dtype)
    ndim = max(a.ndim, b.ndim)
    for axis in (None, 0, -1, (0,), (), *([(0, 1), (-1, 0)] if ndim > 1 else [])):
        empty = 0 in np.broadcast_shapes(a.shape, b.shape)
        for keepdims in (False, True):
            if empty:
                got, sign = fx.logsumexp(a, axis, b, keepdims, True)
                assert got.shape == (a + b).sum(axis, keepdims=keepdims).shape
                # of no term: SciPy gives -1, the sign of -inf, instead of the sum's
                assert (got == -INF).all()
                assert (sign == 0).all()
            else:
                check(a, axis, b, keepdims=keepdims)
    if 0 not in np.broadcast_shapes(a.shape, b.shape) and a.size < 1000:
        check(a, -1, b - 0.5)


@pytest.mark.parametrize("a", list(itertools.product([0.0, 1.0, -3.0, INF, -INF, NAN], repeat=2)), ids=str)
def test_special_values_are_scipys(a):
    for b in itertools.product([0.0, -0.0, 1.0, -1.0, 2.5, INF, -INF, NAN], repeat=2):
        check(np.array(a), b=np.array(b))
        got, want = fx.logsumexp(a, b=b, return_sign=True), reference.logsumexp(a, b=b, return_sign=True)
        np.testing.assert_allclose(got, want, 1e-14, 1e-15)


def test_scipys_examples():
    a = np.arange(10)
    assert fx.logsumexp(a) == pytest.approx(9.4586297444267107)
    assert fx.logsumexp(a, b=np.arange(10, 0, -1)) == pytest.approx(9.9170178533034665)
    value, sign = fx.logsumexp([1, 2], b=[1, -1], return_sign=True)
    assert (value, sign) == (pytest.approx(1.5413248546129181), -1.0)
    masked = np.ma.array([np.log(2), 2, np.log(3)], mask=[False, True, False])
    assert fx.logsumexp(masked.data, b=(~masked.mask).astype(int)) == pytest.approx(math.log(5))


def test_elements_without_weight_may_be_anything_finite():
    """Far above all that count, too, where their exponential is no number."""
    for largest in (50.0, 1e3, 4.4248196e30, 1e163, 1.7e308):
        a = np.array([[largest, 1.0, -largest, 2.0]])
        value, sign = fx.logsumexp(a, 1, [0, 1, 0, -3], return_sign=True)
        want, its = scipy.special.logsumexp([1.0, 2.0], b=[1, -3], return_sign=True)
        assert value[0] == pytest.approx(want, rel=1e-15)
        assert sign[0] == its


def test_dtypes():
    single = np.float32([1, 2])
    assert fx.logsumexp(single, b=2).dtype == fx.logsumexp(single, b=single).dtype == np.float32
    assert fx.logsumexp(single, b=2.5).dtype == fx.logsumexp(single, b=np.array([1, 2], np.float16)).dtype == np.float32
    for b in ([1, 2], np.float64([1, 2]), np.array([True, False])):
        assert fx.logsumexp(single, b=b).dtype == fx.logsumexp([1, 2], b=b).dtype == np.float64
    assert fx.logsumexp(single, None, 2, True).shape == (1,)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16, "int16", "uint8"], ids=str)
def test_layouts_threads_and_levels(dtype, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, (2, 40, 300)).astype(dtype)
    want = fx.logsumexp(a.astype(float), 1, b.astype(float)), fx.logsumexp(a.astype(float), None, b[:1].astype(float))
    for level in fused_levels():
        use_level(monkeypatch, level)
        for threads in (1, 3):
            with fx.num_threads(threads):
                for (_, x), (_, y) in itertools.product(list(layouts(a))[:: 1 + threads], list(layouts(b))[::4]):
                    got = fx.logsumexp(x, 1, y)
                    assert same_bits(got, want[0].astype(got.dtype))
                    assert fx.logsumexp(x, None, y[:1]) == want[1].astype(fx.logsumexp(x).dtype)


def test_axes_that_do_not_join():
    a, b = np.random.default_rng(2).normal(size=(2, 60, 70, 80))
    for axes in ((0, 2), (1, 2), (0, 1), (2, 0), None):
        order = [d for d in range(3) if axes is not None and d not in axes]
        order += sorted(axes or range(3))
        plain = [np.ascontiguousarray(x.transpose(order)) for x in (a, b)]
        want = fx.logsumexp(plain[0], tuple(range(3 - len(axes or "xyz"), 3)), plain[1], return_sign=True)
        assert same_bits(np.array(fx.logsumexp(a, axes, b, return_sign=True)), np.array(want))


def truth(a, b):
    with mpmath.workdps(60):
        total = mpmath.fsum(mpmath.mpf(float(y)) * mpmath.exp(mpmath.mpf(float(x))) for x, y in zip(a, b, strict=True))
        return (mpmath.log(abs(total)), mpmath.sign(total)) if total else (-INF, 0)


ROWS = {
    "plain": lambda r: (r.normal(0, 5, 300), r.normal(0, 1, 300)),
    "far": lambda r: (r.normal(1e4, 5, 300), r.normal(0, 1, 300)),
    "far down": lambda r: (r.normal(-1e5, 5, 300), r.random(300)),
    "peaked": lambda r: (np.append(0.0, r.uniform(-90, -36, 300)), np.append(1.0, r.normal(0, 1, 300))),
    "peaked, negative": lambda r: (np.append(0.0, r.uniform(-90, -36, 300)), np.append(-1.0, r.normal(0, 1, 300))),
    "close terms": lambda r: (1 + r.integers(1, 9, 300) * 2.0**-40, np.tile([1.0, -1.0], 150)),
    "three that cancel": lambda r: (np.array([3.0, 3.0 + 2**-30, 2.5]), np.array([1.0, -1.0, 1e-12])),
    "large weights": lambda r: (r.uniform(-900, -700, 300), 10.0 ** r.uniform(200, 300, 300)),
    "segments": lambda r: (np.linspace(-30, 3, 200_000), np.tile([1.0, -0.5], 100_000)),
    "segments down": lambda r: (np.linspace(3, -30, 140_000), np.ones(140_000)),
}


@pytest.mark.parametrize("kind", ROWS)
def test_accuracy(kind):
    a, b = ROWS[kind](np.random.default_rng(3))
    value, sign = fx.logsumexp(a, b=b, return_sign=True)
    exact, exact_sign = truth(a, b)
    assert sign == exact_sign
    error = abs(value - exact)
    if kind.startswith("peaked"):
        assert error <= 1e-15 * abs(exact)
    else:
        assert error <= 2.5 * np.spacing(max(abs(value), 1.0))
    if len(a) < 1000:
        again = reference.logsumexp(a, b=b, return_sign=True)
        assert again[1] == sign
        assert again[0] == pytest.approx(value, rel=2e-15, abs=0)


@given(st.lists(st.tuples(st.floats(-50, 50), st.sampled_from([0.0, 1.0, -1.0, 0.25, -3.0, 1e-9])), max_size=40))
def test_against_reference(pairs):
    a, b = [list(x) for x in zip(*pairs, strict=True)] or ([], [])
    got, sign = fx.logsumexp(a, b=b, return_sign=True)
    want, want_sign = reference.logsumexp(a, b=b, return_sign=True)
    total = math.fsum(y * math.exp(x) for x, y in pairs)
    if abs(total) < 1e-9 * math.fsum(abs(y) * math.exp(x) for x, y in pairs):
        return  # rounding decides
    assert sign == want_sign
    assert got == want or abs(got - want) < 1e-6 * max(1.0, abs(want))
    plain = fx.logsumexp(a, b=b)
    assert np.isnan(plain) if sign < 0 else plain == got


def test_signs_without_weights():
    for a in ([1.0, 2.0], [-INF], [INF, 1.0], [NAN], [[1.0, NAN], [2.0, -INF]]):
        check(np.array(a))
        check(np.array(a), -1, keepdims=True)
        assert same_bits(reference.logsumexp(a, -1, return_sign=True)[1], fx.logsumexp(a, -1, return_sign=True)[1])
    out = np.empty(2)
    value, sign = fx.logsumexp([[1.0, 1.0], [-INF, -INF]], 1, return_sign=True, out=out)
    assert value is out
    assert sign.tolist() == [1.0, 0.0]
    assert fx.logsumexp([[1.0, 1.0], [2.0, -3.0]], 1, [1, -1], out=out) is out


COMPLEX = [
    (np.array([1 + 1j, 2 - 3j]), None),
    (np.array([[1 + 1j, 2 - 3j], [800 + 7j, 799 + 1j]]), np.array([1, -1])),
    (np.array([[1.0, 2], [3, 4]]), np.array([1j, 2])),
    (np.array([-1e3 + 1j, 2 - 3j], np.complex64), None),
    (np.array([[1 + 2j, 3], [-INF, -INF]]), None),
    (np.array(2 + 4j), None),
    (np.array([1 + 4j, 5 + 1j]), np.array([1.0, 0.0])),
]


@pytest.mark.parametrize(("a", "b"), COMPLEX, ids=range(len(COMPLEX)))
def test_complex_numbers_are_scipys(a, b):
    for axis in (None, -1, 0):
        check(a, axis, b)
        check(a, axis, b, keepdims=True)


def test_numbers_give_numbers():
    for name in ("softmax", "log_softmax", "logsumexp"):
        result = getattr(fx, name)(2.5)
        assert type(result) is np.float64
        assert result == getattr(scipy.special, name)(2.5)
    out = np.empty(())
    assert fx.softmax(np.array(2.5), out=out) is out


def test_errors():
    for args, kind, message in (
        (([1.0, 2.0], None, [1.0, 2.0, 3.0]), ValueError, r"^a has shape \(2,\) and b \(3,\)"),
        (([1.0, 2.0], None, ["x", "y"]), TypeError, "b has dtype"),
        (([1j, 2.0], None, ["x", "y"]), TypeError, "b has dtype"),
        (([1j, 2.0], 1), ValueError, "axis 1 is out of bounds"),
        (([1.0, 2.0], 1, 2.0), ValueError, "axis 1 is out of bounds"),
    ):
        with pytest.raises(kind, match=message):
            fx.logsumexp(*args)


def test_weights_are_not_copied_whole():
    a, b = np.zeros((64, 1 << 16), np.float32), np.ones((64, 1 << 16), np.float32)
    fx.logsumexp(a, 1, b)
    tracemalloc.start()
    for axis in (1, 0, None):
        fx.logsumexp(a, axis, b)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
