"""Holds the oracle to independent truth: SciPy, PyTorch, mpmath at 60 digits, and cases done by hand."""

import ast
import doctest
import importlib
import math
import random
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special
from reference_truth import SPECIAL_ROWS, rows_for_accuracy, same, scipy_result, truth, ulps

import fastxent
from fastxent import reference

INF, NAN = math.inf, math.nan
# ---- The log-sum-exp family against SciPy ----

AXES = [None, 0, 1, 2, -1, -3, (0, 1), (2, 0), (-1, 1), (0, 1, 2), ()]
FAMILY = ["logsumexp", "softmax", "log_softmax"]


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_family_is_scipys_over_all_axes(name, axis):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 20, (3, 4, 5))
    x[rng.random(x.shape) < 0.1] = -INF
    expected = scipy_result(getattr(scipy.special, name), x, axis=axis)
    for given in (x, x.tolist(), [tuple(map(tuple, block)) for block in x.tolist()]):
        same(getattr(reference, name)(given, axis), expected, atol=1e-14 if name != "softmax" else 0.0)


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_logsumexp_keeps_dimensions_as_scipy_does(axis):
    x = np.random.default_rng(2).normal(size=(3, 4, 5))
    same(reference.logsumexp(x, axis, keepdims=True), scipy.special.logsumexp(x, axis, keepdims=True))


@pytest.mark.parametrize("row", SPECIAL_ROWS, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_special_values_are_scipys(name, row):
    same(getattr(reference, name)(row), scipy_result(getattr(scipy.special, name), np.array(row)))


@pytest.mark.parametrize("name", FAMILY)
def test_scalars_are_scipys(name):
    for axis in (None, 0, -1):
        result = getattr(reference, name)(2.5, axis)
        assert isinstance(result, float)
        assert result == getattr(scipy.special, name)(2.5, axis)
    assert reference.logsumexp(2.5, keepdims=True) == scipy.special.logsumexp(2.5, keepdims=True).tolist()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((0,), None), ((3, 0), 1), ((0, 3), 0), ((0, 3), 1), ((0, 0), 1)],
)
def test_empty_arrays_are_scipys(shape, axis):
    x = np.zeros(shape)
    same(reference.logsumexp(x, axis), scipy.special.logsumexp(x, axis=axis))
    for name in ("softmax", "log_softmax"):
        if shape == (0, 3) and axis == 1:
            assert getattr(reference, name)(x, axis) == []
        else:
            with pytest.raises(ValueError, match="zero-size array"):
                getattr(scipy.special, name)(x, axis=axis)
            with pytest.raises(ValueError, match="no element"):
                getattr(reference, name)(x, axis)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("axis", [2, -3, (0, 0), (1, -1), (0, 2), 1.0, True, [0]], ids=str)
def test_bad_axes_are_refused_as_scipy_does(name, axis):
    with pytest.raises((ValueError, TypeError)) as scipys:
        getattr(scipy.special, name)(np.ones((2, 3)), axis=axis)
    with pytest.raises(ValueError if isinstance(scipys.value, ValueError) else TypeError):
        getattr(reference, name)(np.ones((2, 3)), axis)


@pytest.mark.parametrize("name", FAMILY)
def test_bad_elements_are_refused(name):
    for bad in ([1j, 0.0], ["1", 0.0], "12", [None], None):
        with pytest.raises(TypeError, match="real numbers"):
            getattr(reference, name)(bad)
    for ragged in ([[1.0, 2.0], [3.0]], [1.0, [2.0]], [[], [1.0]]):
        with pytest.raises(ValueError, match="ragged"):
            getattr(reference, name)(ragged)


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "int8", "uint64", "bool"])
def test_every_dtype_counts_as_its_values(dtype):
    x = np.array([[0, 1, 1], [1, 1, 0]]).astype(dtype)
    assert reference.log_softmax(x, 1) == reference.log_softmax([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]], 1)
    assert reference.logsumexp([x[0], x[1]], 1) == reference.logsumexp(x, 1)  # arrays within a list


def test_bfloat16_counts_as_its_values():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays come from ml_dtypes")
    x = np.array([[1.2001, -3.0, 7.25]], dtype=ml_dtypes.bfloat16)
    assert reference.softmax(x) == reference.softmax([[1.203125, -3.0, 7.25]])


# ---- Accuracy against 60 digits ----


def test_accuracy_of_every_row_function():
    worst = dict.fromkeys(("logsumexp", "log_softmax", "softmax", "cross_entropy"), 0.0)
    for row in rows_for_accuracy():
        lse, losses, probabilities = truth(row)
        worst["logsumexp"] = max(worst["logsumexp"], ulps(reference.logsumexp(row), lse, floor=1.0))
        soft, logs = reference.softmax(row), reference.log_softmax(row)
        for i in random.Random(3).sample(range(len(row)), min(len(row), 60)):
            loss = reference.cross_entropy(row, i)
            worst["cross_entropy"] = max(worst["cross_entropy"], ulps(loss, losses[i]))
            worst["log_softmax"] = max(worst["log_softmax"], ulps(logs[i], -losses[i]))
            if probabilities[i] > sys.float_info.min:
                worst["softmax"] = max(worst["softmax"], ulps(soft[i], probabilities[i]))
    # Well below what the kernels are allowed (2, 2 at max(|y|, 1), 4, 4), or the oracle would be no judge.
    assert worst["logsumexp"] < 1.0
    assert worst["log_softmax"] < 1.5
    assert worst["cross_entropy"] < 1.5
    assert worst["softmax"] < 3.0


def test_log_softmax_of_the_largest_is_minus_log1p():
    assert reference.log_softmax([0.0, -40.0])[0] == -math.log1p(math.exp(-40.0)) != 0.0
    assert math.copysign(1.0, reference.log_softmax([3.0])[0]) == 1.0


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("gap", [1.0, 40.0, 300.0, 700.0])
def test_confident_rows_keep_their_digits(gap, offset):
    row = [offset, offset - gap, offset - gap]
    with mpmath.workdps(60):
        exact = mpmath.log1p(2 * mpmath.exp(-mpmath.mpf(gap)))
    assert ulps(reference.cross_entropy(row, 0), exact) < 1.5
    assert ulps(-reference.log_softmax(row)[0], exact) < 1.5
    report = reference.evaluate([row], [0])
    assert ulps(report["cross_entropy"], exact) < 1.5
    with mpmath.workdps(60):
        t = mpmath.exp(-mpmath.mpf(gap))
        p, q = 1 / (1 + 2 * t), t / (1 + 2 * t)
        assert ulps(report["entropy"], p * mpmath.log1p(2 * t) + 2 * q * (gap + mpmath.log1p(2 * t))) < 4
        brier = (2 * q) ** 2 + 2 * q**2
        if brier > sys.float_info.min:
            assert ulps(report["brier"], brier) < 6


def test_huge_finite_logits_do_not_overflow():
    assert reference.cross_entropy([1e300, -1e300], 0) == 0.0
    assert reference.cross_entropy([1e300, -1e300], 1) == 2e300
    assert reference.cross_entropy([1.7e308, -1.7e308], 1) == INF  # the true loss is above the largest double
    assert reference.log_softmax([1.7e308, -1.7e308]) == [0.0, -INF]
    assert reference.cross_entropy([[1e308, -1.0]] * 4, [1] * 4, reduction="sum") == INF
    assert reference.cross_entropy([[1e308, -1.0]] * 4, [1] * 4) == 1e308  # though the sum is not a double
    assert reference.cross_entropy([[1e308, -1.0]] * 4, [1] * 4, [1.0, -1.0], reduction="sum") == -INF
    report = reference.evaluate([[1000.0, 0.0]], [1])
    assert (report["cross_entropy"], report["perplexity"], report["infinite"]) == (1000.0, INF, 0)


def test_means_are_exact_and_rounded_once():
    rng = random.Random(11)
    naive_differs = 0
    for _ in range(200):
        logits = [[rng.gauss(0, 10) for _ in range(3)] for _ in range(7)]
        target = [rng.randrange(3) for _ in range(7)]
        weight = [rng.random() for _ in range(3)]
        values = reference.cross_entropy(logits, target, weight, reduction="none")
        used = [weight[label] for label in target]
        with mpmath.workdps(200):
            total, divisor = (mpmath.fsum(map(mpmath.mpf, v)) for v in (values, used))
            expected_sum, expected_mean = float(total), float(total / divisor)
        assert reference.cross_entropy(logits, target, weight, reduction="sum") == expected_sum
        assert reference.cross_entropy(logits, target, weight) == expected_mean
        naive_differs += math.fsum(values) / math.fsum(used) != expected_mean
    assert naive_differs  # otherwise the cases above could not tell


def test_every_public_function_has_a_twin():
    """But for what reads files, sets threads or shows the configuration; accumulators have `evaluate` and `compare`."""
    without = {"get_num_threads", "num_threads", "open_logits", "set_num_threads", "show_config"}
    functions = {name for name in fastxent.__all__ if name.islower() and not name.startswith("_")}
    assert functions - without == set(reference.__all__)


# ---- The files themselves ----

FILES = sorted(Path(reference.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_oracle_stands_alone(path):
    """An oracle that used the rest of the package or NumPy could share their mistakes."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    own = {name for name in imported if name.startswith("fastxent.reference.")}
    assert {name.partition(".")[0] for name in imported - own} <= set(sys.stdlib_module_names)


def test_examples_run():
    modules = [importlib.import_module(f"fastxent.reference.{path.stem}") for path in FILES if path.stem != "__init__"]
    results = [doctest.testmod(module) for module in modules]
    assert sum(result.attempted for result in results) >= 7
    assert not any(result.failed for result in results)
