"""log_loss: scikit-learn's values, errors and warnings, and the reference's."""

import math
import warnings

import numpy as np
import pytest
from layouts import BFLOAT16, layouts

import fastxent as fx
from fastxent import reference

EGGS = [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]
NAN, INF = math.nan, math.inf


def sklearns(*args, **options):
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn's own log_loss")
    return metrics.log_loss(*args, **options)


# of sklearn/metrics/tests/test_classification.py, and beside it
CASES = [
    (["no", "no", "no", "yes", "yes", "yes"],
     [[0.5, 0.5], [0.1, 0.9], [0.01, 0.99], [0.9, 0.1], [0.75, 0.25], [0.001, 0.999]], {}),
    ([1, 0, 2], [[0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.6, 0.1, 0.3]], {}),
    ([1, 0, 2] * 2, [[0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.6, 0.1, 0.3]] * 2, {"normalize": False}),
    (["ham", "spam", "spam", "ham"], [[0.3, 0.7], [0.6, 0.4], [0.4, 0.6], [0.7, 0.3]], {}),
    ([2, 2], [[0.1, 0.9], [0.1, 0.9]], {"labels": [1, 2]}),
    ([1, 2, 2], [[0.7, 0.1, 0.2], [0.2, 0.7, 0.1], [0.1, 0.7, 0.2]], {"labels": [1, 2, 3]}),
    ([0, 1, 0], [0, 1, 0], {}),
    ([0, 1, 2], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], {}),
    ([0, 1], [[0.2], [0.8]], {}),
    ([0, 0], [0.2, 0.8], {"labels": [0, 1]}),
    ([True, False], [0.2, 0.3], {}),
    ([0.0, 1.0], [0.2, 0.3], {}),
    ([0, 1], [0.2, 0.3], {"sample_weight": [1, 2]}),
    ([0, 1], [0.2, 0.3], {"sample_weight": [-1, 2]}),
    ([0, 1], [0.2, 0.3], {"sample_weight": [0.5, 2.0], "normalize": False}),
    ([[0, 1], [1, 0]], [[0.2, 0.8], [0.3, 0.7]], {}),
    ([[1, 1], [1, 0]], [[0.2, 0.8], [0.3, 0.7]], {"sample_weight": [3, 1]}),
    (["b", "a", "b", "b"], EGGS, {"labels": ["a", "b"]}),
]  # fmt: skip


@pytest.mark.parametrize(("y", "p", "options"), CASES, ids=str)
def test_scikit_learns_own_cases(y, p, options):
    result = fx.log_loss(y, p, **options)
    assert type(result) is float
    assert result == pytest.approx(sklearns(y, p, **options), rel=1e-13)
    assert result == pytest.approx(reference.log_loss(y, p, **options), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16], ids=str)
def test_clipping_by_dtype(dtype):
    y, p = np.array([0, 1]), np.array([1, 0]).astype(dtype)
    rows = np.array([[0, 1], [1, 0]]).astype(dtype)
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}.get(str(dtype), 2.0**-7)
    for proba in (p, rows):
        assert fx.log_loss(y, proba) == pytest.approx(-math.log(eps), rel=1e-14)
        assert fx.log_loss(y, proba) == pytest.approx(reference.log_loss(y, proba), rel=1e-14)
        if dtype != BFLOAT16:
            assert fx.log_loss(y, proba) == pytest.approx(sklearns(y, proba), rel=2e-3 if dtype == "float16" else 1e-6)
    assert fx.log_loss(1 - y, rows) == pytest.approx(-math.log1p(-eps))


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f4", "float16", BFLOAT16], ids=str)
def test_layouts_and_blocks(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 60)
    p = (p / p.sum(axis=1, keepdims=True)).astype(dtype)
    y = np.array(["eggs", "ham", "spam", "yams"])[rng.integers(0, 4, 60)]
    weight = rng.random(60)
    expected = fx.log_loss(y, p, sample_weight=weight)
    assert expected == pytest.approx(reference.log_loss(y, p, sample_weight=weight), rel=1e-13)
    monkeypatch.setattr("fastxent._log_loss.ELEMENTS", 28)
    for name, rows in layouts(p):
        assert fx.log_loss(y, rows, sample_weight=weight) == expected, name
        assert fx.log_loss(y.astype(object)[::-1], rows[::-1], sample_weight=weight[::-1]) == expected


@pytest.mark.parametrize(
    ("y", "p", "options", "words"),
    [
        ([0, 0], [0.2, 0.8], {}, "y_true holds the label 0 only"),
        ([0, 1], [[0.2, 0.3, 0.5]] * 2, {}, "3 columns, but y_true has 2"),
        ([0, 1], [0.2, 0.3], {"labels": [0, 1, 2]}, "1 columns, but labels has 3"),
        ([0, 1], [0.2, 1.8], {}, r"y_proba\[1\] is 1.8, outside \[0, 1\]"),
        ([0, 1], [[0.2, 0.8], [1.1, -0.1]], {}, r"y_proba\[1, 0\] is 1.1"),
        ([0, 1], [0.2, NAN], {}, "is nan"),
        ([0, 1], [0.2, INF], {}, "is inf"),
        ([0, 1], [0.2], {}, r"y_true has shape \(2,\)"),
        ([], [], {}, "at least one row"),
        ([0, 1], [[[0.2]], [[0.3]]], {}, "y_proba has shape"),
        ([0, 3], [0.2, 0.3], {"labels": [0, 1]}, r"y_true\[1\] is .*3.*, not among the labels \[0, 1\]"),
        ([0, 1], [0.2, 0.3], {"labels": [1]}, "labels must be at least two"),
        ([0, 1], [0.2, 0.3], {"labels": [0, 1, 1]}, "labels must be at least two"),
        ([0, 1], [0.2, 0.3], {"sample_weight": [0, 0]}, "sample_weight has no number but 0"),
        ([0, 1], [0.2, 0.3], {"sample_weight": [1]}, "sample_weight has shape"),
        ([0, 1], [0.2, 0.3], {"sample_weight": [NAN, 1]}, "sample_weight must be finite"),
        ([0.5, 1.2], [0.2, 0.3], {}, "no whole ones"),
        ([0, NAN], [0.2, 0.3], {}, "no whole ones"),
        ([None, "a"], [0.2, 0.3], {}, "mixes"),
        ([[0, 2], [1, 0]], [[0.2, 0.8], [0.3, 0.7]], {}, r"y_true\[0, 1\] is 2"),
    ],
    ids=str,
)  # fmt: skip
def test_errors(y, p, options, words):
    with pytest.raises(ValueError, match=words):
        fx.log_loss(y, p, **options)
    with pytest.raises(ValueError, match="must"):
        reference.log_loss(y, p, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError)):
            sklearns(y, p, **options)


def test_dtypes_that_hold_no_probabilities():
    for p in (["a", "b"], [1j, 0.5]):
        with pytest.raises(TypeError, match="y_proba"):
            fx.log_loss([0, 1], p)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_rows_that_do_not_sum_to_one(dtype):
    p = np.array([[0.2, 0.7], [0.6, 0.3], [0.4, 0.7], [0.8, 0.3]], dtype)
    with pytest.warns(UserWarning, match="do not all sum to one"):
        result = fx.log_loss([0, 1, 1, 0], p)
    with pytest.warns(UserWarning, match="do not sum to one"):
        assert result == pytest.approx(sklearns([0, 1, 1, 0], p), rel=1e-3 if dtype == np.float16 else 1e-6)
    near = np.array([[0.2, 0.8], [0.3, 0.7]], dtype)
    fx.log_loss([0, 1], near)  # within the square root of eps: no warning


def test_labels_out_of_order():
    args = ["eggs", "spam", "ham"], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    with pytest.warns(UserWarning, match="sorted order"):
        result = fx.log_loss(*args, labels=["spam", "eggs", "ham"])
    with pytest.warns(UserWarning, match="lexicographically"):
        assert result == pytest.approx(sklearns(*args, labels=["spam", "eggs", "ham"]), rel=1e-13)


def test_many_labels_at_random():
    rng = np.random.default_rng(1)
    for classes in (2, 3, 10):
        p = rng.dirichlet(np.ones(classes), 500)
        y = rng.integers(0, classes, 500)
        for options in ({}, {"normalize": False}, {"sample_weight": rng.random(500)}):
            assert fx.log_loss(y, p, **options) == pytest.approx(sklearns(y, p, **options), rel=1e-12)
            named = np.array([f"{i:02}" for i in range(classes)])[y]
            assert fx.log_loss(named, p, **options) == fx.log_loss(y, p, **options)
    assert fx.log_loss(y, p) == pytest.approx(fx.cross_entropy(p, y, from_logits=False), rel=1e-12)
