"""sigmoid, log_sigmoid, logit, surprisal: SciPy's meaning, the reference's values, accuracy, the same bits."""

import math
import sys
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special
from child import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import STORAGES, fused_levels, gapped, layouts, same_bits, storage_ids, use_level
from mpmath import mpf

import fastxent as fx
from fastxent import _dispatch, reference
from fastxent._passes import elements as _elements

INF, NAN = math.inf, math.nan
NAMES = ("sigmoid", "log_sigmoid", "logit", "surprisal")
SCIPY = {"sigmoid": scipy.special.expit, "log_sigmoid": scipy.special.log_expit, "logit": scipy.special.logit}
FLOATS = ("float64", "float32", "float16", "bfloat16")  # the last one registered by ml_dtypes, imported in layouts
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
BOUND = {"sigmoid": 3, "log_sigmoid": 3, "logit": 3, "surprisal": 1}  # ULP, with a fused multiply-add
EDGES = [0.0, -0.0, 0.5, 1.0, 5e-324, 1e-310, 1e-45, 1e-38, 0.49999999, 0.50000001, 0.29, 0.59, NAN]
ANYWHERE = [*EDGES, -1.0, 2.0, 88.0, -104.0, 745.0, -745.2, 1e4, -1e4, INF, -INF]

mpmath.mp.dps = 50
every_name = pytest.mark.parametrize("name", NAMES)


def near(result, expected, ulps):
    """Same shape, NaN and infinities; else within ULP of the result's dtype, subnormal numbers within one more."""
    result, expected = np.asarray(result), np.asarray(expected, np.float64)
    if result.size == expected.size == 0:  # nested lists lose the axes behind a 0
        return
    assert result.shape == expected.shape
    with np.errstate(over="ignore", under="ignore"):
        rounded = expected.astype(result.dtype)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(result[special], rounded[special])
    value, truth = result[~special].astype(np.float64), expected[~special]
    error = np.abs(value - truth) / np.spacing(np.abs(rounded[~special])).astype(np.float64)
    assert error.max(initial=0.0) <= ulps, f"{error.max()} ULP, {value[error.argmax()]} for {truth[error.argmax()]}"


def outcome(function, *args, **options):
    """What comes of a call: a result, or the kind of error."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError) as error:
        return TypeError if isinstance(error, TypeError) else ValueError


def twins(name, x, **options):
    expected = outcome(getattr(reference, name), x, **options)
    result = outcome(getattr(fx, name), x, **options)
    if isinstance(expected, type) or isinstance(result, type):
        assert result is expected
    else:
        near(result, expected, BOUND[name] + 3)  # the reference's own error in float64


def numbers(name, dtype, n=400):
    """Numbers of a dtype that a function takes."""
    rng = np.random.default_rng(n)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(n) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 2 if name == "logit" else 100, n).astype(dtype)
    spread = rng.random(n) if name in ("logit", "surprisal") else 8 * rng.standard_normal(n)
    special = EDGES if name in ("logit", "surprisal") else ANYWHERE
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([spread, np.ldexp(spread, rng.integers(-60, 0, n)), special]).astype(dtype)


# ---- meaning ----


@every_name
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_twins(level, name, dtype):
    x = numbers(name, dtype)
    twins(name, x)
    twins(name, x[:400].reshape(-1, 2, 1)[::-1])
    assert getattr(fx, name)(x).dtype == (np.float64 if dtype == "float64" or dtype in INTEGERS else np.float32)


@pytest.mark.parametrize("name", SCIPY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scipy(name, dtype):
    x = np.concatenate([numbers("logit", dtype), numbers("sigmoid", dtype)])
    with np.errstate(all="ignore"):
        expected = SCIPY[name](x)
    np.testing.assert_allclose(getattr(fx, name)(x), expected, rtol=1e-6 if dtype == np.float32 else 1e-13, atol=1e-45)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_special_values(level, dtype):
    x = np.array([INF, -INF, NAN, 0.0, -0.0], dtype)
    assert same_bits(fx.sigmoid(x), np.array([1, 0, NAN, 0.5, 0.5], dtype))
    assert same_bits(fx.log_sigmoid(x)[:3], np.array([-0.0, -INF, NAN], dtype))
    p = np.array([0.0, -0.0, 1.0, 0.5, NAN, -0.1, 1.1, INF, -INF], dtype)
    assert same_bits(fx.logit(p), np.array([-INF, -INF, INF, 0, NAN, NAN, NAN, NAN, NAN], dtype))
    assert same_bits(fx.surprisal(p[:5], base=2), np.array([INF, INF, 0, 1, NAN], dtype))
    assert same_bits(fx.surprisal(p[:3]), np.array([INF, INF, 0], dtype))
    assert same_bits(fx.surprisal(p[:3], base=0.5), np.array([-INF, -INF, 0], dtype))
    least = np.finfo(dtype).smallest_subnormal
    assert fx.surprisal(least, base=2) == -np.log2(float(least))
    assert fx.sigmoid(np.log(dtype(4 * least))) == 4 * least


def test_powers_of_two_are_exact_in_bits(level):
    powers = np.arange(-1074, 1024)
    assert (fx.surprisal(np.ldexp(1.0, powers), base=2) == -powers).all()
    assert (fx.surprisal(np.ldexp(np.float32(1), powers[925:1202]), base=2) == -powers[925:1202]).all()


@cache
def surprisals(base: float, dtype: type) -> tuple[np.ndarray, list[float]]:
    """Probabilities, and the truth."""
    p = numbers("surprisal", dtype)
    p = p[p > 0]
    scale = 1 / mpmath.log(mpf(base))
    return p, [float(-mpmath.log(mpf(v)) * scale) for v in p.tolist()]


@pytest.mark.parametrize("base", [2, 10, math.e, 0.5, 1.0000001, 1e300, np.float32(3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bases(level, base, dtype):
    p, exact = surprisals(float(base), dtype)
    near(fx.surprisal(p, base=base), exact, 2.5)
    twins("surprisal", p.astype(np.float64), base=float(base)) if base in (2, 10) else None


@pytest.mark.parametrize(
    ("p", "options", "error", "text"),
    [
        ([[0.5, 1.0], [0.2, -0.25]], {}, ValueError, r"p\[1, 1\] is -0.25, outside \[0, inf\)"),
        (np.array([0, 1, -3], "i1"), {}, ValueError, r"p\[2\] is -3"),
        (np.array([1.0, INF, -1], "f2"), {}, ValueError, r"p\[1\] is inf"),
        (-INF, {"base": 2}, ValueError, r"p is -inf"),
        ([NAN, 2.0, -1e-45], {}, ValueError, r"p\[2\]"),
        ([0.5], {"base": 1}, ValueError, "base must be"),
        ([0.5], {"base": 0}, ValueError, "base must be"),
        ([0.5], {"base": -2.0}, ValueError, "base must be"),
        ([0.5], {"base": INF}, ValueError, "base must be"),
        ([0.5], {"base": NAN}, ValueError, "base must be"),
        ([0.5], {"base": "2"}, TypeError, "base must be"),
        ([0.5], {"base": True}, TypeError, "base must be"),
        ([0.5j], {}, TypeError, "p has dtype complex128"),
        (["a"], {}, TypeError, "p has dtype"),
        ([None], {}, TypeError, "p has dtype object"),
    ],
)
def test_errors_of_surprisal(p, options, error, text):
    with pytest.raises(error, match=text):
        fx.surprisal(p, **options)
    assert outcome(reference.surprisal, p, **options) is error


@every_name
def test_wrong_arguments(name):
    function = getattr(fx, name)
    for x in ([1j], ["a"], [None], np.array([1], "M8[s]"), np.longdouble([1])):
        with pytest.raises(TypeError, match="has dtype"):
            function(x)
    with pytest.raises(ValueError, match="rectangular"):
        function([[0.5], [0.5, 0.5]])
    x = np.full((3, 2), 0.5, np.float32)
    for out, error in (
        (np.empty((2, 3), np.float32), ValueError),
        (np.empty((3, 2)), TypeError),
        (np.empty((3, 2), ">f4"), TypeError),
        ([[0.0] * 2] * 3, TypeError),
        (x, ValueError),
        (np.broadcast_to(np.float32(0), (3, 2)), ValueError),
    ):
        with pytest.raises(error, match="out"):
            function(x, out=out)


@every_name
def test_a_number_and_nothing(name):
    function = getattr(fx, name)
    assert isinstance(function(0.3), np.float64)
    assert isinstance(function(np.float16(0.3)), np.float32)
    for shape in ((0,), (3, 0, 2)):
        assert function(np.empty(shape, np.float32)).shape == shape


# ---- accuracy ----

SPANS = {
    "sigmoid": [(-3, 3), (-103, 17), (-745, -700), (-2.8, -2.6)],
    "log_sigmoid": [(-3, 3), (-103, 103), (700, 745), (1.2, 1.3)],
    "logit": [(0, 1), (0.4, 0.45), (0.55, 0.6), (0.4999, 0.5001), (1e-40, 1e-30), (1e-310, 1e-300), (0.999, 1)],
    "surprisal": [(0, 1), (0.7, 0.71), (0.97, 1.03), (1e-40, 1e-30), (1e-310, 1e-300), (1, 1e30)],
}
# where a search through 10^6 points a span found the largest errors
WORST = {
    "sigmoid": [-2.7234643, -2.716340635110263],
    "log_sigmoid": [1.2654277, 1.2782887127482825],
    "logit": [0.43896714, 0.49999999907041687, 0.5 - 2.0**-54, 0.5 + 2.0**-53, 0.5 - 2.0**-25, 0.5 + 2.0**-24],
    "surprisal": [0.70710385, 0.7069259032129115],
}
TRUTH = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "logit": lambda p: mpmath.log(p / (1 - p)),
    "surprisal": lambda p: -mpmath.log(p),
}


@cache
def truth(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, and the truth there as a sum of two numbers of float64."""
    rng = np.random.default_rng(4)
    x = np.concatenate([WORST[name], *(rng.uniform(*span, 400) for span in SPANS[name])]).astype(dtype)
    x = x[(x > 0) & (x < 1)] if name == "logit" else x[x > 0] if name == "surprisal" else x
    with mpmath.workdps(60):
        exact = [TRUTH[name](mpf(v)) for v in x.tolist()]
        high = [float(v) for v in exact]
        return x, np.array(high), np.array([float(v - mpf(h)) for v, h in zip(exact, high, strict=True)])


@every_name
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_accuracy(level, name, dtype):
    x, high, rest = truth(name, dtype)
    y = getattr(fx, name)(x)
    with np.errstate(under="ignore"):
        rounded = high.astype(dtype)
    error = abs((y.astype(float) - high) - rest) / np.spacing(abs(rounded)).astype(float)
    print(f"{error.max():.3f} ULP at {x[error.argmax()]!r}")
    assert error.max() < BOUND[name] + (0 if level in fused_levels() else 1)


# ---- same bits ----


@every_name
@pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
def test_layouts(level, name, storage):
    values = numbers(name, storage)[:390].reshape(5, 6, 13)
    expected = getattr(fx, name)(values)
    for layout, x in layouts(values):
        assert same_bits(getattr(fx, name)(x), expected), layout
        out = gapped(np.zeros_like(expected), (1, 2, 3))
        assert getattr(fx, name)(x, out=out) is out
        assert same_bits(out, expected), layout
    alone = [getattr(fx, name)(value) for value in values.ravel()]
    assert same_bits(np.reshape(alone, values.shape), expected)


@every_name
@pytest.mark.parametrize("dtype", [*INTEGERS, ">i8", ">u2", "<i4"])
def test_integers_as_their_float64_copy(level, name, dtype):
    x = numbers(name, np.dtype(dtype).newbyteorder("="), 1200).astype(dtype)
    expected = getattr(fx, name)(x.astype(np.float64))
    for layout, values in layouts(x.reshape(3, 400)):
        assert same_bits(getattr(fx, name)(values).ravel(), expected), layout


@every_name
@pytest.mark.parametrize("storage", [np.float16, STORAGES[-1]], ids=storage_ids)
def test_halves_as_their_float32_copy(level, name, storage):
    x = np.arange(1 << 16, dtype=np.uint16).view(storage)
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them, at which NumPy's conversions warn
        wide = x.astype(np.float32)
    fine = ~((wide < 0) | np.isinf(wide)) if name == "surprisal" else slice(None)
    assert same_bits(getattr(fx, name)(x[fine]), getattr(fx, name)(wide[fine]))


@every_name
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_levels_threads_and_blocks(monkeypatch, name, dtype):
    x = np.resize(numbers(name, dtype, 3000), 150_001)
    first, *others = fused_levels()
    use_level(monkeypatch, first)
    with fx.num_threads(1):
        expected = getattr(fx, name)(x)
    monkeypatch.setattr(_elements, "SERIAL_ELEMENTS", 0)
    for level in (first, *others):
        use_level(monkeypatch, level)
        for threads, block in ((1, 1 << 20), (2, 70_000), (3, 16_385), (4, 999)):
            monkeypatch.setattr(_elements, "BLOCK_ELEMENTS", block)
            with fx.num_threads(threads):
                assert same_bits(getattr(fx, name)(x), expected), (level, threads, block)


def test_the_first_place_beyond_a_block(monkeypatch):
    monkeypatch.setattr(_elements, "BLOCK_ELEMENTS", 100)
    p = np.full((40, 30), 0.5)
    p[33, 7] = p[7, 3] = p[7, 2] = -1
    with pytest.raises(ValueError, match=r"p\[7, 2\]"):
        fx.surprisal(p)
    with pytest.raises(ValueError, match=r"p\[2, 7\]"):
        fx.surprisal(p.T)


# ---- promises ----


def run(code: str, **environment: str) -> str:
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_memory_is_flat():
    """No input is converted or expanded as a whole, and losses are not kept."""
    out = run("""
        import resource
        import numpy as np, fastxent as fx
        most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        x = np.full((4096, 8192), 0.25, np.float32)[:, ::2]  # 64 MB are read
        y, result = np.ones(x.shape, np.uint8), np.full(x.shape, 0.5, np.float32)
        fx.sigmoid(x[:8]), fx.binary_cross_entropy_with_logits(x[:8], y[:8], [2.0])
        before = most()
        for name in ("sigmoid", "log_sigmoid", "logit", "surprisal"):
            getattr(fx, name)(x, out=result)
        fx.binary_cross_entropy(x, y, [[2.0]]), fx.binary_cross_entropy_with_logits(x, y, 2, pos_weight=x[:1])
        fx.binary_cross_entropy_with_logits(y, np.broadcast_to(0.5, x.shape), x[0])
        print(most() - before)
    """)
    assert float(out) < 12


def test_ctrl_c_is_answered_at_once():
    out = run("""
        import os, signal, threading, time
        import numpy as np, fastxent as fx
        x = np.broadcast_to(np.zeros((1, 1 << 16)), (1 << 24, 1 << 16))  # 8 TB that are not there
        sent = []
        def interrupt():
            time.sleep(0.5); sent.append(time.monotonic()); os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            fx.binary_cross_entropy_with_logits(x, x)
        except KeyboardInterrupt:
            print(time.monotonic() - sent[0])
    """)
    assert float(out) < 1.0  # 0.2 s on a machine that is not shared


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect through ctypes is written for Linux")
@pytest.mark.parametrize("name", _dispatch.usable_levels())
def test_nothing_is_touched_outside_the_arrays(name):
    """Arrays that end at, or begin behind, a page that may not be read or written."""
    run(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np, fastxent as fx
        from layouts import Guarded
        memory, result, other = Guarded(1 << 15), Guarded(1 << 15), Guarded(1 << 15)
        for dtype in (np.float32, np.float64, np.float16, np.int64, np.bool_):
            wide = fx.sigmoid(np.ones(1, dtype)).dtype
            for n in (*range(1, 40), 511, 512, 513, 1024, 1025):
                for end in (True, False):
                    out = result.put(np.zeros(n, wide), end)
                    for gap in (1, 2):
                        x = memory.put_strided(np.ones(n, dtype), gap, end)
                        fx.sigmoid(x, out=out), fx.logit(x, out=out), fx.surprisal(x, base=3, out=out)
                        y = other.put(np.ones(n, dtype), end)
                        fx.binary_cross_entropy(x, y, y), fx.binary_cross_entropy_with_logits(x, y, y, pos_weight=y)
                        fx.sigmoid(y, out=result.put_strided(np.zeros(n, wide), 2, end))
        """,
        FASTXENT_LEVEL=name,
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_anything_at_once(data):
    name = data.draw(st.sampled_from(NAMES), "name")
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4), "shape"))
    storage = data.draw(st.sampled_from(STORAGES), "storage")
    pool = EDGES if name == "surprisal" else ANYWHERE
    elements = st.sampled_from(pool) | st.floats(0, 1) | (st.floats(-9, 9) if name != "surprisal" else st.nothing())
    values = data.draw(st.lists(elements, min_size=1, max_size=30), "values")
    with np.errstate(over="ignore"):
        x = np.random.default_rng(0).choice(np.array(values), shape).astype(storage)
    expected = getattr(fx, name)(x)
    near(expected, getattr(reference, name)(x), BOUND[name] + 3)
    _, other = data.draw(st.sampled_from(list(layouts(x))), "layout")
    assert same_bits(getattr(fx, name)(other), expected)
