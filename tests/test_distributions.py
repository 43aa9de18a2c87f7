"""logsumexp, softmax and log_softmax: SciPy's meaning, the reference's values, over dtypes, layouts and axes."""

import math
from types import SimpleNamespace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import classes_lie_together, layouts, same_bits

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan
FAMILY = ("logsumexp", "softmax", "log_softmax")
# numerics.md: ULP, and the size that they are taken at; the reference's own error in float64 (test_reference.py)
BOUND = {"logsumexp": (2.0, 1.0), "softmax": (4.0, 0.0), "log_softmax": (2.0, 1.0)}
OWN_ERROR = {"logsumexp": 1.0, "softmax": 3.0, "log_softmax": 1.5}

FLOATS = ("float64", "float32", "float16", "bfloat16")  # the last one registered by ml_dtypes, imported in layouts
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
AXES = (None, 0, 1, 2, -1, -3, (0, 1), (2, 0), (-1, 1), (0, 1, 2), ())


def near(result, expected, ulps, floor=0.0):
    """Same shape, NaN and infinities; else within ULP of the result's dtype, where it is a normal number."""
    result, expected = np.asarray(result), np.asarray(expected, np.float64)
    if result.size == expected.size == 0:  # nested lists lose the axes behind a 0
        return
    assert result.shape == expected.shape
    with np.errstate(over="ignore", under="ignore"):
        rounded = expected.astype(result.dtype)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(result[special], rounded[special])
    value, truth = result[~special].astype(np.float64), expected[~special]
    info, tiny = np.finfo(result.dtype), np.finfo(result.dtype).tiny
    unit = np.spacing(np.clip(np.abs(rounded[~special]), max(info.dtype.type(floor), tiny), info.max / 2)).astype("f8")
    error = np.where(np.abs(value - truth) <= tiny, 0.0, np.abs(value - truth) / unit)
    assert error.max(initial=0.0) <= ulps, f"{error.max()} ULP, {value[error.argmax()]} for {truth[error.argmax()]}"


def outcome(function, *args, **options):
    """What comes of a call: a result, or the kind of error."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError, IndexError) as error:
        return next(kind for kind in (TypeError, ValueError, IndexError) if isinstance(error, kind))


def twins(name, x, axis=None, values=None, **options):
    """The kernels and the reference: the same values or the same kind of error."""
    expected = outcome(getattr(reference, name), x if values is None else values, axis, **options)
    agree(name, outcome(getattr(fx, name), x, axis, **options), expected)


def agree(name, result, expected):
    if isinstance(expected, type) or isinstance(result, type):
        assert result is expected
        return
    ulps, floor = BOUND[name]
    near(result, expected, ulps + (OWN_ERROR[name] if result.dtype == np.float64 else 0.0), floor)


def scipys(name, x, **options):
    with np.errstate(all="ignore"):
        return getattr(scipy.special, name)(x, **options)


def numbers(name, shape=(3, 4, 5)):
    """Ordinary, tied, far off and masked numbers as the dtype holds them."""
    rng = np.random.default_rng(len(name))
    if name in INTEGERS:
        low, high = (0, 2) if name == "bool" else (0, 30) if name.startswith("u") else (-30, 30)
        return rng.integers(low, high, shape).astype(name)
    x = np.round(rng.normal(0, 6, shape), 1)
    x[rng.random(shape) < 0.15] = -INF
    x[..., 0] = x[..., -1] = 11.5
    return x.astype(name)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_dtype_in_every_layout(dtype, name):
    values = numbers(dtype)
    for start in (values, np.broadcast_to(values[:1], values.shape)):
        expected = {axis: getattr(reference, name)(start, axis) for axis in AXES}
        for _, x in layouts(start):
            before = x.tobytes()
            for axis in AXES:
                agree(name, getattr(fx, name)(x, axis), expected[axis])
            assert getattr(fx, name)(x, axis=1).dtype == (np.float32 if dtype in FLOATS[1:] else np.float64)
            assert x.tobytes() == before


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_memory_changes_no_bit(dtype, name):
    values = numbers(dtype, (7, 300))
    expected = {}
    for _, x in layouts(values):
        result = getattr(fx, name)(x, axis=1)
        # whether the class axis is contiguous may choose another kernel, but not for integers, which are converted
        together = classes_lie_together(x) or dtype in INTEGERS
        assert same_bits(result, expected.setdefault(together, result))


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-6), ("int16", 1e-13)])
def test_all_axes_are_scipys(name, axis, dtype, rtol):
    x = numbers(dtype)
    expected = scipys(name, x.astype(np.float64), axis=axis)
    np.testing.assert_allclose(getattr(fx, name)(x, axis=axis), expected, rtol, 0 if name == "softmax" else rtol)
    assert getattr(fx, name)(x, axis).shape == expected.shape


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_kept_dimensions_are_scipys(axis):
    x = numbers("float64")
    result = fx.logsumexp(x, axis, keepdims=True)
    np.testing.assert_allclose(result, scipys("logsumexp", x, axis=axis, keepdims=True), 1e-13)
    twins("logsumexp", x, axis, keepdims=True)


SPECIAL_ROWS = (
    *([0.0], [-INF], [INF], [NAN], [0.0, -INF], [-INF, -INF], [INF, 0.0], [INF, -INF, 1.0], [INF, INF, 0.0]),
    *([NAN, 0.0, 1.0], [NAN, INF, -INF], [1.0, NAN, -INF], [1.0, INF, NAN], [-0.0, -800.0], [3.0, 3.0, 3.0]),
    *([1e4, -1e4], [-1e4, -1e4, -1e4], [-INF, 1e4, -INF, 1e4], [0.0, -40.0], [88.0, 0.0], [5.0] * 65 + [-INF]),
)


@pytest.mark.parametrize("row", SPECIAL_ROWS, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_special_values(name, row):
    for dtype in FLOATS:
        twins(name, np.array(row).astype(dtype))
        rows = np.array([[2.0] * len(row), row, [-3.0] * len(row)]).astype(dtype)
        for x in (rows, np.asfortranarray(rows)):
            twins(name, x, 1)
    np.testing.assert_allclose(getattr(fx, name)(row), scipys(name, np.array(row)), 1e-13, 1e-14)


def test_huge_numbers_do_not_overflow():
    doubles = ([1e300, -1e300], [1.7e308, -1.7e308], [1e308] * 5, [-1e308] * 3, [1e308, -INF, 1e308])
    singles = ([3e38, -3e38], [-3e38] * 40, [3e38, -INF])
    for name in FAMILY:
        for x in (*map(np.array, doubles), *map(np.float32, singles)):
            twins(name, x)


@pytest.mark.parametrize("name", FAMILY)
def test_many_classes(name):
    """More than a column segment of 65,536."""
    x = np.concatenate([numbers("float32", (2, 70_000)), numbers("float32", (2, 70_001)) - np.float32(30)], 1)
    twins(name, x, 1)
    twins(name, np.asfortranarray(x), 1)


def test_large_integers_count_as_their_float64():
    for x in (np.array([2**64 - 1, 2**63], np.uint64), np.array([-(2**63), 2**63 - 1]), np.array([2**53 + 1, 2**53])):
        for name in FAMILY:
            twins(name, x)
    assert fx.logsumexp(np.array([0, 2**64 - 1], np.uint64)) == 2.0**64


def test_many_dimensions():
    for axis in (None, 0, -64, (1, 62), tuple(range(64))):
        assert fx.logsumexp(np.full((1,) * 64, 2.5), axis) == 2.5
        assert fx.softmax(np.full((1,) * 64, 2.5), axis) == 1.0


@pytest.mark.parametrize("axis", [None, 0, -1, (0,), (), 1, -2], ids=str)
def test_scalars_are_scipys(axis):
    for x in (2.5, -INF, 3, True, np.float32(2.5), np.array(2.5)):
        for name in FAMILY:
            twins(name, x, axis)
        twins("logsumexp", x, axis, keepdims=True)
    assert np.shape(fx.logsumexp(2.5, keepdims=True)) == scipys("logsumexp", 2.5, keepdims=True).shape


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (0, 0), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8", ">f8"])
def test_empty_arrays(shape, dtype):
    for name in FAMILY:
        for axis in (None, (), *range(len(shape)), *([(0, 1)] if len(shape) > 1 else [])):
            twins(name, np.zeros(shape, dtype), axis)
    for axis in range(len(shape)):
        assert fx.logsumexp(np.zeros(shape, dtype), axis).shape == scipys("logsumexp", np.zeros(shape), axis=axis).shape
    assert fx.logsumexp([]) == -INF


# ---- Inputs ----


def test_lists_count_as_their_numbers():
    for name in FAMILY:
        for x in ([[1.0, 2.0], [3.0, -INF]], [1, 2, 3], ((1.0, 2), (True, 4)), [[], []], range(4)):
            twins(name, x, -1, values=np.array(x))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8", "int64", "bool"])
def test_pytorchs_tensors(dtype):
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    values = torch.tensor(numbers("int8", (6, 4)).tolist()) % 7
    x = values.to(getattr(torch, dtype))
    for tensor in (x, x.T, x[1::2], x[:1].expand(6, 4), x[0, 0]):
        for name in FAMILY:
            twins(name, tensor, None, values=tensor.tolist())
    if x.is_floating_point():
        twins("log_softmax", x.clone().requires_grad_(), 1, values=x.tolist())


def test_jaxs_arrays():
    jnp = pytest.importorskip("jax.numpy", reason="takes JAX's arrays")
    for dtype in ("float32", "float16", "bfloat16", "int8", "bool"):
        x = jnp.asarray(numbers("int8", (6, 4))).astype(dtype)
        for name in FAMILY:
            twins(name, x, 0, values=x.tolist())


def test_the_exchange_protocol_is_enough():
    x = numbers("float32", (6, 4))
    only = SimpleNamespace(__dlpack__=x.__dlpack__, __dlpack_device__=x.__dlpack_device__)
    for name in FAMILY:
        assert same_bits(getattr(fx, name)(only, 1), getattr(fx, name)(x, 1))


@pytest.mark.parametrize("axis", [None, 1, (0, 2), (0, 1), ()], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", ">f4"])
def test_out_takes_the_result(dtype, axis):
    x = numbers("int32").astype(dtype)
    for name in FAMILY:
        expected = getattr(fx, name)(x, axis)
        plain = np.full(np.shape(expected), NAN, expected.dtype)
        wide = np.full([2 * n for n in plain.shape], NAN, plain.dtype)
        for out in (plain, plain.copy(order="F"), wide[(..., *[slice(None, None, -2)] * plain.ndim)]):
            assert getattr(fx, name)(x, axis, out=out) is out
            np.testing.assert_array_equal(out, expected)
        assert np.isnan(wide).sum() == wide.size - np.count_nonzero(~np.isnan(expected))


@st.composite
def arrays(draw):
    """Arrays of 0 to 4 dimensions, sliced and turned, of ordinary and special numbers."""
    dtype = np.dtype(draw(st.sampled_from(["<f8", ">f8", "<f4", ">f4", "<f2", "i1", ">u2", "bool"])))
    elements = None
    if dtype.kind == "f":
        special = st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e4, -1e4, 40.0])
        elements = special | st.floats(width=8 * dtype.itemsize)
    x = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5), elements=elements))
    steps = draw(st.tuples(*[st.sampled_from([1, 2, -1, -2])] * x.ndim))
    x = x[tuple(slice(None, None, step) for step in steps)]
    return np.asarray(x).transpose(draw(st.permutations(range(x.ndim))))


@settings(max_examples=300, deadline=None, database=None)
@given(arrays(), st.none() | st.integers(-4, 3) | st.lists(st.integers(-4, 3), max_size=3).map(tuple), st.booleans())
def test_any_array(x, axis, keepdims):
    before = x.tobytes()
    twins("logsumexp", x, axis, keepdims=keepdims)
    twins("softmax", x, axis)
    twins("log_softmax", x, axis)
    assert x.tobytes() == before
