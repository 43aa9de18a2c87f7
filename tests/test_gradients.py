"""The gradient of cross_entropy: PyTorch's, finite differences, 60 digits, and a fit by SciPy."""

import math
import re
from pathlib import Path

import hypothesis.extra.numpy as hnp
import mpmath
import numpy as np
import pytest
from accuracy import near
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import BFLOAT16, STORAGES, bits, classes_lie_together, layouts, same_bits, storage_ids
from test_targets import SHAPES, labels, soft

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan
REDUCTIONS = ("none", "sum", "mean")


def eps(dtype):
    return float(np.finfo(dtype).eps)


def gradient(*args, **options):
    return fx.cross_entropy(*args, return_grad=True, **options)[1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pytorch_all_combinations(shape, kind, weighted, smoothing):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own gradient")
    rng = np.random.default_rng(len(shape))
    x, weight = rng.normal(0, 3, shape), rng.random(5) if weighted else None
    y = soft(shape) if kind == "probabilities" else labels(rng, shape)
    if kind == "ignored" and y.size > 1:
        y.flat[1::3] = -100
    for reduction in REDUCTIONS:
        tensor = torch.tensor(x, requires_grad=True)
        others = [None if a is None else torch.from_numpy(a) for a in (y, weight)]
        expected = torch.nn.functional.cross_entropy(
            tensor / 1.5, *others, reduction=reduction, label_smoothing=smoothing
        )
        expected.sum().backward()
        options = {"reduction": reduction, "label_smoothing": smoothing, "temperature": 1.5}
        loss, result = fx.cross_entropy(x, y, weight, return_grad=True, **options)
        np.testing.assert_allclose(loss, expected.detach().numpy(), 1e-12)
        np.testing.assert_allclose(result, tensor.grad.numpy(), 1e-11, 1e-15)
        assert result.dtype == x.dtype
        assert result.shape == x.shape


def test_finite_differences():
    rng = np.random.default_rng(0)
    x, p, y = rng.normal(0, 2, (4, 5)), soft((4, 5)), np.array([0, 4, -100, 2])
    options = {"weight": [1.0, 0.5, 0.0, 3.0, 1.0], "sample_weight": [1.0, 2.0, 1.0, 0.5], "label_smoothing": 0.2}
    for goal in (p, y):
        for reduction in ("sum", "mean"):
            for temperature in (1.0, 0.7):
                more = {**options, "reduction": reduction, "temperature": temperature}
                found = gradient(x, goal, **more)
                for place in np.ndindex(x.shape):
                    step = np.zeros_like(x)
                    step[place] = 1e-5
                    rise = fx.cross_entropy(x + step, goal, **more) - fx.cross_entropy(x - step, goal, **more)
                    assert found[place] == pytest.approx(rise / 2e-5, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accuracy_of_labels(dtype):
    """5 ULP of every entry, the label's own in a row whose loss is 1e-20 too."""
    rng = np.random.default_rng(1)
    for gap in (0.0, 0.5, 3.0, 10.0, 20.0, 46.0, 80.0):
        for offset in (0.0, 1e4, -1e4, 7e4):
            x = rng.normal(0, 1, 50)
            x[7] = np.log(np.delete(np.exp(x), 7).sum()) + gap
            x = (x + offset).astype(dtype)
            for label in (7, 3):
                for factor in (1.0, 0.3):
                    found = gradient(x, label, sample_weight=factor, temperature=1.0)
                    truth = exact_gradient(x, np.eye(50)[label])
                    near(found, truth, 5)  # the mean over one row: its weight goes out
                    near(gradient(x, label, reduction="sum", sample_weight=factor), np.multiply(factor, truth), 6)
                    near(gradient(x, np.eye(50)[label]), truth, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accuracy_of_probabilities(dtype):
    """5 ULP of the larger of A s and a."""
    rng = np.random.default_rng(2)
    for scale in (0.1, 3.0, 30.0):
        x = rng.normal(0, scale, 50).astype(dtype)
        p, weight = soft((1, 50), seed=3)[0], rng.random(50)
        for smoothing in (0.0, 0.25):
            a = weight * ((1 - smoothing) * p + smoothing / 50)
            found = gradient(x, p, weight, label_smoothing=smoothing)
            softmax = np.array(reference.softmax(x.astype(float).tolist()))
            error = abs(found - np.array(exact_gradient(x, a)))
            # a softmax below the smallest normal number may be 0
            assert (error <= 5 * unit_of(np.maximum(a.sum() * softmax, a), dtype)).all()


def unit_of(values, dtype):
    """The unit in the last place; the smallest normal number where that is more."""
    tiny = float(np.finfo(dtype).tiny)
    return np.maximum(np.spacing(np.maximum(values, tiny).astype(dtype)).astype(float), tiny)


def exact_gradient(x, a):
    with mpmath.workdps(60):
        top = max(map(mpmath.mpf, x.tolist()))
        e = [mpmath.exp(mpmath.mpf(v) - top) for v in x.tolist()]
        total, weight = mpmath.fsum(e), mpmath.fsum(map(mpmath.mpf, a.tolist()))
        return [float(weight * v / total - mpmath.mpf(w)) for v, w in zip(e, a.tolist(), strict=True)]


@pytest.mark.parametrize("storage", [*STORAGES, np.dtype("i2"), np.dtype(">f8")], ids=storage_ids)
def test_dtypes_layouts_and_axes(storage):
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 4, (3, 4, 5)).astype(storage), rng.integers(0, 5, (3, 4))
    # one result for all whose class axis is contiguous, and one for all others
    results = [fx.cross_entropy(a, y, axis=-1, return_grad=True) for a in (np.asfortranarray(x), x)]
    expected = results[1][1]
    assert expected.dtype == (np.float64 if storage.kind in "i" or storage.itemsize == 8 else np.float32)
    near(expected, reference.cross_entropy(x.astype(float), y, axis=-1, return_grad=True)[1], 6)
    for name, scores in layouts(x):
        loss, found = fx.cross_entropy(scores, y, axis=-1, return_grad=True)
        # integers are converted, row by row
        expected_loss, expected = results[classes_lie_together(scores) or storage.kind == "i"]
        assert same_bits(found, expected), name
        assert same_bits(loss, expected_loss), name
        moved = gradient(np.moveaxis(scores, -1, 0), y, axis=0)
        assert same_bits(np.moveaxis(moved, 0, -1), expected), name
        near(found, results[1][1], 6)


def test_rows_that_count_nothing_have_no_gradient():
    x = np.array([[NAN, 0.0, 0.0], [INF, 0.0, 1.0], [-INF] * 3, [NAN] * 3, [0.0, 1.0, 2.0]])
    for rows in (x, np.asfortranarray(x), x.astype(np.float16), x.astype(BFLOAT16)):
        for reduction in REDUCTIONS:
            found = gradient(
                rows, [-100, 7, 0, 1, 1], [0.0, 1.0, 1.0], sample_weight=[1, 1, 1, 0, 2], invalid="ignore",
                reduction=reduction,
            )  # fmt: skip
            assert (bits(found[:4]) == 0).all()
            assert (found[4] != 0).all()
    assert gradient(np.zeros((2, 3)), [-100, -100]).tolist() == [[0.0] * 3] * 2
    with pytest.raises(IndexError, match=r"target\[1\] is 7"):
        gradient(x, [-100, 7, 0, 1, 1])


@pytest.mark.parametrize("target", [0, 1, [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], ids=str)
def test_special_rows(target):
    for row in ([0.0, -INF, 2.0], [NAN, 0.0, 0.0], [INF, 0.0, 0.0], [-INF] * 3, [1e30, 0.0, -1e30], [5e4, 0, 5e4]):
        for dtype in (np.float64, np.float32):
            x = np.array(row, dtype)
            expected = np.array(reference.cross_entropy(x, target, return_grad=True)[1])
            np.testing.assert_allclose(gradient(x, target), expected, 5 * eps(dtype), 5 * eps(dtype))


@pytest.mark.parametrize("shape", [(70, 300), (70, 10), (3, 10, 29), (2, 300, 21), (140, 3)], ids=str)
@pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
def test_losses_are_those_without_gradient(shape, storage):
    """Nor do weights of the rows that are all 1 change a bit, in narrow and in strided rows either."""
    rng = np.random.default_rng(5)
    x, p = rng.normal(0, 9, shape).astype(storage), soft(shape)
    rows = shape[:1] + shape[2:]
    y = rng.integers(0, shape[1], rows)
    x[:3] *= 1e3  # far rows
    for goal in (y, p):
        for reduction in REDUCTIONS:
            for smoothing in (0.0, 0.1):
                options = {"reduction": reduction, "weight": rng.random(shape[1]), "label_smoothing": smoothing}
                loss = fx.cross_entropy(x, goal, **options)
                assert same_bits(fx.cross_entropy(x, goal, return_grad=True, **options)[0], loss)
                ones = np.ones(rows, np.float32)
                assert same_bits(fx.cross_entropy(x, goal, sample_weight=ones, **options), loss)
                assert same_bits(fx.cross_entropy(x, goal, sample_weight=ones, return_grad=True, **options)[0], loss)


@settings(max_examples=150, deadline=None, database=None)
@given(
    hnp.arrays(np.float64, (4, 3), elements=st.floats(-50, 50) | st.sampled_from([-INF, 0.0])),
    hnp.arrays(np.int64, 4, elements=st.sampled_from([0, 1, 2, -100]))
    | hnp.arrays(np.float64, (4, 3), elements=st.floats(0, 1)),
    st.none() | st.just([0.5, 0.0, 2.0]),
    st.sampled_from([0.0, 0.3]), st.sampled_from(REDUCTIONS), st.sampled_from([None, [1.0, 0.0, 2.0, 0.25]]),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::fastxent.NormalizedInputWarning")
def test_any_problem(x, target, weight, smoothing, reduction, sample):
    options = {"label_smoothing": smoothing, "reduction": reduction, "sample_weight": sample, "return_grad": True}
    found = fx.cross_entropy(x, target, weight, **options)[1]
    expected = np.array(reference.cross_entropy(x, target, weight, **options)[1])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, 1e-13, 1e-14)


def test_the_documented_fit():
    """docs/logistic_regression.md: its code runs, and finds what scikit-learn does."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="fits the same model with scikit-learn")
    page = Path(__file__).parent.parent / "docs" / "logistic_regression.md"
    if not page.exists():
        pytest.skip("the source tree is not here")
    found: dict = {}
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="keeps small products on one thread")
    with threadpoolctl.threadpool_limits(1):
        exec("\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)), found)
        x, y, weights = found["x"], found["y"], found["weights"]
        theirs = linear_model.LogisticRegression(C=1.0, tol=1e-6, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(weights[:-1].T, theirs.coef_, atol=2e-3)
    offset = weights[-1] - weights[-1].mean()
    np.testing.assert_allclose(offset, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-2)
    ours = fx.cross_entropy(found["with_one"] @ weights, y)
    assert ours == pytest.approx(fx.log_loss(y, theirs.predict_proba(x)), rel=1e-4)
    assert found["accuracy"] == pytest.approx(theirs.score(x, y), abs=1e-3)
