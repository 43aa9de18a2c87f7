"""Entropy and divergences: the reference's values in every dtype and layout, special values, arguments."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from accuracy import agree, exactly
from divergence_cases import ALL, INF, LOGITS, NAN, SHARES, arguments, both, logits, pair, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import layouts, same_bits
from test_distributions import FLOATS, INTEGERS, numbers

import fastxent as fx
from fastxent import reference


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
