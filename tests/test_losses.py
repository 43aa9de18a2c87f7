"""cross_entropy: PyTorch's meaning, the reference's values, over labels, weights, options, layouts and hard rows."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from accuracy import exact_sum, near
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import layouts, unaligned

import fastxent as fx
from fastxent import reference
from fastxent._arrays import as_weight

INF, NAN = math.inf, math.nan
REDUCTIONS = ("none", "sum", "mean")
FLOATS = ("float64", "float32", "float16", "bfloat16")  # the last is ml_dtypes', registered by layouts
INTEGERS = ("int8", "int64", "uint16", "uint64", "bool")


def outcome(*args, module=fx, **options):
    """What comes of a call: the loss, or the kind of error."""
    try:
        return module.cross_entropy(*args, **options)
    except (TypeError, ValueError, IndexError) as error:
        return next(kind for kind in (TypeError, ValueError, IndexError) if isinstance(error, kind))


def twins(logits, target, weight=None, values=None, **options):
    """The kernels and the reference: the same values or the same kind of error, with every reduction."""
    plain = {key: value for key, value in options.items() if key != "logits_dtype"}
    values = logits if values is None else values
    for reduction in REDUCTIONS:
        expected = outcome(values, target, weight, module=reference, reduction=reduction, **plain)
        result = outcome(logits, target, weight, reduction=reduction, **options)
        if isinstance(expected, type) or isinstance(result, type):
            assert result is expected
        elif reduction == "none":
            dtype = result.dtype
            # numerics.md's 4 ULP, the reference's own error, the rounding of weight x loss
            ulps = 4 + (1.5 if dtype == np.float64 else 0) + (weight is not None)
            near(result, expected, ulps)
        else:
            assert isinstance(result, np.float64)
            with np.errstate(over="ignore", under="ignore"):
                near(result.astype(dtype), expected, 2 * ulps)


def problem(shape=(6, 5), dtype="float64", seed=0, axis=None):
    """Rows of all kinds (peaked, tied, masked, far off) and labels, some of them ignored."""
    rng = np.random.default_rng(seed)
    axis = min(1, len(shape) - 1) if axis is None else axis
    x = np.moveaxis(np.round(rng.normal(0, 4, shape), 1), axis, -1)
    x[rng.random(x.shape) < 0.1] = -INF
    x[..., 0] = rng.choice([0.0, 60.0, -1000.0, 1000.0], x.shape[:-1])
    x[..., -1] = x[..., 0]
    target = rng.integers(0, x.shape[-1], x.shape[:-1])
    target = np.where(rng.random(target.shape) < 0.15, -100, target)
    if dtype in INTEGERS:
        x = abs(np.where(x == -INF, 0, x)) % 100
    return np.moveaxis(x, -1, axis).astype(dtype), target


# of torch/testing/_internal/common_modules.py and common_methods_invocations.py, test/test_nn.py
TORCH_SHAPES = ((3,), (2, 3), (2, 3, 5), (2, 3, 5, 5), (2, 3, 5, 5, 2, 2), (2, 3, 1), (2, 3, 1, 2), (2, 3, 1, 2, 3))
TORCH_EMPTY = ((0, 3), (0, 3, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (2, 3, 5, 7, 0))


def pytorchs(logits, target, weight=None, **options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    tensors = [None if x is None else torch.from_numpy(np.array(x)) for x in (logits, target, weight)]
    return torch.nn.functional.cross_entropy(*tensors, **options).numpy()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"ignore_index": 255}, {"ignore_index": -1}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", TORCH_SHAPES + TORCH_EMPTY, ids=str)
def test_pytorchs_own_cases(shape, weighted, options, reduction):
    rng = np.random.default_rng(len(shape))
    logits, weight = rng.uniform(-9, 9, shape), rng.uniform(-9, 9, 3) if weighted else None
    target = rng.integers(0, 3, shape[:1] + shape[2:] if len(shape) > 1 else ())
    if options.get("ignore_index") in (255, -1) and target.size > 1:
        target.flat[1] = options["ignore_index"]
    expected = pytorchs(logits, target, weight, reduction=reduction, **options)
    result = fx.cross_entropy(logits, target, weight, reduction=reduction, **options)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, 1e-11, 1e-13)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5, 7), (2, 3, 5, 7, 9)], ids=str)
def test_pytorchs_rows_that_count_nothing(shape):
    logits, labels = np.random.default_rng(1).random(shape), shape[:1] + shape[2:]
    for target, weight in ((np.full(labels, -100), None), (np.zeros(labels, int), [0.0, 1.0, 1.0])):
        for reduction in REDUCTIONS:
            expected = pytorchs(logits, target, weight, reduction=reduction)
            np.testing.assert_array_equal(fx.cross_entropy(logits, target, weight, reduction=reduction), expected)


def test_pytorchs_precision():
    """Its issue 55657: float32 had lost digits in a mean over many rows."""
    logits = np.random.default_rng(2).normal(size=(4, 2, 192, 192)).astype(np.float32)
    target = np.random.default_rng(3).integers(0, 2, (4, 192, 192))
    single, double = fx.cross_entropy(logits, target), fx.cross_entropy(logits.astype(np.float64), target)
    assert single == pytest.approx(double, rel=1e-8)
    assert double == pytest.approx(float(pytorchs(logits.astype(np.float64), target)), rel=1e-13)


def test_rows_that_count_nothing():
    logits = [[-INF, 0.0, 0.0], [-INF, 0.0, 0.0], [NAN, 0.0, 0.0], [INF, 0.0, 1.0], [INF, 0.0, -INF], [0.0, 0.0, 0.0]]
    target, weight = [0, 1, 0, -100, 0, 7], [0.0, 2.0, 1.0]
    for dtype in FLOATS:
        x = np.array(logits).astype(dtype)
        for rows in (x, np.asfortranarray(x)):
            twins(rows, target, weight, invalid="ignore")
            twins(rows, target, weight)
            assert fx.cross_entropy(rows, [0] * 6, weight, reduction="none").tolist() == [0.0] * 6
    assert fx.cross_entropy(logits, target, weight, invalid="ignore") == math.log(2)


@pytest.mark.parametrize("weight", [[0.0] * 5, [0.3, 0, 1, 2.5, 1e-3], [5] * 5, [True, False] * 2 + [True]], ids=str)
def test_weights_of_any_dtype(weight):
    for dtype in ("float64", "float32", ">f8", "float16", "bfloat16"):
        for kind in ("float64", "float32"):
            twins(*problem(dtype=kind), np.array(weight).astype(dtype))
    twins(*problem(), np.broadcast_to(weight, (2, 5))[0])
    twins(*problem(), weight)


def test_weights_that_are_not_aligned():
    """Class weights are read by their elements, which wants them aligned (found by UndefinedBehaviorSanitizer)."""
    (logits, target), weight = problem(), np.array([0.3, 0.0, 1.0, 2.5, 1e-3])
    odd = unaligned(weight)
    assert not odd.flags.aligned
    assert as_weight(odd, 5).flags.aligned
    assert fx.cross_entropy(logits, target, odd) == fx.cross_entropy(logits, target, weight)


def test_odd_weights_count_as_they_are():
    logits = [[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    for weight in ([-1.0, 2.0, 1.0], [1.0, -1.0, 0.0], [INF, 1.0, 1.0], [NAN, 1.0, 1.0], [1.0, 1e300, 1e-300]):
        for target in ([0, 1, 2], [0, 1, 1], [1, 2, 2], [0, 0, 0]):
            for reduction in REDUCTIONS:
                expected = reference.cross_entropy(logits, target, weight, reduction=reduction)
                result = fx.cross_entropy(logits, target, weight, reduction=reduction)
                np.testing.assert_allclose(result, expected, 1e-13)


@pytest.mark.parametrize("invalid", ["raise", "ignore"])
@pytest.mark.parametrize("target", [[5, 1, 2, 0], [0, -1, 2, 4], [-100, 9, -7, 1], [6, 6, 6, 6]], ids=str)
def test_invalid_labels(target, invalid):
    for dtype in ("int64", "int8", ">i2"):
        twins(problem((4, 5))[0], np.array(target, dtype), invalid=invalid)
        twins(problem((4, 5))[0], np.array(target, dtype), np.arange(5.0), ignore_index=2, invalid=invalid)


@pytest.mark.parametrize("empty", ["nan", "zero", "raise"])
def test_the_mean_over_no_row(empty):
    for target, weight in (([-100, -100], None), ([0, 0], [0.0, 1.0]), ([5, -7], None), ([5, 0], [0.0, 1.0])):
        twins(np.ones((2, 2)), target, weight, invalid="ignore", empty=empty)
    for shape in ((0, 3), (2, 3, 0)):
        twins(np.ones(shape), np.zeros(shape[:1] + shape[2:], int), empty=empty)
    twins(np.ones((2, 2)), [0, -100], empty=empty)
    twins([1.0, 2.0], -100, empty=empty)


def test_sums_and_means_are_exact():
    for dtype in ("float64", "float32", "float16"):
        logits, target = problem((3000, 7), dtype, seed=4)
        target[~np.isfinite(fx.cross_entropy(logits, target, reduction="none"))] = -100
        rows = fx.cross_entropy(logits, target, reduction="none")
        total = exact_sum(rows)
        assert fx.cross_entropy(logits, target, reduction="sum") == float(total)
        assert fx.cross_entropy(logits, target) == float(total / int((target >= 0).sum()))
        weight = np.random.default_rng(5).random(7)
        rows = fx.cross_entropy(logits, target, weight, reduction="none")
        divisor = exact_sum(weight[target[target >= 0]])
        assert fx.cross_entropy(logits, target, weight) == float(exact_sum(rows) / divisor)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3])
def test_logits_of_any_dtype_layout_and_axis(dtype, axis):
    x, target = problem((3, 4, 5), dtype, axis=1 if axis is None else axis)
    twins(np.broadcast_to(x[:1], x.shape), target, axis=axis)
    expected = reference.cross_entropy(x, target, axis=axis, reduction="none")
    for _, scores in layouts(x):
        before = scores.tobytes()
        near(fx.cross_entropy(scores, target, axis=axis, reduction="none"), expected, 5.5)
        assert scores.tobytes() == before


def test_bfloat16_as_raw_bits():
    x, target = problem((20, 7), "bfloat16")
    bits = x.view(np.uint16)
    for raw in (bits, bits.astype(">u2"), bits.view("i2"), np.asfortranarray(bits), bits.view("V2"), x, bits[:, ::-1]):
        values = x[:, ::-1] if raw.strides[1] < 0 else x
        twins(raw, target, values=values, logits_dtype="bfloat16")
    assert fx.cross_entropy(bits, target) != fx.cross_entropy(x, target)  # 16-bit integers are integers otherwise


def test_arguments_of_other_libraries():
    (x, target), weight = problem((6, 5, 2)), np.array([0.5, 2.0, 1.0, 0.0, 1.0])
    twins(x.tolist(), target.tolist(), weight.tolist())
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        held = torch.tensor(x, dtype=dtype, requires_grad=True)
        twins(held, torch.tensor(target), torch.tensor(weight, dtype=dtype, requires_grad=True), values=held.tolist())
    jnp = pytest.importorskip("jax.numpy", reason="takes JAX's arrays")
    for dtype in ("bfloat16", "float16", "float32"):
        twins(jnp.asarray(x, dtype), jnp.asarray(target, "int8"), jnp.asarray(weight, dtype))


SPECIAL_ROWS = (
    *([0.0], [-INF], [INF], [NAN], [0.0, -INF, 0.0], [-INF] * 3, [INF, 0.0, -INF], [INF, INF, 0.0], [0.0, NAN, INF]),
    *([NAN, -INF, 1.0], [-0.0, -800.0], [3.0] * 4, [1e4, -1e4], [-1e4, -1e4, -INF], [0.0, -40.0], [60.0] + [0.0] * 99),
    *([0.0, 30.0, -70.0, 30.0], [-INF] * 70 + [5.0], [87.0, -87.0], [1e-8, 0.0], [700.0, 0.0], [7.25] * 130),
)


@pytest.mark.parametrize("row", SPECIAL_ROWS, ids=lambda row: f"{row[:4]} of {len(row)}")
def test_special_rows(row):
    """numerics.md's table: alone, among others, contiguous and strided, each label."""
    for dtype in FLOATS:
        x = np.array(row).astype(dtype)
        for label in {0, len(row) - 1, len(row) // 2}:
            twins(x, label)
            rows = np.array([[2.0] * len(row), row, [-3.0] * len(row)]).astype(x.dtype)
            twins(rows, [0, label, 0])
            twins(np.asfortranarray(rows), [0, label, 0], [0.5] * len(row))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("classes", [2, 3, 10, 19, 33, 100])
def test_a_row_knows_nothing_of_its_neighbours(classes, dtype):
    """Rows out of the ordinary, and those at its limits, are summed again with all around them."""
    rng = np.random.default_rng(classes)
    shifts = (0, 0, 30, -30, -56, 80, 87, -90, 1e4, -1e4)
    x = rng.standard_normal((200, classes)).astype(dtype) + np.resize(shifts, 200).astype(dtype)[:, None]
    x[::7, 1] = -INF
    x[3, 0], x[5, 1] = INF, NAN
    labels = rng.integers(0, classes, 200)
    for scores in (x, np.asfortranarray(x)):
        loss, lse = fx.cross_entropy(scores, labels, reduction="none"), fx.logsumexp(scores, axis=1)
        for i in range(200):
            alone = scores[i : i + 1], labels[i : i + 1]
            assert same(loss[i : i + 1], fx.cross_entropy(*alone, reduction="none"))
            assert same(lse[i : i + 1], fx.logsumexp(alone[0], axis=1))


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


def test_huge_logits_do_not_overflow():
    for row in ([1e300, -1e300], [1.7e308, -1.7e308], [1e308] * 5, [-1e308, -INF]):
        for label in (0, 1):
            twins(np.array([row] * 4), [label] * 4)  # the mean is finite, though the sum may not be
    for row in ([3e38, 3e38], [1.6e38, -1.6e38], [3e38, -3e38]):
        for label in (0, 1):
            twins(np.array([row], np.float32), [label])


@pytest.mark.parametrize("classes", [70_000, 140_001])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int8"])
def test_many_classes(classes, dtype):
    """Several column segments of 65,536; labels in each, the largest logit in one or another."""
    x = (np.random.default_rng(6).integers(-40, 40, (5, classes)) / 8).astype(dtype)
    x[0, 66_000] = x[1, 3] = x[2, -1] = 100
    x[3, :] = 3
    for scores in (x, np.asfortranarray(x), x.repeat(2, axis=1)[:, ::2]):
        for target in ([66_000, 3, 65_536, 65_535, 0], [0, 66_000, classes - 1, classes - 1, -100]):
            rows = fx.cross_entropy(scores, target, reduction="none")
            for i, row in enumerate(np.float64(x)):
                near(rows[i], truth_of(row, target[i]) if target[i] >= 0 else 0.0, 5)


def truth_of(row, label):
    """log1p of the sum of the other terms' exponentials, exactly summed."""
    return math.log1p(math.fsum(np.exp(np.delete(row, label) - row[label]).tolist()))


@st.composite
def problems(draw):
    """Logits of 1 to 4 dimensions with special values, sliced and turned, labels good and bad, weights and options."""
    dtype = np.dtype(draw(st.sampled_from(["<f8", ">f8", "<f4", ">f4", "<f2", "i1", ">u2", "bool"])))
    elements = None
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max / 16)  # three times the loss is to be no overflow
        special = st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e3, -1e3, 40.0])
        elements = special | st.floats(-most, most, width=8 * dtype.itemsize)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    x = draw(hnp.arrays(dtype, shape, elements=elements)).transpose(draw(st.permutations(range(len(shape)))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in shape)]
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    labels = list(x.shape)
    classes = labels.pop(min(1, x.ndim - 1) if axis is None else axis)
    kind = draw(st.sampled_from(["i1", "<i2", ">i8", "u1", ">u4", "<u8"]))
    target = draw(hnp.arrays(kind, tuple(labels), elements=st.integers(0, classes)))
    weight = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=classes, max_size=classes))
    options = {"invalid": ("raise", "ignore"), "empty": ("nan", "zero", "raise"), "ignore_index": (-100, 0, 1, 300)}
    return x, target, weight, {"axis": axis, **{k: draw(st.sampled_from(v)) for k, v in options.items()}}


@settings(max_examples=300, deadline=None, database=None)
@given(problems())
def test_any_problem(drawn):
    x, target, weight, options = drawn
    before = x.tobytes(), target.tobytes()
    twins(x, target, weight, **options)
    assert (x.tobytes(), target.tobytes()) == before
