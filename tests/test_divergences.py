"""Entropy and divergences: the reference's values, SciPy's and PyTorch's meaning, the identities that they satisfy."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
from accuracy import agree, exactly
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layouts import layouts, same_bits
from test_distributions import FLOATS, INTEGERS, numbers, outcome

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan
LOGITS = ("kl_divergence_with_logits", "js_divergence_with_logits")
SHARES = ("kl_divergence", "js_divergence")
ALL = ("entropy", "entropy_with_logits", *SHARES, *LOGITS)


def both(name, *args, **options):
    found, expected = (outcome(getattr(module, name), *args, **options) for module in (fx, reference))
    span = 0.0
    if len(args) == 2 and np.ndim(found) == np.ndim(expected):
        with np.errstate(all="ignore"):
            gaps = np.abs(np.asarray(args[0], "f8") - np.asarray(args[1], "f8"))
        span = gaps[np.isfinite(gaps)].max(initial=0.0) / options.get("temperature", 1.0)
    agree(found, expected, span=span)


def pair(dtype, shape=(3, 4, 5), spread=0.3):
    """Ordinary, tied and masked logits, the same classes masked in both, and their neighbours."""
    p = numbers(dtype, shape)
    noise = np.random.default_rng(5).normal(0, spread, shape) if dtype in FLOATS else np.zeros(shape)
    q = p.copy() if dtype == "bool" else (p.astype(np.float64) + noise).astype(p.dtype)
    if dtype in INTEGERS:
        q = q[::-1].copy()
    return p, q


def shares(dtype, shape=(3, 4, 5), seed=0):
    """Counts, or probabilities up to scale, of all sizes; the same classes 0 in any two, and some more in the last."""
    rng = np.random.default_rng(seed)
    if dtype in INTEGERS:
        x = rng.integers(0, 2 if dtype == "bool" else 100, shape)
        x[..., -1] = 1
        return x.astype(dtype)
    x = rng.gamma(0.3, size=shape) * (3.0 if dtype == "float16" else 1e3)
    x[..., 0] = x[..., 0] * 100
    x[np.random.default_rng(99).random(shape) < 0.15] = 0.0
    if seed and len(shape) > 1:
        x[-1, ..., -1] = 0.0
    x[..., 1] = 0.75
    return x.astype(dtype)


def arguments(name, dtype="float32", shape=(3, 4, 5)):
    """Arrays to call a function with."""
    arrays = pair(dtype, shape) if name.endswith("logits") else (shares(dtype, shape), shares(dtype, shape, 1))
    return arrays[: 1 if name.startswith("entropy") else 2]


# ---- values ----


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_dtype_in_every_layout(dtype):
    p, q = pair(dtype)
    for axis in (0, 1, -1):
        expected = {name: getattr(reference, name)(p, q, axis=axis) for name in LOGITS}
        entropy = reference.entropy_with_logits(p, axis=axis)
        for (_, x), (_, y) in zip(layouts(p), list(layouts(q))[::-1], strict=False):
            before = x.tobytes(), y.tobytes()
            for name in LOGITS:
                result = getattr(fx, name)(x, y, axis=axis)
                agree(result, expected[name])
                assert result.dtype == (np.float32 if dtype in FLOATS[1:] else np.float64)
            agree(fx.entropy_with_logits(x, axis=axis), entropy)
            assert (x.tobytes(), y.tobytes()) == before


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_memory_changes_no_bit(dtype):
    p, q = pair(dtype, (7, 300))
    expected = {name: getattr(fx, name)(p, q) for name in LOGITS}
    entropy = fx.entropy_with_logits(p)
    for (_, x), (_, y) in zip(layouts(p), list(layouts(q))[::-1], strict=False):
        for name in LOGITS:
            assert same_bits(getattr(fx, name)(x, y), expected[name])
        assert same_bits(fx.entropy_with_logits(x), entropy)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_shares_of_every_dtype_in_every_layout(dtype):
    p, q = shares(dtype), shares(dtype, seed=1)
    for axis in (0, 1, -1):
        expected = {name: getattr(reference, name)(p, q, axis=axis) for name in SHARES}
        entropy = reference.entropy(p, axis=axis)
        for (_, x), (_, y) in zip(layouts(p), list(layouts(q))[::-1], strict=False):
            before = x.tobytes(), y.tobytes()
            for name in SHARES:
                result = getattr(fx, name)(x, y, axis=axis)
                exactly(result, expected[name])
                assert result.dtype == (np.float32 if dtype in FLOATS[1:] else np.float64)
            exactly(fx.entropy(x, axis=axis), entropy)
            assert (x.tobytes(), y.tobytes()) == before


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_memory_of_shares_changes_no_bit(dtype):
    p, q = shares(dtype, (7, 300)), shares(dtype, (7, 300), 1)
    expected = {name: getattr(fx, name)(p, q) for name in SHARES}
    entropy = fx.entropy(p)
    for (_, x), (_, y) in zip(layouts(p), list(layouts(q))[::-1], strict=False):
        for name in SHARES:
            assert same_bits(getattr(fx, name)(x, y), expected[name])
        assert same_bits(fx.entropy(x), entropy)


@pytest.mark.parametrize("left", [*FLOATS, "int16"])
@pytest.mark.parametrize("right", [*FLOATS, "int16"])
def test_mixed_dtypes(left, right):
    p, q = numbers(left), numbers(right)[::-1]
    for name in LOGITS:
        both(name, p, q)
        single = left in FLOATS[1:] and right in FLOATS[1:]
        assert getattr(fx, name)(p, q).dtype == (np.float32 if single else np.float64)
    p, q = shares(left), shares(right, seed=1)
    for name in SHARES:
        exactly(getattr(fx, name)(p, q), getattr(reference, name)(p, q))


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.0, -INF], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, -INF]),
        ([0.0, -INF], [-INF, 0.0]),
        ([0.0, -INF, 1.0], [2.0, -INF, 1.0]),
        ([NAN, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [NAN, 0.0]),
        ([INF, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [INF, INF]),
        ([-INF, -INF], [0.0, 0.0]),
        ([0.0, 0.0], [-INF, -INF]),
        ([0.0, -1e300], [0.0, -INF]),  # a class that has underflowed is there nevertheless
        ([0.0, -200.0], [0.0, -INF]),
        ([0.0, -INF], [0.0, -200.0]),
        ([0.0, -900.0], [0.0, -1e5]),
        ([0.0, -900.0, 1.0], [-900.0, 0.0, -1e9]),
        ([1.7e308, -1.7e308, 0.0], [-1.7e308, 1.7e308, 0.0]),
        ([1e300, 1e300], [-1e300, -1e300]),
        ([5.0], [-7.0]),
        ([], []),
    ],
)
def test_special_values(name, p, q):
    both(name, p, q)
    with np.errstate(over="ignore"):
        p, q = np.array(p, np.float32), np.array(q, np.float32)
    both(name, p, q)


@pytest.mark.parametrize("row", [[0.0, -INF], [-INF, -INF], [INF, 0.0], [NAN, 1.0], [3.0], [], [0.0, 700.0], [1e9, 0]])
def test_special_entropies(row):
    both("entropy_with_logits", row)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spread", [1e-8, 1e-6, 1e-4, 1e-2, 0.3, 1.0, 5.0, 40.0])
def test_shares_to_all_digits(dtype, spread):
    """Nearly equal, far apart, peaked, of tiny and of huge sums."""
    rng = np.random.default_rng(4)
    p = rng.gamma(0.5, size=(12, 12))  # each third and each fourth row meet
    p[::3, 5] *= 1e6
    p[::4] *= 1e20
    p[1::4] *= 1e-28
    with np.errstate(all="ignore"):
        q = (p * np.exp(spread * rng.normal(size=p.shape))).astype(dtype)
        q[2::4] *= 1e10
    p = p.astype(dtype)
    q[~np.isfinite(q)] = 1.0
    for name in SHARES:
        exactly(getattr(fx, name)(p, q), getattr(reference, name)(p, q))
    exactly(fx.kl_divergence(q, p), reference.kl_divergence(q, p))
    assert same_bits(fx.js_divergence(q, p), fx.js_divergence(p, q))
    exactly(fx.entropy(p), reference.entropy(p))
    exactly(fx.entropy(q), reference.entropy(q))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([1.0, 0.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, 0.0]),
        ([1.0, 0.0], [0.0, 1.0]),
        ([1.0, 0.0, 2.0], [3.0, 0.0, 2.0]),
        ([NAN, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, NAN]),
        ([0.0, 0.0], [1.0, 1.0]),
        ([1.0, 1.0], [0.0, -0.0]),
        ([], []),
        ([7.0], [2.0]),
        ([1.0, -0.0], [1.0, 0.0]),
        ([5e-324, 5e-324], [5e-324, 1e-323]),
        ([1.7e308, 1.7e308, 1.7e308], [1e308, 1.7e308, 1e5]),
        ([1.0, 1e-300], [1e-300, 1.0]),
        ([1e300, 1e-5], [1e-5, 1e300]),
        ([-1.0, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, -1e-320]),
        ([NAN, -1.0], [1.0, 1.0]),
        ([INF, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [-INF, 1.0]),
        ([0.0, -1.0], [0.0, 1.0]),
    ],
)
def test_special_shares(p, q):
    for dtype in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            a, b = np.array(p, dtype), np.array(q, dtype)
        for name in (*SHARES, "entropy"):
            args = (a, b)[: 1 if name == "entropy" else 2]
            found, wanted = (outcome(getattr(module, name), *args) for module in (fx, reference))
            if isinstance(found, type) or isinstance(wanted, type):
                assert found is wanted
            else:
                exactly(found, wanted)


sizes = st.floats(0, 1e3, width=32) | st.sampled_from([0.0, 1.0, 0.5, 1e-30, 1e30])


def vanishes(p, axis):
    """Whether a share of a row is none that float32 can hold."""
    p = p.astype(np.float64)
    least = 2.0**-149 * p.sum(axis=axis, keepdims=True)
    return ((0 < p) & (p < least)).any()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_shares(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    p, q = (data.draw(hnp.arrays(dtype, shape, elements=sizes)) for _ in "pq")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    base = data.draw(st.sampled_from([None, 2, 10.0]))
    # numerics.md: a float32 share below 2^-149 counts as 0
    assume(dtype == np.float64 or not (vanishes(p, axis) or vanishes(q, axis)))
    for name in SHARES:
        exactly(getattr(fx, name)(p, q, axis=axis, base=base), getattr(reference, name)(p, q, axis=axis, base=base))
        assert same_bits(fx.js_divergence(p, q, axis=axis), fx.js_divergence(q, p, axis=axis))
    exactly(fx.entropy(p, axis=axis, base=base), reference.entropy(p, axis=axis, base=base))


def test_the_first_bad_entry_is_named():
    p, q = np.ones((3, 4, 5)), np.ones((4, 5), np.float32)
    p[2, 1, 3] = p[1, 3, 0] = -0.25
    q[1, 1] = INF
    with pytest.raises(ValueError, match=r"p\[1, 3, 0\] is -0.25; a probability or a count is finite"):
        fx.kl_divergence(p, q, axis=1)
    with pytest.raises(ValueError, match=r"q\[1, 1\] is inf"):
        fx.js_divergence(np.abs(p), q, reduction="mean")
    with pytest.raises(ValueError, match=r"p\[1, 3, 0\] is -0.25"):
        fx.entropy(p.swapaxes(0, 0)[:, ::1], reduction="sum")
    with pytest.raises(ValueError, match=r"p\[2\] is -3"):
        fx.entropy(np.array([1, 2, -3, -4], np.int8))
    with pytest.raises(ValueError, match=r"p\[1, 0\] is -1"):
        fx.entropy(np.array([[0, 1], [-1, 5]], "float16").astype("bfloat16"))
    wide = np.ones((2, 70001), np.float32)
    wide[1, 70000] = -1e-40
    with pytest.raises(ValueError, match=r"p\[1, 70000\] is -9.99"):
        fx.entropy(wide)


logits = st.floats(-50, 50, width=32) | st.sampled_from([-INF, 0.0, 1.0, -100.0])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_rows(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    p, q = (data.draw(hnp.arrays(dtype, shape, elements=logits)) for _ in "pq")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    base = data.draw(st.sampled_from([None, 2, 10.0]))
    for name in LOGITS:
        both(name, p, q, axis=axis, base=base)
    both("entropy_with_logits", p, axis=axis, base=base)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.7])
@pytest.mark.parametrize("dtype", FLOATS)
def test_temperature(dtype, temperature):
    p, q = pair(dtype)
    for name in LOGITS:
        both(name, p, q, temperature=temperature)
        assert getattr(fx, name)(p, q, temperature=temperature).dtype == getattr(fx, name)(p, q).dtype


@pytest.mark.parametrize(
    ("left", "right", "axis"),
    [
        ((5,), (3, 4, 5), -1),
        ((3, 1, 5), (4, 5), -1),
        ((1, 4, 5), (3, 4, 1), 1),
        ((3, 4, 5), (4, 5), 2),
        ((5,), (5,), 0),
    ],
)
def test_broadcasting(left, right, axis):
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=left), rng.normal(size=right)
    for name in LOGITS:
        both(name, p, q, axis=axis)
        both(name, q.astype("f4"), p.astype("f4"), axis=axis)


# ---- accuracy ----


def hard_pair(kind, spread, dtype, c):
    """Rows and near neighbours, about `spread` apart."""
    rng = np.random.default_rng(c)
    p = rng.normal(0, 3, (4, c))
    if kind == "peaked":
        p[:, c // 2] += 15
    elif kind == "masked":
        p[:, ::3] = -INF
    elif kind == "offset":
        p += 700
    elif kind == "rising":
        p += np.linspace(0, 60, c)
    p = p.astype(dtype)
    q = (p + spread * rng.normal(size=p.shape) + 0.25).astype(dtype)
    return p, q


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("kind", ["normal", "peaked", "masked", "offset", "rising"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_accuracy(name, kind, dtype):
    """The bounds of numerics.md, from a divergence of 1e-16 (float64) or 1e-8 (float32) on."""
    seen = []
    for spread in (3e-8, 1e-6, 3e-4, 0.01, 0.3) if dtype == "float64" else (3e-4, 0.01, 0.3):
        for c in (7, 300):
            p, q = hard_pair(kind, spread, dtype, c)
            if c > 7:  # the reference takes 60 digits of each class: two rows, near ones and others
                if spread not in ((3e-8, 0.3) if dtype == "float64" else (3e-4, 0.3)):
                    continue
                p, q = p[:2], q[:2]
            want = np.asarray(getattr(reference, name)(p, q))
            error = np.abs(getattr(fx, name)(p, q).astype("f8") - want) / want
            if dtype == "float64":
                bound = np.where(want >= 1e-16, 1e-12, np.inf)
            else:
                bound = np.where(want >= 1e-3, 1e-6, np.where(want >= 1e-8, 1e-4, np.inf))
            # beyond the rounding of a - b, which moves log p - log q, the root of twice the divergence, by as much
            with np.errstate(invalid="ignore"):
                lost = np.abs((p.astype("g") - q.astype("g")) - (p - q).astype("g")).astype("f8")
            bound += 3 * np.nan_to_num(lost).max(1) / np.sqrt(want)
            assert (error <= bound).all(), (spread, c, error, want)
            seen += want.tolist()
    assert min(seen) < (1e-14 if dtype == "float64" else 1e-7)
    assert max(seen) > 1e-4


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [3, 20, 33, 300])
def test_one_of_them_sure_of_what_the_other_is_not(name, dtype, c):
    """Far apart: what is left of sums that nearly cancel must not be all that the divergence has."""
    rng = np.random.default_rng(c)
    for peak in (4.0, 8.0, 14.0) if c < 100 else (8.0,):
        p = (rng.normal(size=(4, c)) * [[0], [1], [0], [1]]).astype(dtype)
        q = (rng.normal(size=(4, c)) * [[0], [0], [1], [1]]).astype(dtype)
        q[np.arange(4), rng.integers(0, c, 4)] += peak
        for a, b in ((p, q), (q, p)):
            want = np.asarray(getattr(reference, name)(a, b))
            error = np.abs(getattr(fx, name)(a, b).astype("f8") - want) / want
            assert (error <= (1e-12 if dtype == "float64" else 1e-6)).all(), (peak, error.max())


# ---- arguments ----


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_are_exact(name, reduction, dtype):
    arrays = arguments(name, dtype, (6, 7, 30))
    if not name.endswith("logits"):
        arrays = tuple(a + a.dtype.type(1e-3) for a in arrays)  # no inf, which has sums of its own
    rows = getattr(fx, name)(*arrays, axis=1)
    total = math.fsum(rows.ravel().tolist())
    result = getattr(fx, name)(*arrays, axis=1, reduction=reduction)
    assert isinstance(result, np.float64)
    assert result == pytest.approx(total if reduction == "sum" else total / rows.size, rel=3e-16, abs=0)
    if reduction == "sum":
        assert result == total
    empty = tuple(a[:0] for a in arrays)
    value = getattr(fx, name)(*empty, axis=1, reduction=reduction)
    assert value == 0.0 if reduction == "sum" else math.isnan(value)
    assert getattr(fx, name)(*empty, axis=1).shape == (0, 30)


@pytest.mark.parametrize("name", ALL)
def test_out(name):
    arrays = arguments(name, "float32", (4, 6))
    expected = getattr(fx, name)(*arrays)
    room = np.zeros((4, 2), np.float32)
    assert getattr(fx, name)(*arrays, out=room[:, 1]) is not None
    assert same_bits(room[:, 1].copy(), expected)
    assert (room[:, 0] == 0).all()
    for bad, error in (
        (np.zeros(4), TypeError),
        (np.zeros(3, np.float32), ValueError),
        (arrays[0].reshape(-1)[:4], ValueError),
    ):
        with pytest.raises(error, match="out"):
            getattr(fx, name)(*arrays, out=bad)
    with pytest.raises(ValueError, match="reduction='none'"):
        getattr(fx, name)(*arrays, out=room[:, 1], reduction="sum")


@pytest.mark.parametrize("name", [*SHARES, *LOGITS])
def test_errors(name):
    function, x = getattr(fx, name), np.zeros((3, 4))
    p, q = ("p_logits", "q_logits") if name in LOGITS else "pq"
    with pytest.raises(ValueError, match=rf"{p} of shape \(3, 4\) and {q} of shape \(2, 4\)"):
        function(x, x[:2])
    with pytest.raises(ValueError, match="same number of classes"):
        function(x, x[:, :1])
    with pytest.raises(ValueError, match="same number of classes"):
        function(x, np.zeros(4), axis=0)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        function(x, x, axis=2)
    with pytest.raises(ValueError, match=f"{q} must have at least one dimension"):
        function(x, 1.0)
    with pytest.raises(TypeError, match=f"{q} has dtype complex128"):
        function(x, x + 1j)
    with pytest.raises(ValueError, match="reduction must be"):
        function(x, x, reduction="median")
    for base in (0, 1, -2, INF, NAN):
        with pytest.raises(ValueError, match="base must be"):
            function(x, x, base=base)
    with pytest.raises(TypeError, match="base must be"):
        function(x, x, base="e")
    for temperature in () if name in SHARES else (0, -1.0, INF, NAN, "hot"):
        with pytest.raises(ValueError, match="temperature must be"):
            function(x, x, temperature=temperature)
    with pytest.raises(ValueError, match="logits_dtype"):
        function(x, x, logits_dtype="bfloat16")


def test_raw_bfloat16():
    p, q = pair("bfloat16", (5, 40))
    for name in LOGITS:
        expected = getattr(fx, name)(p, q)
        for raw in ((p.view(np.uint16), q.view(np.uint16)), (p, q.view(np.uint16)), (p.view(">u2").byteswap(), q)):
            some = [r.view(">u2") if r.dtype == np.dtype(">u2") else r for r in raw]
            assert same_bits(getattr(fx, name)(*some, logits_dtype="bfloat16"), expected)
        mixed = getattr(fx, name)(p.view(np.uint16), q.astype(np.float32), logits_dtype="bfloat16")
        assert same_bits(mixed, expected)


# ---- the meaning that SciPy and PyTorch have ----


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 1e-5)])
def test_scipys(dtype, rtol):
    p, q = (np.random.default_rng(i).normal(0, 2, (20, 30)).astype(dtype) for i in (1, 2))
    a, b = (scipy.special.softmax(x.astype(np.float64), axis=1) for x in (p, q))
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q), scipy.special.rel_entr(a, b).sum(1), rtol)
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q, base=2), scipy.stats.entropy(a, b, 2, axis=1), rtol)
    js = scipy.spatial.distance.jensenshannon(a, b, base=2, axis=1) ** 2
    np.testing.assert_allclose(fx.js_divergence_with_logits(p, q, base=2), js, rtol)
    np.testing.assert_allclose(fx.entropy_with_logits(p, base=10), scipy.stats.entropy(a, base=10, axis=1), rtol)
    np.testing.assert_allclose(fx.entropy(7 * a, base=10), scipy.stats.entropy(7 * a, base=10, axis=1), 1e-12)
    np.testing.assert_allclose(fx.kl_divergence(3 * a, b, base=2), scipy.stats.entropy(3 * a, b, 2, axis=1), 1e-12)
    np.testing.assert_allclose(fx.js_divergence(a, 5 * b, base=2), js, 1e-11)


def test_torchs():
    torch = pytest.importorskip("torch")
    p, q = (torch.tensor(x) for x in pair("float64", (9, 40)))
    log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
    p, q = p.masked_fill(p == -INF, -5.0), q.masked_fill(q == -INF, -5.0)
    log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
    want = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q), want, 1e-9)
    mean = torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    assert fx.kl_divergence_with_logits(p, q, reduction="batchmean") == pytest.approx(float(mean), rel=1e-9)
    half = [x.to(torch.bfloat16) for x in (p, q)]
    both_ways = fx.kl_divergence_with_logits(*half), fx.kl_divergence_with_logits(*(x.float() for x in half))
    assert same_bits(*both_ways)


# ---- identities ----


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_identities(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    p, q = (data.draw(hnp.arrays(dtype, shape, elements=logits)) for _ in "pq")
    single = dtype == np.float32
    kl, js = fx.kl_divergence_with_logits(p, q), fx.js_divergence_with_logits(p, q)
    assert same_bits(js, fx.js_divergence_with_logits(q, p))
    sound = ~np.isnan(kl)
    assert (sound == ~np.isnan(js)).all()
    assert (kl[sound] >= 0).all()
    assert (js[sound] >= 0).all()
    assert (js[sound] <= math.log(2)).all()
    assert (fx.js_divergence_with_logits(p, q, base=2)[sound] <= 1).all()
    for same in (fx.kl_divergence_with_logits(p, p), fx.js_divergence_with_logits(q, q)):
        assert (same[~np.isnan(same)] == 0).all()
    # H(X) <= log |A|
    entropy = fx.entropy_with_logits(p)[sound]
    assert (entropy >= 0).all()
    assert (entropy <= math.log(shape[1]) * (1 + (1e-6 if single else 1e-15))).all()
    # H(P, Q) = H(P) + KL(P||Q)
    a, log_q = scipy.special.softmax(p[sound].astype("f8"), axis=1), fx.log_softmax(q[sound].astype("f8"), axis=1)
    cross = np.where(a > 0, -a * np.where(a > 0, log_q, 0.0), 0.0).sum(1)
    rtol, atol = (2e-6, 1e-12) if single else (1e-12, 1e-15)  # of log_softmax
    np.testing.assert_allclose(cross, entropy.astype("f8") + kl[sound], rtol, atol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_only_for_equal_rows(dtype):
    x = np.random.default_rng(0).normal(0, 3, (50, 17)).astype(dtype)
    y = x.copy()
    y[:, 3] = np.nextafter(y[:, 3], np.inf, dtype=dtype)
    for name in LOGITS:
        assert (getattr(fx, name)(x, x) == 0).all()
        assert (getattr(fx, name)(x, y) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_are_the_softmax_of_their_logarithms(dtype):
    p, q = shares(dtype, (40, 60)), shares(dtype, (40, 60), 1)
    with np.errstate(divide="ignore"):
        a, b = np.log(p.astype("f8")), np.log(q.astype("f8"))
    rtol = 1e-6 if dtype == "float32" else 1e-12
    for name in SHARES:
        np.testing.assert_allclose(getattr(fx, name)(p, q), getattr(fx, f"{name}_with_logits")(a, b), rtol)
    np.testing.assert_allclose(fx.entropy(p), fx.entropy_with_logits(a), rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_is_of_no_consequence(dtype):
    """A power of two changes no bit, another factor the last."""
    p, q = shares(dtype, (40, 60)), shares(dtype, (40, 60), 1)
    for name in SHARES:
        found = getattr(fx, name)(p, q)
        assert same_bits(getattr(fx, name)(p * p.dtype.type(2**20), q * q.dtype.type(0.25)), found)
        assert (getattr(fx, name)(p, p) == 0).all()
        assert (getattr(fx, name)(p, p * p.dtype.type(8)) == 0).all()
        np.testing.assert_allclose(getattr(fx, name)(p * p.dtype.type(3), q), found, 1e-6)


def test_disjoint_distributions():
    p, q = np.array([1.0, 2.0, -INF, -INF]), np.array([-INF, -INF, 0.5, 3.0])
    for dtype in (np.float32, np.float64):
        a, b = p.astype(dtype), q.astype(dtype)
        assert fx.kl_divergence_with_logits(a, b) == INF
        js = fx.js_divergence_with_logits(a, b)
        assert js <= math.log(2)
        assert js == pytest.approx(math.log(2), rel=1e-7)
        assert fx.js_divergence_with_logits(a, b, base=2) == pytest.approx(1, rel=1e-7)


def test_one_hot_cross_entropy_is_kl():
    x = np.random.default_rng(3).normal(0, 4, (30, 12))
    labels = np.arange(30) % 12
    hot = np.where(np.eye(12)[labels] > 0, 0.0, -INF)
    np.testing.assert_allclose(
        fx.kl_divergence_with_logits(hot, x), fx.cross_entropy(x, labels, reduction="none"), 1e-13, 0
    )
    assert (fx.entropy_with_logits(hot) == 0).all()
