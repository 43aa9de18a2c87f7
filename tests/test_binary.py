"""Binary cross-entropy: PyTorch's meaning, the reference's values, accuracy, exact sums, gradients, the same bits."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
from accuracy import exact_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import STORAGES, fused_levels, layouts, same_bits, storage_ids, use_level
from mpmath import mpf
from test_elementwise import FLOATS, INTEGERS, near, outcome

import fastxent as fx
from fastxent import reference
from fastxent._passes import elements as _elements

INF, NAN = math.inf, math.nan
PROBS, LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"
REDUCTIONS = ("none", "sum", "mean")
every_name = pytest.mark.parametrize("name", [PROBS, LOGITS])


def inputs(name, dtype, shape=(6, 50), seed=0):
    """Probabilities or logits, hard ones among them."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iub":
        return rng.integers(0, 2 if name == PROBS or dtype.kind == "b" else 100, shape).astype(dtype)
    x = rng.random(shape) if name == PROBS else 8 * rng.standard_normal(shape)
    special = [0, 1, 1e-30, 1e-300, 0.5, 1 - 1e-7] if name == PROBS else [0, 1e-30, 50, -50, 1000, -1000]
    x.flat[: len(special)] = special
    return x.astype(dtype)


def targets(dtype, shape=(6, 50), seed=1):
    rng = np.random.default_rng(seed)
    soft = np.dtype(dtype).kind not in "iub"
    return np.where(rng.random(shape) < 0.5, rng.integers(0, 2, shape), rng.random(shape) if soft else 1).astype(dtype)


def twins(name, x, target, *args, values=None, **options):
    """The kernels and the reference: the same values or the same kind of error, with every reduction."""
    for reduction in REDUCTIONS:
        expected = outcome(getattr(reference, name), x, target, *args, reduction=reduction, **options)
        result = outcome(getattr(fx, name), x, target, *args, reduction=reduction, **options)
        if isinstance(expected, type) or isinstance(result, type):
            assert result is expected
        elif reduction == "none":
            near(result, expected, 8)
        else:
            assert result == pytest.approx(expected, rel=1e-6, nan_ok=True)


# ---- meaning ----


@every_name
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("target", ["float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"])
def test_twins(name, dtype, target):
    x, y = inputs(name, dtype), targets(target)
    twins(name, x, y)
    loss = getattr(fx, name)(x, y, reduction="none")
    assert loss.dtype == (np.float64 if dtype == "float64" or dtype in INTEGERS else np.float32)


@every_name
@pytest.mark.parametrize("shape", [(), (1,), (50,), (6, 1), (6, 50), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_weights(level, name, shape, dtype):
    rng = np.random.default_rng(3)
    x, y = inputs(name, np.float32), targets(np.float32)
    weight, pos_weight = (4 * rng.random((2, *shape))).astype(dtype)
    twins(name, x, y, weight)
    if name == LOGITS:
        twins(name, x, y, pos_weight=pos_weight)
        twins(name, x, y, weight, pos_weight=pos_weight)
    # a broadcast weight is its expanded copy
    copy = np.broadcast_to(weight, x.shape).copy()
    function = getattr(fx, name)
    assert same_bits(function(x, y, weight, reduction="none"), function(x, y, copy, reduction="none"))


def test_float64_targets_beside_float32(level):
    """1 - y must not lose what float32 cannot hold."""
    y = np.array([1 - 1e-12, 1e-12])
    loss = fx.binary_cross_entropy_with_logits(np.float32([40, -40]), y, reduction="none")
    np.testing.assert_allclose(loss, np.float32(40e-12), rtol=1e-4)


def test_infinite_logits(level):
    x = np.array([INF, INF, INF, -INF, -INF, -INF, NAN, NAN])
    y = np.array([1, 0, 0.5, 0, 1, 0.5, 0, 1])
    loss, gradient = fx.binary_cross_entropy_with_logits(x, y, reduction="none", return_grad=True)
    assert same_bits(loss, np.array([0, INF, INF, 0, INF, INF, NAN, NAN]))
    np.testing.assert_array_equal(gradient, [0, 1, 0.5, 0, -1, -0.5, NAN, NAN])
    twins(LOGITS, x, y)


@every_name
def test_pytorch(level, name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    for dtype, rtol in ((np.float32, 2e-5), (np.float64, 1e-12)):
        x = inputs(name, dtype)
        for y in (targets(dtype), rng.integers(0, 2, x.shape).astype(dtype)):
            weights = [None, *(rng.random(s).astype(dtype) for s in ((), (50,), (6, 1), (6, 50)))]
            for weight in weights:
                for pos_weight in weights if name == LOGITS else [None]:
                    for reduction in REDUCTIONS:
                        options = {} if pos_weight is None else {"pos_weight": pos_weight}
                        ours = getattr(fx, name)(x, y, weight, reduction=reduction, **options)
                        options = {k: torch.tensor(v) for k, v in options.items()}
                        w = None if weight is None else torch.tensor(weight)
                        theirs = getattr(torch.nn.functional, name)(
                            torch.tensor(x), torch.tensor(y), w, reduction=reduction, **options
                        )
                        # PyTorch's cancels: its error is relative to the terms that it subtracts
                        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-4 if dtype == np.float32 else 1e-12)


@every_name
@pytest.mark.parametrize(
    ("x", "target", "options", "text"),
    [
        ([0.5, 0.2], [[1.0, 0.0]], {}, r"target has shape \(1, 2\)"),
        ([0.5, 0.2], [1.0], {}, r"target has shape \(1,\)"),
        ([0.5, 0.2], 1.0, {}, r"target has shape \(\)"),
        ([0.5, 0.2], [1.0, 0.0], {"weight": [1.0, 2.0, 3.0]}, r"weight has shape \(3,\)"),
        ([0.5, 0.2], [1.0, 0.0], {"weight": [[1.0], [2.0]]}, r"weight has shape \(2, 1\)"),
        ([0.5, 0.2], [1.0, 0.0], {"reduction": "avg"}, "reduction must be"),
    ],
)
def test_errors_that_pytorch_has_too(name, x, target, options, text):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=text):
        getattr(fx, name)(x, target, **options)
    assert outcome(getattr(reference, name), x, target, **options) is ValueError
    theirs = {key: value if key == "reduction" else torch.tensor(value) for key, value in options.items()}
    with pytest.raises((ValueError, RuntimeError)):
        getattr(torch.nn.functional, name)(torch.tensor(x), torch.tensor(target), **theirs)


@pytest.mark.parametrize(
    ("probs", "target", "text"),
    [
        ([[0.5, 1.0], [0.25, 1.25]], [[0, 1], [1, 1]], r"^probs\[1, 1\] is 1.25, outside \[0, 1\]$"),
        ([0.5, -0.25], [0, 1], r"probs\[1\] is -0.25"),
        ([0.5, NAN], [0, 1], r"probs\[1\] is nan"),
        ([3, 4], [0, 1], r"probs\[0\] is 3"),
        ([0.5, 0.5], [0, 2], r"target\[1\] is 2"),
        ([0.5, 0.5], [-0.5, 1], r"target\[0\] is -0.5"),
        ([0.5, 0.5], [1, NAN], r"target\[1\] is nan"),
        (-1.0, 1.0, r"probs is -1.0"),
    ],
)
def test_probabilities_and_targets_outside(level, probs, target, text):
    torch = pytest.importorskip("torch")
    for reduction in REDUCTIONS:
        with pytest.raises(ValueError, match=text):
            fx.binary_cross_entropy(probs, target, reduction=reduction)
    assert outcome(reference.binary_cross_entropy, probs, target) is ValueError
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        torch.nn.functional.binary_cross_entropy(torch.tensor(probs).double(), torch.tensor(target).double())


@every_name
def test_wrong_dtypes(name):
    for place in range(3):
        args = [[0.5], [1.0], [1.0]]
        for bad in ([1j], ["a"], [None], np.longdouble([1])):
            args[place] = bad
            with pytest.raises(TypeError, match=(("probs" if name == PROBS else "logits"), "target", "weight")[place]):
                getattr(fx, name)(*args)
    with pytest.raises(ValueError, match=r"pos_weight has shape \(2,\)"):
        fx.binary_cross_entropy_with_logits([0.5] * 3, [1] * 3, pos_weight=[1, 2])


@every_name
def test_nothing(name):
    function = getattr(fx, name)
    for shape in ((0,), (3, 0, 2)):
        x = np.empty(shape)
        assert function(x, x, reduction="none").shape == shape
        assert function(x, x, reduction="sum") == 0
        assert math.isnan(function(x, x))
    assert function(0.25, True) == function([0.25], [1])


# ---- accuracy ----


@cache
def truth(dtype, soft: bool):
    """Logits, targets, and the loss and gradient there, each as a sum of two numbers."""
    rng = np.random.default_rng(8)
    most = 85 if dtype == np.float32 else 700
    x = np.concatenate([rng.uniform(-most, most, 700), rng.uniform(-3, 3, 1500), [-1.2949365, 0.6401521, 0, -0.0]])
    x = x.astype(dtype)
    y = (rng.random(len(x)) if soft else rng.integers(0, 2, len(x))).astype(dtype)
    y[:20] = rng.random(20) * 1e-6
    with mpmath.workdps(60):
        pairs = []
        for v, t in zip(x.tolist(), y.tolist(), strict=True):
            v, t = mpf(v), mpf(t)
            pairs.append(t * mpmath.log1p(mpmath.exp(-v)) + (1 - t) * mpmath.log1p(mpmath.exp(v)))
        high = np.array([float(p) for p in pairs])
        rest = np.array([float(p - mpf(h)) for p, h in zip(pairs, high.tolist(), strict=True)])
    return x, y, high, rest


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_accuracy_of_logits(level, dtype, soft):
    x, y, high, rest = truth(dtype, soft)
    loss = fx.binary_cross_entropy_with_logits(x, y, reduction="none")
    error = abs((loss.astype(float) - high) - rest) / np.spacing(abs(high.astype(dtype))).astype(float)
    print(f"{error.max():.3f} ULP at {x[error.argmax()]!r}, {y[error.argmax()]!r}")
    assert error.max() < 4
    if not soft:
        assert (loss < 1e-20).sum() > 100  # confident right answers are among them


def test_accuracy_of_every_exponent(level):
    """Logits of all sizes, and losses down to the smallest subnormal number."""
    rng = np.random.default_rng(12)
    x = np.concatenate([2.0 ** rng.uniform(-149, 7, 20_000), rng.uniform(0, 104, 50_000)]).astype(np.float32)
    exact = np.log1p(np.exp(-x.astype(float)))
    ulp = np.spacing(exact.astype(np.float32)).astype(float)
    for sign, label in ((1, 1), (-1, 0)):
        loss = fx.binary_cross_entropy_with_logits(sign * x, np.full(x.shape, label, np.float32), reduction="none")
        assert (abs(loss - exact) / ulp).max() < 4
        assert (abs(-fx.log_sigmoid(x) - exact) / ulp).max() < 3 + (level == "baseline")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_accuracy_of_probabilities(level, dtype):
    rng = np.random.default_rng(9)
    p = np.concatenate([rng.random(2000), 1 - 10.0 ** -rng.uniform(0, 9, 500), 10.0 ** -rng.uniform(0, 37, 500)])
    p = p.astype(dtype)
    for y in (rng.integers(0, 2, p.size), rng.random(p.size).astype(dtype)):
        loss = fx.binary_cross_entropy(p, y, reduction="none")
        with mpmath.workdps(60):
            exact = []
            for v, t in zip(p.tolist(), y.tolist(), strict=True):
                hit = min(mpf(100), -mpmath.log(mpf(v))) if v else mpf(100)
                miss = min(mpf(100), -mpmath.log(1 - mpf(v))) if v < 1 else mpf(100)
                exact.append(float(mpf(t) * hit + (1 - mpf(t)) * miss))
        near(loss, exact, 4)


# ---- gradients ----


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient(level, reduction, weighted):
    rng = np.random.default_rng(10)
    x, y = inputs(LOGITS, np.float64), targets(np.float64)
    x[0] = rng.uniform(-3, 3, 50)
    weight, pos_weight = (4 * rng.random((2, 50))) if weighted else (None, None)
    options = {"pos_weight": pos_weight, "reduction": reduction}
    loss, gradient = fx.binary_cross_entropy_with_logits(x, y, weight, **options, return_grad=True)
    assert same_bits(loss, fx.binary_cross_entropy_with_logits(x, y, weight, **options))
    _, expected = reference.binary_cross_entropy_with_logits(x, y, weight, **options, return_grad=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-15)
    # central differences, by the sum where each element has its own loss
    h = 1e-4
    options["reduction"] = "none"
    up, down = (fx.binary_cross_entropy_with_logits(x + step, y, weight, **options) for step in (h, -h))
    slope = (up - down) / (2 * h) / (x.size if reduction == "mean" else 1)
    np.testing.assert_allclose(gradient[0], slope[0], rtol=1e-6, atol=1e-9)


def test_gradient_of_pytorch(level):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-12)):
        x, y = inputs(LOGITS, dtype), targets(dtype)
        weight, pos_weight = (rng.random(s).astype(dtype) for s in ((6, 1), (50,)))
        for reduction in ("sum", "mean"):
            _, ours = fx.binary_cross_entropy_with_logits(
                x, y, weight, pos_weight=pos_weight, reduction=reduction, return_grad=True
            )
            t = torch.tensor(x, requires_grad=True)
            torch.nn.functional.binary_cross_entropy_with_logits(
                t, torch.tensor(y), torch.tensor(weight), pos_weight=torch.tensor(pos_weight), reduction=reduction
            ).backward()
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, t.grad, rtol=rtol, atol=rtol / 10)


# ---- sums and bits ----


@every_name
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_sums_are_those_of_the_losses(level, monkeypatch, name, dtype):
    x, y = inputs(name, dtype, (300, 401)), targets(np.float64, (300, 401))
    total = exact_sum(getattr(fx, name)(x, y, reduction="none"))
    for block in (1 << 20, 50_000):
        monkeypatch.setattr(_elements, "BLOCK_ELEMENTS", block)
        assert getattr(fx, name)(x, y, reduction="sum") == total.numerator / total.denominator
        mean = total / x.size
        assert getattr(fx, name)(x, y) == mean.numerator / mean.denominator


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100, 2047, 2080, 5000, 70_000])
def test_sums_of_losses_of_every_size(level, n):
    """Of all exponents in any order, beyond 128, infinite, NaN: digit by digit and one by one."""
    rng = np.random.default_rng(n)
    factor = np.where(rng.random(n) < 0.05, 3e5, 1.0)
    for x in (rng.uniform(-104, 104, n), rng.uniform(80, 104, n), factor * rng.uniform(-9, 9, n)):
        x = x.astype(np.float32)
        y = rng.integers(0, 2, n).astype(np.float32)
        losses = fx.binary_cross_entropy_with_logits(x, y, reduction="none")
        total = exact_sum(losses)
        assert fx.binary_cross_entropy_with_logits(x, y, reduction="sum") == total.numerator / total.denominator
        minus = exact_sum(-losses)
        weight = np.full(n, -1, np.float32)
        assert fx.binary_cross_entropy_with_logits(x, y, weight, reduction="sum") == minus.numerator / minus.denominator
        x[n // 2] = INF
        y[n // 2] = 0
        assert fx.binary_cross_entropy_with_logits(x, y, reduction="sum") == INF
        x[n // 2] = NAN
        assert math.isnan(fx.binary_cross_entropy_with_logits(x, y, reduction="sum"))


@every_name
def test_levels_threads_and_blocks(monkeypatch, name):
    for dtype in (np.float32, np.float64):
        x, y = inputs(name, dtype, (300, 401)), targets(dtype, (300, 401))
        options = {"return_grad": True} if name == LOGITS else {}

        def all_of(x=x, y=y, options=options):
            found = [getattr(fx, name)(x, y, x[0] * x[0], reduction=r, **options) for r in REDUCTIONS]
            return [np.asarray(a) for result in found for a in (result if options else [result])]

        first, *others = fused_levels()
        use_level(monkeypatch, first)
        with fx.num_threads(1):
            expected = all_of()
        monkeypatch.setattr(_elements, "SERIAL_ELEMENTS", 0)
        for level in (first, *others):
            use_level(monkeypatch, level)
            for threads, block in ((2, 1 << 20), (3, 16_385), (4, 999)):
                monkeypatch.setattr(_elements, "BLOCK_ELEMENTS", block)
                with fx.num_threads(threads):
                    assert all(map(same_bits, all_of(), expected)), (level, threads, block)


@every_name
@pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
def test_layouts(level, name, storage):
    x, y = inputs(name, storage, (5, 6, 13)), targets(np.float32, (5, 6, 13))
    weight = np.random.default_rng(0).random((6, 1))
    options = {"return_grad": True} if name == LOGITS else {}

    def results(x, y):
        found = [getattr(fx, name)(x, y, weight, reduction=r, **options) for r in REDUCTIONS]
        return [np.asarray(a) for result in found for a in (result if options else [result])]

    expected = results(x, y)
    for (layout, a), (_, b) in zip(layouts(x), list(layouts(y))[::-1], strict=False):
        assert all(map(same_bits, results(a, y), expected)), layout
        assert all(map(same_bits, results(a, b), expected)), layout


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_anything_at_once(data):
    name = data.draw(st.sampled_from([PROBS, LOGITS]), "name")
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4), "shape"))
    unit = st.sampled_from([0.0, 1.0, 0.5, 1e-30, 1 - 2.0**-24]) | st.floats(0, 1)
    wide = st.sampled_from([0.0, -0.0, 50.0, -50.0, 1e4, INF, -INF, NAN]) | st.floats(-99, 99)

    def array(elements, dtypes, shape):
        dtype = data.draw(st.sampled_from(dtypes))
        values = data.draw(st.lists(elements, min_size=1, max_size=20))
        with np.errstate(all="ignore"):
            values = np.random.default_rng(0).choice(np.array(values), shape).astype(dtype)
        return values

    x = array(unit if name == PROBS else wide, STORAGES, shape)
    y = array(unit, [*STORAGES, "i8", "u2", "?"], shape)
    small = [data.draw(st.sampled_from([1, n])) for n in shape][data.draw(st.integers(0, len(shape))) :]
    weight = array(st.floats(0, 9), [*STORAGES[:2], "i4"], small) if data.draw(st.booleans()) else None
    function = getattr(fx, name)
    expected = function(x, y, weight, reduction="none")
    near(expected, getattr(reference, name)(x, y, weight, reduction="none"), 8)
    _, a = data.draw(st.sampled_from(list(layouts(x))), "layout of x")
    _, b = data.draw(st.sampled_from(list(layouts(y))), "layout of y")
    assert same_bits(function(a, b, weight, reduction="none"), expected)
