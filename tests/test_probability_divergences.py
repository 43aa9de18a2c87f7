"""Entropy and divergences of probabilities, up to scale: the reference's values, to all digits."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from accuracy import exactly
from divergence_cases import INF, NAN, SHARES, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import layouts, same_bits
from test_distributions import FLOATS, INTEGERS, outcome

import fastxent as fx
from fastxent import reference


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


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_shares(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    p, q = (data.draw(hnp.arrays(dtype, shape, elements=sizes)) for _ in "pq")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    base = data.draw(st.sampled_from([None, 2, 10.0]))
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
