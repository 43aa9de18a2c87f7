"""cross_entropy with class probabilities, smoothing, sample weights and temperature; nll_loss."""

import math

import hypothesis.extra.numpy as hnp
import mpmath
import numpy as np
import pytest
from accuracy import near
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    BFLOAT16,
    STORAGES,
    classes_lie_together,
    fused_levels,
    hard_rows,
    layouts,
    same_bits,
    storage_ids,
    use_level,
)

import fastxent as fx
from fastxent import reference
from fastxent._passes import targets

INF, NAN = math.inf, math.nan
REDUCTIONS = ("none", "sum", "mean")
SHAPES = ((5,), (1, 5), (7, 5), (3, 5, 4), (2, 5, 3, 2), (2, 5, 0), (0, 5))


def outcome(*args, name="cross_entropy", module=fx, **options):
    """What comes of a call: the loss, or the kind of error."""
    try:
        return getattr(module, name)(*args, **options)
    except (TypeError, ValueError, IndexError) as error:
        return next(kind for kind in (TypeError, ValueError, IndexError) if isinstance(error, kind))


def twins(*args, name="cross_entropy", ulps=6.0, **options):
    """The kernels and the reference: the same values or the same kind of error, with every reduction."""
    for reduction in REDUCTIONS:
        expected = outcome(*args, name=name, module=reference, reduction=reduction, **options)
        result = outcome(*args, name=name, reduction=reduction, **options)
        if isinstance(expected, type) or isinstance(result, type):
            assert result is expected
        else:
            dtype = np.asarray(fx.logsumexp(args[0])).dtype
            with np.errstate(over="ignore", under="ignore"):
                near(np.asarray(result).astype(dtype), expected, ulps * (1 if reduction == "none" else 2))


def labels(rng, shape):
    """A label a row."""
    return np.array(rng.integers(0, 5, shape[:1] * (len(shape) > 1) + shape[2:]))


def soft(shape, axis=1, seed=0):
    """Probabilities, many of them 0, some rows on one class."""
    rng = np.random.default_rng(seed)
    p = np.moveaxis(rng.random(shape) * (rng.random(shape) < 0.7), min(axis, len(shape) - 1), -1)
    p[..., 0] += 1e-3
    p /= p.sum(axis=-1, keepdims=True)
    return np.moveaxis(p, -1, min(axis, len(shape) - 1))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pytorch_all_combinations(shape, kind, weighted, smoothing, reduction):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    rng = np.random.default_rng(len(shape))
    x, weight = rng.normal(0, 3, shape), rng.random(5) if weighted else None
    y = soft(shape) if kind == "probabilities" else labels(rng, shape)
    if kind == "ignored" and y.size > 1:
        y.flat[1::3] = -100
    tensors = [None if a is None else torch.from_numpy(a) for a in (x, y, weight)]
    for dtype in (np.float64, np.float32):
        single = dtype == np.float32
        floats = [t.float() if single and t is not None and t.is_floating_point() else t for t in tensors]
        expected = torch.nn.functional.cross_entropy(*floats, reduction=reduction, label_smoothing=smoothing).numpy()
        x_, w_ = x.astype(dtype), None if weight is None else weight.astype(dtype)
        y_ = y.astype(dtype) if y.dtype.kind == "f" else y
        result = fx.cross_entropy(x_, y_, w_, reduction=reduction, label_smoothing=smoothing)
        assert result.shape == expected.shape
        # in float32 for PyTorch's own error
        np.testing.assert_allclose(result, expected, 3e-6 if single else 1e-12, 1e-6 if single else 0.0)


def test_pytorch_weights_of_0_beside_smoothing():
    torch = pytest.importorskip("torch")
    x, y, w = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 3, np.array([0.0, 1.0, 2.0])
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "label_smoothing": 0.25}
        expected = torch.nn.functional.cross_entropy(*map(torch.from_numpy, (x, y, w)), **options).numpy()
        np.testing.assert_allclose(fx.cross_entropy(x, y, w, **options), expected, 1e-14)


def test_what_pytorch_refuses():
    torch = pytest.importorskip("torch")
    x, p = np.zeros((2, 3, 4)), np.full((2, 3, 4), 1 / 3)
    for args, options, error in (
        ((x, p), {"ignore_index": 1}, "ignore_index is 1"),
        ((x, p[:, :2]), {}, r"target has shape \(2, 2, 4\)"),
        ((x, np.zeros((2, 4))), {}, "target has dtype float64"),
        ((x, np.zeros((2, 3, 4), int)), {}, "target has shape"),
        ((x, np.zeros((2, 4), int)), {"label_smoothing": 1.5}, "label_smoothing must be in"),
        ((x, p, np.ones(4)), {}, "weight has shape"),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            torch.nn.functional.cross_entropy(*map(torch.from_numpy, args), **options)
        with pytest.raises((TypeError, ValueError), match=error):
            fx.cross_entropy(*args, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": -0.1}, {"label_smoothing": NAN}, {"label_smoothing": "x"}, {"temperature": 0.0},
        {"temperature": INF}, {"temperature": -1}, {"temperature": None}, {"sample_weight": [1.0, 2.0, 3.0]},
        {"sample_weight": ["a", "b"]}, {"from_logits": False, "temperature": 2.0},
        {"from_logits": False, "return_grad": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        fx.cross_entropy([[0.25, 0.5], [3.0, 1.0]], [0, 1], **options)


SPECIAL = [
    [0.0, -INF, 2.0], [-INF, 0.0, 1.0], [NAN, 0.0, 0.0], [INF, 0.0, 0.0], [-INF] * 3, [50.0, 0.0, 0.0],
    [1e30, -1e30, 0.0], [700.0, 0.0, -700.0], [-0.0, 0.0, 0.0], [3.0, 3.0, 3.0], [-1e5, -1e5 - 40, -1e5],
]  # fmt: skip


@pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
@pytest.mark.parametrize("target", [[1.0, 0, 0], [0.0, 0.5, 0.5], [0.0] * 3, [0.25, NAN, 0.5], [2.0, 0, 7]], ids=str)
def test_special_rows(storage, target):
    with np.errstate(over="ignore"):
        x = np.array(SPECIAL).astype(storage)
    goal = np.array([target] * len(x))
    for weight in (None, [0.0, 1.0, 2.0], [1.0, 0.0, 0.5]):
        for smoothing in (0.0, 0.5, 1.0):
            twins(x, goal, weight, label_smoothing=smoothing)
            twins(np.asfortranarray(x), goal.astype(np.float16), weight, label_smoothing=smoothing)
            for label in range(3):
                twins(x, [label] * len(x), weight, label_smoothing=smoothing, sample_weight=np.arange(len(x)) % 3)


def test_masked_classes():
    """numerics.md: a share of 0 there is a term 0, any other infinite."""
    masked = np.array([[0.0, 0.0, -INF]])
    assert fx.cross_entropy(masked, [[0.5, 0.5, 0.0]]) == math.log(2)
    assert fx.cross_entropy(masked, [[0.5, 0.4, 0.1]]) == INF
    assert fx.cross_entropy(masked, [0], label_smoothing=0.1) == INF
    assert fx.cross_entropy(masked, [0], [1.0, 1.0, 0.0], label_smoothing=0.1) < INF


def test_infinite_targets_are_infinity_times_what_a_class_costs(level):
    x = np.array([[1.5, -INF], [-INF, 0.0], [-INF, 0.0], [0.0, 0.0], [0.0, 1.0]])
    target = np.array([[INF, 0.0], [0.5, INF], [0.0, INF], [0.5, INF], [INF, 0.5]])
    # PyTorch's: inf * 0 is NaN
    expected = [NAN, NAN, NAN, INF, INF]
    np.testing.assert_array_equal(fx.cross_entropy(x, target, reduction="none"), expected)
    np.testing.assert_array_equal(fx.cross_entropy(np.exp(x), target, reduction="none", from_logits=False), expected)
    np.testing.assert_array_equal(fx.cross_entropy(x[:1, :1], target[:1, :1], reduction="none"), [NAN])
    np.testing.assert_array_equal(reference.cross_entropy(x.tolist(), target.tolist(), reduction="none"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accuracy(dtype, smoothing):
    """4 ULP to the smallest normal number, on rows of every hard kind."""
    weight = np.random.default_rng(1).random(40)
    for name, row in hard_rows(np.dtype(dtype), 40):
        with np.errstate(over="ignore"):
            x = row.astype(dtype)
        top = int(np.argmax(x))
        for p in (np.eye(40)[top], soft((1, 40), seed=3)[0], np.eye(40)[7], np.full(40, 1 / 40)):
            for w in (None, weight):
                truth = exact_loss(x, p, np.ones(40) if w is None else w, smoothing)
                near(fx.cross_entropy(x, p, w, reduction="none", label_smoothing=smoothing), truth, 4)
            if p.max() == 1 and name != "both ends":  # whose loss overflows before its weight
                truth = exact_loss(x, p, weight, smoothing)
                result = fx.cross_entropy(x, int(p.argmax()), weight, reduction="none", label_smoothing=smoothing)
                near(result, truth, 5), name  # and the rounding of the label's weight


def exact_loss(x, p, w, smoothing):
    with mpmath.workdps(700 if float(np.abs(x[np.isfinite(x)]).max()) > 1e100 else 350):  # 1e300 + 1e-300
        top = max(map(mpmath.mpf, x.tolist()))
        lse = top + mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v) - top) for v in x.tolist()))
        a = [(1 - mpmath.mpf(smoothing)) * mpmath.mpf(q) + mpmath.mpf(smoothing) / len(x) for q in p.tolist()]
        terms = [v * q * (lse - mpmath.mpf(z)) for q, v, z in zip(a, w.tolist(), x.tolist(), strict=True) if v * q]
        return float(mpmath.fsum(terms))


@pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
def test_same_bits_in_every_layout(storage):
    rng = np.random.default_rng(2)
    x, p = rng.normal(0, 3, (3, 4, 300)).astype(storage), soft((3, 4, 300), axis=2).astype(storage)
    weight = rng.random(300)
    options = {"axis": -1, "reduction": "none", "label_smoothing": 0.1, "return_grad": True}
    # one result for all whose class axis is contiguous, and one for all others, whatever the target's layout
    orders = {True: x, False: np.asfortranarray(x)}
    expected = {together: fx.cross_entropy(a, p, weight, **options) for together, a in orders.items()}
    for (name, a), (_, b) in zip(layouts(x), list(layouts(p))[::-1], strict=True):
        before = a.tobytes(), b.tobytes()
        result = fx.cross_entropy(a, b, weight, **options)
        for found, one, other in zip(result, expected[classes_lie_together(a)], expected[True], strict=True):
            assert same_bits(found, one), name
            np.testing.assert_allclose(found, other, 1e-6 if found.dtype == np.float32 else 1e-14, 1e-7)
        assert (a.tobytes(), b.tobytes()) == before


def test_same_bits_by_threads_levels_and_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    for shape in ((300, 700), (2, 70_001)):
        x, p, s = rng.normal(0, 4, shape).astype(np.float32), soft(shape), rng.random(shape[0])
        y = rng.integers(0, shape[1], shape[0])
        cases = [(goal, eps) for goal in (p, y) for eps in (0.0, 0.1)]

        def all_of(x=x, s=s, cases=cases):
            options = {"sample_weight": s, "reduction": "none", "return_grad": True}
            return [out for goal, eps in cases for out in fx.cross_entropy(x, goal, label_smoothing=eps, **options)]

        expected = all_of()
        for threads in (1, 2, 3):
            with fx.num_threads(threads):
                assert all(map(same_bits, all_of(), expected))
        alone = all_of(x[-1:], s[-1:], [(goal[-1:], eps) for goal, eps in cases])
        assert all(same_bits(a, b[-1:]) for a, b in zip(alone, expected, strict=True))
        for level in fused_levels():
            with monkeypatch.context() as patch:
                use_level(patch, level)
                assert all(map(same_bits, all_of(), expected))


@pytest.mark.parametrize("strided", [False, True])
def test_same_bits_however_rows_are_cut(strided, monkeypatch):
    """Rows of more classes than a block holds: segment by segment, between which signals are looked at."""
    rng = np.random.default_rng(8)
    x, p, y = rng.normal(0, 4, (2, 140_000)).astype(np.float32), soft((2, 140_000)), np.array([3, 139_999])
    x[0, 70_000] = 60.0  # nearly all is on one class of the second segment
    x = np.asfortranarray(x) if strided else x
    problems = [(goal, eps) for goal in (p, y) for eps in (0.0, 0.1)]

    def all_of():
        return [
            *(o for goal, eps in problems for o in fx.cross_entropy(x, goal, label_smoothing=eps, return_grad=True)),
            *(fx.cross_entropy(abs(x), goal, label_smoothing=eps, from_logits=False) for goal, eps in problems),
        ]

    expected = all_of()
    lse = [np.log(np.exp(row).sum()) for row in x.astype(float)]
    truth = [(q * (s - row)).sum() for row, q, s in zip(x, p, lse, strict=True)]
    assert expected[0] == pytest.approx(np.mean(truth), 1e-6)
    calls = []

    class Targets(targets.kernels.Targets):
        def run(self, *args, **options):
            calls.append(args)
            return super().run(*args, **options)

    monkeypatch.setattr(targets, "ELEMENTS", 1 << 16)
    for threads in (1, 3):
        with fx.num_threads(threads), monkeypatch.context() as patch:
            patch.setattr(targets.kernels, "Targets", Targets)
            assert all(map(same_bits, all_of(), expected))
    assert len(calls) >= 2 * 2 * 8 * 3  # rows, numbers of threads, calls, segments


def test_temperature_divides():
    rng = np.random.default_rng(4)
    for storage in (*STORAGES, np.dtype(">f4"), np.dtype("i2")):
        x = rng.normal(0, 30, (40, 9)).astype(storage)
        working = np.float64 if storage.itemsize == 8 or storage.kind == "i" else np.float32
        cooled = x.astype(working) / working(1.7)
        y, p = rng.integers(0, 9, 40), soft((40, 9))
        # integers are converted row by row, whatever their order
        strided = cooled if storage.kind == "i" else np.asfortranarray(cooled)
        for a, b in ((x, cooled), (np.asfortranarray(x), strided), (x[::-1], cooled[::-1])):
            for goal in (y, p):
                for reduction in REDUCTIONS:
                    result = fx.cross_entropy(a, goal, reduction=reduction, temperature=1.7)
                    assert same_bits(result, fx.cross_entropy(b, goal, reduction=reduction))
    big = rng.normal(0, 3, (3000, 500)).astype(np.float16)  # several blocks
    y = rng.integers(0, 500, 3000)
    cooled = big.astype(np.float32) / np.float32(0.3)
    assert fx.cross_entropy(big, y, temperature=0.3) == fx.cross_entropy(cooled, y)
    assert fx.cross_entropy([[0.0, 4.0]], [0], temperature=2.0) == fx.cross_entropy([[0.0, 2.0]], [0])


def test_sample_weights():
    rng = np.random.default_rng(5)
    x, y, p = rng.normal(0, 3, (6, 4, 5)), rng.integers(0, 4, (6, 5)), soft((6, 4, 5))
    weight = [0.0, 1.0, 2.0, 0.5]
    x[0, :, 0] = NAN
    for s in (2.0, rng.random(5), rng.random((6, 1)), np.arange(30).reshape(6, 5) % 3, [0, 1, 0, 1, 1]):
        for goal in (y, p):
            for w in (None, weight):
                twins(x, goal, w, sample_weight=s, ulps=8)
        twins(x, y, weight, sample_weight=s, name="nll_loss")
    for dtype in ("float16", BFLOAT16, ">f4", "i1", "bool"):
        twins(x, p, sample_weight=np.arange(5).astype(dtype))
    wide = rng.normal(0, 3, (20, 300))  # one row kernel for both
    for reduction in REDUCTIONS:
        weight = rng.random(300)
        whole = fx.cross_entropy(wide, np.arange(20), weight, reduction=reduction)
        assert same_bits(fx.cross_entropy(wide, np.arange(20), weight, reduction=reduction, sample_weight=1), whole)
    x[0, :, 0] = 0.0
    assert fx.cross_entropy(x, p, sample_weight=np.zeros(5), empty="zero") == 0.0


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16, ">f4", "int8"], ids=str)
def test_nll_loss(dtype):
    rng = np.random.default_rng(6)
    for shape in SHAPES:
        x = rng.normal(-20, 3, shape).astype(dtype)
        rows = shape[:1] * (len(shape) > 1) + shape[2:]
        y = rng.integers(-1, 6, rows)
        for options in ({}, {"invalid": "ignore"}, {"invalid": "ignore", "ignore_index": 2}, {"empty": "raise"}):
            for weight in (None, [0.0, 1.0, 2.0, 0.5, 0.1]):
                twins(x, y, weight, name="nll_loss", ulps=1.0, **options)
                twins(np.asfortranarray(x), y.astype("i1"), weight, name="nll_loss", ulps=1.0, **options)
    twins(np.moveaxis(rng.normal(size=(3, 5)), 0, 1), [1, 0, 2], name="nll_loss", axis=0)
    assert fx.nll_loss([[-INF, -1.0]], [0], [0.0, 1.0], reduction="none").tolist() == [0.0]


def test_pytorchs_nll_loss():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    for shape in SHAPES:
        x, y = rng.normal(size=shape), labels(rng, shape)
        for w in (None, rng.random(5)):
            for reduction in REDUCTIONS:
                tensors = [None if a is None else torch.from_numpy(a) for a in (x, y, w)]
                expected = torch.nn.functional.nll_loss(*tensors, reduction=reduction, ignore_index=1).numpy()
                result = fx.nll_loss(x, y, w, reduction=reduction, ignore_index=1)
                np.testing.assert_allclose(result, expected, 1e-13)


@st.composite
def problems(draw):
    """Logits with special values, a target of either kind, sliced and turned, and every option."""
    dtype = np.dtype(draw(st.sampled_from(["<f8", ">f8", "<f4", ">f4", "<f2", "i1"])))
    elements = None
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max / 256)
        special = st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e3, -1e3, 40.0])
        elements = special | st.floats(-most, most, width=8 * dtype.itemsize)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    turn = draw(st.permutations(range(len(shape))))
    slices = tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in shape)
    x = draw(hnp.arrays(dtype, shape, elements=elements)).transpose(turn)[slices]
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    labels = list(x.shape)
    classes = labels.pop(min(1, x.ndim - 1) if axis is None else axis)
    if draw(st.booleans()):
        kind = np.dtype(draw(st.sampled_from(["<f8", ">f8", "<f4", "<f2"])))
        shares = st.sampled_from([0.0, 0.25, 1.0]) | st.floats(0, 1, width=8 * kind.itemsize, allow_subnormal=False)
        target = draw(hnp.arrays(kind, shape, elements=shares)).transpose(turn)[slices]
    else:
        kind = draw(st.sampled_from(["i1", ">i8", "u1"]))
        target = draw(hnp.arrays(kind, tuple(labels), elements=st.integers(0, classes)))
    weight = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=classes, max_size=classes))
    options = {
        "invalid": ("raise", "ignore"), "empty": ("nan", "zero", "raise"), "ignore_index": (-100, 0, 1, 300),
        "label_smoothing": (0.0, 0.25, 1.0), "temperature": (1.0, 0.5, 2.0), "sample_weight": (None, 0.5, 0.0),
    }  # fmt: skip
    return x, target, weight, {"axis": axis, **{k: draw(st.sampled_from(v)) for k, v in options.items()}}


@settings(max_examples=300, deadline=None, database=None)
@given(problems())
@pytest.mark.filterwarnings("ignore::fastxent.NormalizedInputWarning")
def test_any_problem(drawn):
    x, target, weight, options = drawn
    before = x.tobytes(), target.tobytes()
    twins(x, target, weight, **options)
    assert (x.tobytes(), target.tobytes()) == before
