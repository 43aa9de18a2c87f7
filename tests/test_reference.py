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

import fastxent
from fastxent import reference

INF, NAN = math.inf, math.nan
SPECIAL_ROWS = [
    [0.0],
    [-INF],
    [INF],
    [NAN],
    [0.0, -INF],
    [-INF, -INF],
    [INF, 0.0],
    [INF, -INF, 1.0],
    [INF, INF, 0.0],
    [NAN, 0.0, 1.0],
    [NAN, INF, -INF],
    [1.0, NAN, -INF],
    [1.0, INF, NAN],
    [-1e300, 1e300, 0.0],
    [-1.7e308, 1.7e308],
    [1e308, 1e308],
    [3.0, 3.0, 3.0],
    [-0.0, -800.0],
]


def rows_for_accuracy():
    """Rows of every hard kind: flat, peaked, tied, masked, far from 0, long tails, log-sum-exp near 0."""
    rng = random.Random(5)
    rows = []
    for c in (1, 2, 3, 50, 1000):
        plain = [rng.gauss(0, 3) for _ in range(c)]
        rows.append(plain)
        rows.append([x + 1e4 for x in plain])
        rows.append([x - 1e4 for x in plain])
        rows.append([x * 1e-9 for x in plain])
        rows.append([40.0 + plain[0] / 8, *plain[1:]])
        rows.append([max(plain)] * 2 + plain)
        rows.append([-INF, *plain, -INF])
        rows.append([rng.uniform(-700, 0) for _ in range(c)] + [0.1])
        rows.append([0.0] + [rng.uniform(-100, -36) for _ in range(c)])
        # The differences to the largest one are no doubles: their rounding must not reach the tails.
        rows.append([0.3 - rng.random() * 300 for _ in range(c)] + [401.7])
    rows.append([1e300, -1e300, 1e300])
    return rows


def truth(row):
    """Of a row at 60 digits: log-sum-exp, and per element the loss lse - x and the probability.

    The largest one's loss is log1p of the other terms, for they may be far below the 60th digit of 1.
    """
    with mpmath.workdps(60):
        top = mpmath.mpf(max(row))
        terms = [mpmath.exp(mpmath.mpf(x) - top) for x in row]
        peak = row.index(max(row))
        least = mpmath.log1p(mpmath.fsum(terms[:peak] + terms[peak + 1 :]))
        total = mpmath.fsum(terms)
        return top + least, [top - mpmath.mpf(x) + least for x in row], [t / total for t in terms]


def ulps(value, exact, floor=0.0):
    """The distance in units in the last place of max(|exact|, floor)."""
    if math.isinf(value):
        return 0.0 if value == float(exact) else INF
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(value) - exact) / math.ulp(max(abs(float(exact)), floor)))


def scipy_result(function, *args, **kwargs):
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def same(value, expected, rtol=1e-13, atol=0.0):
    np.testing.assert_allclose(np.array(value, dtype=float), expected, rtol=rtol, atol=atol, equal_nan=True)
    assert np.shape(value) == np.shape(expected)


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


# ---- Cross-entropy ----


@pytest.mark.parametrize("shape", [(5,), (6, 5), (0, 5), (4, 5, 3), (2, 5, 3, 4)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2, 7])
def test_cross_entropy_is_pytorchs(shape, weighted, ignore_index):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    rng = np.random.default_rng(len(shape))
    logits = rng.normal(0, 4, shape)
    label_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = rng.integers(0, 5, label_shape)
    target = np.where(rng.random(label_shape) < 0.2, ignore_index, target)
    weight = np.array([0.5, 2.0, 0.0, 1.25, 0.1]) if weighted else None
    for reduction in ("none", "mean", "sum"):
        expected = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits),
            torch.from_numpy(np.asarray(target)),
            None if weight is None else torch.from_numpy(weight),
            ignore_index=ignore_index,
            reduction=reduction,
        )
        ours = reference.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction=reduction)
        same(ours, expected.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("row", [row for row in SPECIAL_ROWS if len(row) > 1], ids=str)
def test_special_losses_are_pytorchs(row):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    for label in range(len(row)):
        logits = torch.tensor(row, dtype=torch.float64)
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(label))
        same(reference.cross_entropy(row, label), expected.item(), rtol=1e-12)


def test_tensors_are_taken():
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    logits = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    expected = reference.cross_entropy([[1.0, 2.0], [3.0, 1.0]], [1, 1])
    assert reference.cross_entropy(logits, torch.tensor([1, 1])) == expected


def test_special_losses():
    def losses(row):
        return [reference.cross_entropy(row, label) for label in range(len(row))]

    same(losses([0.0, -INF, 0.0]), [math.log(2), INF, math.log(2)])
    for row in ([INF, 0.0, -INF], [NAN, 0.0, -INF], [-INF, -INF, -INF], [INF, INF, 0.0], [0.0, NAN, INF]):
        assert all(map(math.isnan, losses(row))), row


def test_rows_that_count_nothing_count_nothing_whatever_they_hold():
    logits = [[-INF, 0.0, 0.0], [-INF, 0.0, 0.0], [NAN, 0.0, 0.0], [INF, 0.0, 1.0], [INF, 0.0, -INF]]
    target = [0, 1, 0, -100, 0]
    weight = [0.0, 2.0, 1.0]
    nothing = reference.cross_entropy(logits, target, weight, reduction="none")
    assert nothing == [0.0, 2 * math.log1p(1), 0.0, 0.0, 0.0]
    assert reference.cross_entropy(logits, target, weight, reduction="sum") == 2 * math.log1p(1)
    assert reference.cross_entropy(logits, target, weight) == math.log1p(1)


def test_one_bad_row_shows_in_sum_and_mean():
    logits = [[0.0, 0.0], [0.0, -INF], [0.0, 0.0]]
    for reduction in ("sum", "mean"):
        assert reference.cross_entropy(logits, [0, 1, 0], reduction=reduction) == INF
        bad = reference.cross_entropy([*logits, [NAN, 0.0]], [0, 1, 0, 0], reduction=reduction)
        assert math.isnan(bad)
        both = reference.cross_entropy(logits * 2, [0, 1, 0, 0, 0, 0], [-1.0, 1.0], reduction=reduction)
        assert both == INF if reduction == "sum" else both == -INF  # the weights add up to -4
    cancelling = reference.cross_entropy([[0.0, 1.0], [0.0, 1.0]], [0, 1], [-1.0, 1.0])
    assert cancelling == -INF  # a negative sum over weights that add up to 0


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_the_class_axis_may_be_any(axis):
    logits = np.random.default_rng(4).normal(size=(4, 4, 4))
    target = np.random.default_rng(5).integers(0, 4, (4, 4))
    moved = np.moveaxis(logits, axis, 1)
    ours = reference.cross_entropy(logits, target, axis=axis, reduction="none")
    assert ours == reference.cross_entropy(moved, target, reduction="none")
    expected = np.take_along_axis(
        -scipy.special.log_softmax(logits, axis=axis), np.expand_dims(target, axis), axis=axis
    )
    same(ours, np.squeeze(expected, axis), rtol=1e-12)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((3, 4)), [0, 4, 9], r"^target\[1\] is 4, outside \[0, 4\)$"),
        (np.zeros((3, 4)), [0, -100, -1], r"^target\[2\] is -1, outside \[0, 4\)$"),
        (np.zeros((4, 2, 9)), np.eye(4, 9, 5, dtype=int) * 2, r"^target\[0, 5\] is 2, outside \[0, 2\)$"),
        (np.zeros((2, 3)), np.array([2**64 - 100, 0], np.uint64), rf"^target\[0\] is {2**64 - 100}, outside"),
        (np.zeros((1, 3)), np.array([-100]).astype(np.uint8), r"^target\[0\] is 156, outside"),
        (np.zeros((2, 1)), [False, True], r"^target\[1\] is 1, outside \[0, 1\)$"),
        (np.zeros(3), 7, r"^target is 7, outside \[0, 3\)$"),
    ],
)
def test_labels_out_of_range_are_named(logits, target, message):
    with pytest.raises(IndexError, match=message):
        reference.cross_entropy(logits, target)


def test_invalid_labels_can_be_left_out():
    logits = [[0.0, 0.0], [5.0, 0.0], [5.0, 0.0], [1.0, 1.0]]
    target = [0, 2, -1, True]
    log2 = math.log(2)
    assert reference.cross_entropy(logits, target, reduction="none", invalid="ignore") == [log2, 0, 0, log2]
    assert reference.cross_entropy(logits, target, invalid="ignore") == log2
    # A label that is both ignored and out of range is ignored.
    assert reference.cross_entropy([[0.0, 0.0]] * 2, [9, 1], ignore_index=9) == log2


@pytest.mark.parametrize(
    ("target", "weight"),
    [([-100, -100], None), ([0, 0], [0.0, 1.0]), ([5, -7], None)],
    ids=str,
)
def test_the_mean_over_no_row(target, weight):
    def mean(**options):
        return reference.cross_entropy(np.ones((2, 2)), target, weight, invalid="ignore", **options)

    assert math.isnan(mean())
    assert mean(empty="zero") == 0.0
    with pytest.raises(ValueError, match="no row"):
        mean(empty="raise")
    assert mean(reduction="sum", empty="raise") == 0.0
    assert mean(reduction="none", empty="raise") == [0.0, 0.0]


def test_no_row_at_all():
    assert math.isnan(reference.cross_entropy(np.zeros((0, 3)), []))
    assert reference.cross_entropy(np.zeros((0, 3)), [], reduction="none") == []
    assert reference.cross_entropy(np.zeros((2, 3, 0)), [[], []], reduction="none") == [[], []]


@pytest.mark.parametrize(
    ("error", "args", "options"),
    [
        (TypeError, ([[0.0, 1.0]], [1.0]), {}),
        (TypeError, ([[0.0, 1.0]], np.array([1], np.float32)), {}),
        (TypeError, ([[0.0, 1.0]], [None]), {}),
        (TypeError, ([[0.0, 1j]], [1]), {}),
        (TypeError, ([[0.0, 1.0]], [1]), {"axis": 1.0}),
        (TypeError, ([[0.0, 1.0]], [1]), {"ignore_index": 0.5}),
        (ValueError, ([[0.0, 1.0]], [1, 1]), {}),
        (ValueError, ([[0.0, 1.0]], 1), {}),
        (ValueError, ([[0.0, 1.0]], [[1]]), {}),
        (ValueError, ([0.0, 1.0], [1]), {}),
        (ValueError, (1.0, 0), {}),
        (ValueError, (np.zeros((2, 0)), [0, 0]), {}),
        (ValueError, (np.zeros((0, 0)), []), {}),
        (ValueError, ([], 0), {}),
        (ValueError, ([[0.0, 1.0]], [1], [1.0]), {}),
        (ValueError, ([[0.0, 1.0]], [1], [[1.0, 1.0]]), {}),
        (ValueError, ([[0.0, 1.0]], [1]), {"axis": 2}),
        (ValueError, ([[0.0, 1.0]], [1]), {"axis": -3}),
        (ValueError, ([[0.0, 1.0]], [1]), {"reduction": "avg"}),
        (ValueError, ([[0.0, 1.0]], [1]), {"invalid": "nan"}),
        (ValueError, ([[0.0, 1.0]], [1]), {"empty": "one"}),
    ],
)
def test_wrong_arguments_are_refused(error, args, options):
    with pytest.raises(error):
        reference.cross_entropy(*args, **options)


# ---- evaluate ----


def test_evaluate_by_hand():
    """Three used rows with probabilities (1/2, 1/4, 1/4), (1/8, 1/8, 3/4) and (1/2, 1/2, masked)."""
    logits = [
        [math.log(2), 0.0, 0.0],
        [0.0, 0.0, math.log(6)],
        [3.0, 3.0, -INF],
        [9.0, 0.0, 0.0],
        [9.0, 0.0, 0.0],
        [9.0, 0.0, NAN],
    ]
    report = reference.evaluate(logits, [2, 2, 1, -100, 3, 0], topk=(1, 2, 3), bins=4)
    counts = ("rows", "used", "ignored", "invalid", "nonfinite", "infinite")
    assert [report[name] for name in counts] == [6, 3, 1, 1, 1, 0]

    losses = [math.log(4), math.log(4 / 3), math.log(2)]
    loss = sum(losses) / 3
    variance = sum((x - loss) ** 2 for x in losses) / 3
    entropies = [1.5 * math.log(2), 0.75 * math.log(4 / 3) + 0.25 * math.log(8), math.log(2)]
    expected = {
        "cross_entropy": loss,
        "cross_entropy_stderr": math.sqrt(variance / 2),
        "bits": loss / math.log(2),
        "perplexity": (4 * 4 / 3 * 2) ** (1 / 3),
        "perplexity_stderr": (4 * 4 / 3 * 2) ** (1 / 3) * math.sqrt(variance / 2),
        "z_loss": (math.log(4) ** 2 + math.log(8) ** 2 + (3 + math.log(2)) ** 2) / 3,
        "accuracy_bound": (1 / 4 * 3 / 4 * 1 / 2) ** (1 / 3),
        "expected_accuracy": (1 / 4 + 3 / 4 + 1 / 2) / 3,
        "accuracy": 1 / 3,
        "accuracy_stderr": math.sqrt(1 / 3 * 2 / 3 / 2),
        "mean_rank": (2 + 0 + 1) / 3,
        "mean_reciprocal_rank": (1 / 3 + 1 + 1 / 2) / 3,
        "entropy": sum(entropies) / 3,
        "brier": (9 / 16 + 1 / 4 + 1 / 16 + 1 / 16 + 2 / 64 + 1 / 4 + 1 / 4) / 3,
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-14), name
    assert report["topk"] == {1: 1 / 3, 2: 2 / 3, 3: 1.0}


def test_calibration_by_hand():
    # Of two classes with equal logits the confidence is exactly 1/2: the upper bin takes the edge.
    logits = [[0.0, 0.0]] * 4 + [[0.0, -INF]] * 2
    report = reference.evaluate(logits, [0, 0, 0, 1, 0, 1], bins=2)
    assert [b["count"] for b in report["reliability"]] == [0, 6]
    report = reference.evaluate(logits, [0, 0, 0, 1, 0, 1], bins=3)
    first, second, last = report["reliability"]
    assert math.isnan(first["accuracy"])
    assert math.isnan(first["confidence"])
    assert second == {"lower": 1 / 3, "upper": 2 / 3, "count": 4, "confidence": 0.5, "accuracy": 0.75}
    assert last == {"lower": 2 / 3, "upper": 1.0, "count": 2, "confidence": 1.0, "accuracy": 0.5}
    assert report["ece"] == (abs(3 - 2) + abs(1 - 2)) / 6
    assert report["mce"] == 0.5
    # A gap of +1 and one of -1 in one bin cancel there, and only there.
    assert reference.evaluate([[0.0, -INF], [0.0, 0.0]], [1, 0], bins=1)["ece"] == 0.25


def test_the_first_among_equals_is_the_prediction():
    logits = [[1.0, 5.0, 5.0, 5.0, 2.0]] * 5
    report = [reference.evaluate(logits[:1], [label]) for label in range(5)]
    assert [r["mean_rank"] for r in report] == [4, 0, 1, 2, 3]
    assert [r["accuracy"] for r in report] == [0, 1, 0, 0, 0]
    assert [r["topk"] for r in report] == [{1: float(label == 1), 5: 1.0} for label in range(5)]
    assert [r["mean_reciprocal_rank"] for r in report] == [1 / 5, 1, 1 / 2, 1 / 3, 1 / 4]
    masked = reference.evaluate([[-INF, 0.0, -INF]], [2])
    assert masked["mean_rank"] == 2


def test_a_masked_label_stays_in_the_means():
    report = reference.evaluate([[0.0, -INF], [0.0, 0.0]], [1, 0])
    assert (report["used"], report["infinite"], report["nonfinite"]) == (2, 1, 0)
    assert report["cross_entropy"] == report["bits"] == report["perplexity"] == INF
    assert math.isnan(report["cross_entropy_stderr"])
    assert math.isnan(report["perplexity_stderr"])
    assert report["accuracy_bound"] == 0.0
    assert report["expected_accuracy"] == 0.25
    assert report["brier"] == (2.0 + 0.5) / 2
    assert report["entropy"] == math.log(2) / 2


def test_rows_are_left_out_for_one_reason_each():
    logits = [[NAN, 0.0], [NAN, 0.0], [INF, 0.0], [-INF, -INF], [0.0, 0.0]]
    report = reference.evaluate(logits, [-1, 2, 1, 0, 1], ignore_index=-1)
    assert [report[n] for n in ("rows", "used", "ignored", "invalid", "nonfinite")] == [5, 1, 1, 1, 2]
    assert report["cross_entropy"] == math.log(2)
    assert math.isnan(report["cross_entropy_stderr"])  # one row says nothing about its spread


@pytest.mark.parametrize("labels", [[], [-100, 3]], ids=str)
def test_means_over_no_used_row_are_nan(labels):
    report = reference.evaluate(np.zeros((len(labels), 3)), labels, topk=[2], bins=3)
    assert report["used"] == report["infinite"] == 0
    assert [b["count"] for b in report["reliability"]] == [0, 0, 0]
    assert math.isnan(report["topk"][2])
    means = {name for name, x in report.items() if isinstance(x, float)} - {"weight"}
    assert len(means) == 25
    assert all(math.isnan(report[name]) for name in means)
    assert all(math.isnan(x) for x in report["quantiles"].values())
    assert report["weight"] == sum(report["histogram"]["counts"]) == 0


def test_evaluate_against_plain_numpy():
    """Random rows with ties, against formulas written the ordinary way."""
    rng = np.random.default_rng(8)
    n, c = 300, 7
    logits = np.round(rng.normal(0, 2, (n, c)) * 2) / 2
    labels = rng.integers(0, c, n)
    report = reference.evaluate(logits, labels, topk=(1, 3), bins=10)
    p = scipy.special.softmax(logits, axis=1)
    at_label = p[np.arange(n), labels]
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = np.argmax(order == labels[:, None], axis=1)
    confidence, hit = p.max(axis=1), np.argmax(logits, axis=1) == labels
    bin_of = np.minimum((confidence * 10).astype(int), 9)
    sums = [np.bincount(bin_of, weights=w, minlength=10) for w in (np.ones(n), hit, confidence)]
    filled = sums[0] > 0
    expected = {
        "cross_entropy": np.mean(-np.log(at_label)),
        "cross_entropy_stderr": np.std(-np.log(at_label), ddof=1) / math.sqrt(n),
        "perplexity": math.exp(np.mean(-np.log(at_label))),
        "z_loss": np.mean(scipy.special.logsumexp(logits, axis=1) ** 2),
        "expected_accuracy": at_label.mean(),
        "accuracy": hit.mean(),
        "accuracy_stderr": np.std(hit, ddof=1) / math.sqrt(n),
        "mean_rank": rank.mean(),
        "mean_reciprocal_rank": np.mean(1 / (rank + 1)),
        "entropy": np.mean(-np.sum(p * np.log(p), axis=1)),
        "brier": np.mean(np.sum((p - np.eye(c)[labels]) ** 2, axis=1)),
        "ece": np.abs(sums[1] - sums[2]).sum() / n,
        "mce": np.max(np.abs(sums[1] - sums[2])[filled] / sums[0][filled]),
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-12), name
    assert report["topk"] == {1: hit.mean(), 3: (rank < 3).mean()}
    assert [b["count"] for b in report["reliability"]] == sums[0].tolist()
    assert report["cross_entropy"] == reference.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("error", "args", "options"),
    [
        (TypeError, ([[0.0, 1.0]], [0.0]), {}),
        (TypeError, ([[0.0, "x"]], [0]), {}),
        (TypeError, ([[0.0, 1.0]], [0]), {"topk": (1.5,)}),
        (TypeError, ([[0.0, 1.0]], [0]), {"bins": 2.0}),
        (ValueError, (1.0, 0), {}),
        (ValueError, (np.zeros((1, 2, 3)), [0]), {}),
        (ValueError, (np.zeros((2, 0)), [0, 0]), {}),
        (ValueError, ([[0.0, 1.0]], [0, 1]), {}),
        (ValueError, ([[0.0, 1.0]], [[0]]), {}),
        (ValueError, ([[0.0, 1.0]], [0]), {"topk": (0,)}),
        (ValueError, ([[0.0, 1.0]], [0]), {"bins": 0}),
    ],
)
def test_wrong_arguments_of_evaluate_are_refused(error, args, options):
    with pytest.raises(error):
        reference.evaluate(*args, **options)


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
